"""Options of structured pruning. No torch here."""

from typing import Literal

from pydantic import Field, model_validator

from edgekit.schema.base import Options, refusal
from edgekit.schema.losses import LOSS_DESCRIPTION, LossName
from edgekit.schema.recover import Recover

PruneMethod = Literal["search", "ranking", "autobot"]
PruneQuantity = Literal["macs_ratio", "params_ratio", "size_ratio", "latency_ratio", "latency_ms"]


class PruneBudget(Options):
    """What the smaller network may cost; one of the five. A ratio is the share of the network before that is left."""

    macs_ratio: float | None = Field(None, gt=0, lt=1, description="of multiply-accumulates")
    params_ratio: float | None = Field(None, gt=0, lt=1, description="of parameters")
    size_ratio: float | None = Field(None, gt=0, lt=1, description="of bytes of all stored tensors")
    latency_ratio: float | None = Field(
        None, gt=0, lt=1, description="of the p50 of the target's first artifact on the device that --device names"
    )
    latency_ms: float | None = Field(None, gt=0, description="that p50 itself")

    @model_validator(mode="after")
    def _one_quantity(self) -> "PruneBudget":
        if len(self._given) != 1:
            raise ValueError(f"set exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def _given(self) -> dict[PruneQuantity, float]:
        named: dict[PruneQuantity, float | None] = {
            "macs_ratio": self.macs_ratio,
            "params_ratio": self.params_ratio,
            "size_ratio": self.size_ratio,
            "latency_ratio": self.latency_ratio,
            "latency_ms": self.latency_ms,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def measured(self) -> bool:
        """Whether the quantity is a time on a device."""
        return self.name in ("latency_ratio", "latency_ms")

    @property
    def name(self) -> PruneQuantity:
        """The quantity that is bounded."""
        return next(iter(self._given))

    @property
    def limit(self) -> float:
        """Its bound."""
        return self._given[self.name]


class AutobotOptions(Options):
    """Trainable gates, Castells and Yeom, AutoBot, arXiv:2111.09635; the defaults are those for CIFAR-10."""

    steps: int = Field(200, ge=10, description="batches that the gates are trained on")
    block_steps: int = Field(
        100, ge=0, description="batches more where widths are multiples: channels that go together share a gate; ours"
    )
    batch_size: int = Field(64, ge=1, description="samples a step")
    learning_rate: float = Field(0.6, gt=0, description="of Adam on the logits of the gates; for ImageNet 0.3")
    beta: float = Field(6.0, gt=0, description="weight of the distance to the budget; for ImageNet 10")
    gamma: float = Field(0.4, ge=0, description="weight of the gates' distance to 0 or 1; for ImageNet 0.3")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="cross_entropy only; for ImageNet 0.1")
    split: Literal["train", "calibration"] = Field("train", description="whose samples the gates are trained on")


class PruneOptions(Options):
    """Structured pruning by dependency graph, Fang et al., arXiv:2301.12900: channels, heads, units, whole blocks."""

    budget: PruneBudget | None = Field(None, description="what may be left; it is met, not approached")
    channel_ratio: float | None = Field(
        None, gt=0, lt=1, description="share of channels removed in every layer, by method ranking"
    )
    method: PruneMethod | None = Field(
        None,
        description="search: cut where the answers suffer least for what is saved, blocks too (NetAdapt, "
        "arXiv:1804.03230); ranking: by the scores of channels; autobot: by gates that are trained to the budget; "
        "none: search, or ranking with a channel_ratio",
    )
    autobot: AutobotOptions | None = Field(None, description="method autobot only")
    importance: Literal["magnitude", "bn_scale", "taylor", "hessian", "activation"] = Field(
        "magnitude",
        description="which channels of a layer go first, and with method ranking which layers'; taylor and hessian "
        "look at gradients, hessian one sample at a time; activation at what layers read",
    )
    loss: LossName = Field("cross_entropy", description=f"of the network: {LOSS_DESCRIPTION}")
    blocks: bool = Field(True, description="method search: remove whole blocks and layers too")
    samples: int = Field(128, ge=2, description="method search: calibration samples whose answers are compared")
    global_ranking: bool = Field(True, description="method ranking: over all layers, not within each")
    min_keep_ratio: float = Field(
        0.25, gt=0, le=1, description="no layer keeps less than this share of its channels, if it is kept"
    )
    multiple_of: int | None = Field(None, ge=1, description="kept widths are multiples of this; none: the target's")
    keep: tuple[str, ...] = Field(
        (), description="layers and blocks that stay as they are; the last linear always does"
    )
    recalibrate_norms: bool = Field(True, description="re-estimate batch-norm statistics on the calibration split")
    recover: Recover = None

    @property
    def chosen_method(self) -> PruneMethod:
        """`method`, or what goes in its place."""
        return self.method or ("search" if self.budget is not None else "ranking")

    @model_validator(mode="after")
    def _one_aim(self) -> "PruneOptions":
        if (self.budget is None) == (self.channel_ratio is None):
            raise ValueError("set exactly one of budget, channel_ratio")
        if self.channel_ratio is not None and self.chosen_method != "ranking":
            raise refusal(
                f"a channel_ratio with method {self.method}, which needs a budget",
                "set a budget such as `budget: {macs_ratio: 0.5}`, or remove the method",
            )
        return self

    @model_validator(mode="after")
    def _of_one_method(self) -> "PruneOptions":
        if self.chosen_method != "autobot":
            if self.autobot is not None:
                raise refusal(
                    f"options of autobot with method {self.chosen_method}", "set `method: autobot`, or remove them"
                )
        elif self.importance != "magnitude":
            raise refusal("an importance with method autobot, which ranks nothing", "remove it")
        elif self.autobot is not None and self.autobot.label_smoothing and self.loss != "cross_entropy":
            raise refusal(
                f"label_smoothing with loss {self.loss}", "remove it: only cross_entropy has classes to smooth"
            )
        if not self.global_ranking and self.chosen_method != "ranking":
            raise refusal(f"global_ranking with method {self.chosen_method}, which ranks nothing", "remove it")
        if (
            self.chosen_method == "ranking"
            and self.loss != "cross_entropy"
            and self.importance not in ("taylor", "hessian")
        ):
            raise refusal(
                f"a loss with importance {self.importance}, which does not look at one",
                "set `importance: taylor` or `hessian`, or remove the loss",
            )
        return self
