"""Options of distillation, and of each of its methods. No torch here."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgekit.schema.base import Options, refusal
from edgekit.schema.losses import LOSS_NAMES
from edgekit.schema.train import TrainOptions

MethodName = Literal["kd", "dkd", "nkd", "uskd", "fitnets", "at", "rkd", "mgd", "meal", "chain"]

ENSEMBLES = frozenset({"kd", "meal"})  # methods that learn from several teachers together
TEACHER_FREE = frozenset({"uskd"})
_SOFTENED = frozenset({"kd", "fitnets", "at", "rkd", "mgd"})  # have the term of `alpha` and `temperature`
_OF_CLASSES = frozenset({"dkd", "nkd", "uskd", "chain"})  # have a target class apart from the others

_TAPS = (
    "modules whose outputs are compared, {student's: teacher's}; none: the last of each resolution, matched by that "
    "or else by order"
)


class DkdOptions(Options):
    """Decoupled knowledge distillation, Zhao et al., arXiv:2203.08679."""

    alpha: float = Field(1.0, ge=0, description="weight of the target class against the rest")
    beta: float = Field(8.0, ge=0, description="weight of the rest among itself; 8 for CIFAR, 0.5 for ImageNet")
    temperature: float = Field(4.0, gt=0, description="4 for CIFAR, 1 for ImageNet")


class NkdOptions(Options):
    """Normalised knowledge distillation, Yang et al., arXiv:2303.13005."""

    gamma: float = Field(
        1.5, ge=0, description="weight of the other classes; 1.5 for ImageNet, 1 for DeiT, 3.5 for CIFAR"
    )
    temperature: float = Field(1.0, gt=0, description="of the other classes alone; 1 for ImageNet, 3 for CIFAR")


class UskdOptions(Options):
    """Universal self-knowledge distillation without a teacher, Yang et al., arXiv:2303.13005."""

    alpha: float = Field(1.0, ge=0, description="weight of the target class; 1 for ImageNet, 0.1 for CIFAR")
    beta: float = Field(0.1, ge=0, description="weight of the other classes")
    mu: float = Field(0.005, ge=0, description="weight of the weak head's own loss; 0.005 for ImageNet, 0.1 for CIFAR")
    tap: str | None = Field(
        None, description="module that the weak head looks at; none: the last of the last but one resolution"
    )


class FitnetsOptions(Options):
    """FitNets, Romero et al., arXiv:1412.6550: the student's features, through a regressor, are the teacher's."""

    weight: float = Field(100.0, ge=0, description="of half the mean squared difference of each pair of features")
    taps: dict[str, str] = Field(default_factory=dict, description=_TAPS)


class AtOptions(Options):
    """Attention transfer, Zagoruyko and Komodakis, arXiv:1612.03928: where features are strong."""

    beta: float = Field(1000.0, ge=0, description="of half the mean squared difference of each pair of maps")
    taps: dict[str, str] = Field(default_factory=dict, description=_TAPS)


class RkdOptions(Options):
    """Relational knowledge distillation, Park et al., arXiv:1904.05068: distances and angles between samples."""

    distance: float = Field(25.0, ge=0, description="weight of distances between two samples")
    angle: float = Field(50.0, ge=0, description="weight of angles between three samples")
    taps: dict[str, str] = Field(
        default_factory=dict, description="one pair of modules {student's: teacher's}; none: the last features of both"
    )


class MgdOptions(Options):
    """Masked generative distillation, Yang et al., arXiv:2205.01529: features out of part of them."""

    weight: float = Field(7e-5, ge=0, description="of the squared difference, summed over a sample's features")
    mask_ratio: float = Field(0.15, ge=0, lt=1, description="share of the student's places that are hidden")
    taps: dict[str, str] = Field(
        default_factory=dict, description="modules {student's: teacher's}; none: the last pictures of features of both"
    )


class MealOptions(Options):
    """MEAL V2, Shen and Savvides, arXiv:2009.08453: the mean of the teachers' probabilities alone, no labels."""

    discriminator: bool = Field(
        False,
        description="adds a network that tells the student's logits from the teachers', as the published code does",
    )


class ChainOptions(Options):
    """A chain of weak students, each on what those before it leave, after Medina et al., arXiv:2503.01727."""

    alpha: float = Field(0.5, ge=0, le=1, description="weight of the labels; 1 - alpha weighs the teacher's outputs")
    temperature: float = Field(4.0, gt=0, description="softens both distributions")
    residual: float = Field(
        1.0, ge=0, description="weight of the mean squared difference to what the teacher's logits leave to learn"
    )


METHOD_OPTIONS: Mapping[str, type[Options]] = {
    "dkd": DkdOptions,
    "nkd": NkdOptions,
    "uskd": UskdOptions,
    "fitnets": FitnetsOptions,
    "at": AtOptions,
    "rkd": RkdOptions,
    "mgd": MgdOptions,
    "meal": MealOptions,
    "chain": ChainOptions,
}


class DistillOptions(TrainOptions):
    """Distillation: of a teacher's outputs, features or relations, of several teachers, or of the student itself."""

    # published with a method, and another than the option's own default
    method_defaults: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "at": {"alpha": 0.0},
        "rkd": {"alpha": 0.0},
        "mgd": {"alpha": 0.0},
        "meal": {"weight_decay": 0.0},
    }

    method: MethodName = Field("kd", description="what the student learns from; its own options stand in `METHOD:`")
    learning_rate: float = Field(0.01, gt=0, description="peak, reached after the warm-up")
    weight_decay: float = Field(5e-4, ge=0, description="0 with method meal where it is not given")
    temperature: float = Field(4.0, gt=0, description="kd and features: softens both distributions of classes")
    alpha: float = Field(
        0.9,
        ge=0,
        le=1,
        description="kd and features: weight of the teacher's outputs; 1 - alpha weighs the loss of the labels. "
        "0 with methods at, rkd, mgd where it is not given",
    )
    dkd: DkdOptions | None = None
    nkd: NkdOptions | None = None
    uskd: UskdOptions | None = None
    fitnets: FitnetsOptions | None = None
    at: AtOptions | None = None
    rkd: RkdOptions | None = None
    mgd: MgdOptions | None = None
    meal: MealOptions | None = None
    chain: ChainOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_its_method(cls, value: Any) -> Any:
        """The method's own options, and what it changes of the others, where they are not given."""
        if not isinstance(value, dict):
            return value
        method = value.get("method", cls.model_fields["method"].default)
        if not isinstance(method, str):
            return value
        for other in METHOD_OPTIONS:
            if value.get(other) is not None and other != method:
                raise refusal(f"options of {other} with method {method}", f"set `method: {other}`, or remove {other}")
        given = next((key for key in ("alpha", "temperature") if key in value and method not in _SOFTENED), None)
        if given is not None and method in METHOD_OPTIONS:
            own = ", ".join(f"{method}.{key}" for key in METHOD_OPTIONS[method].model_fields)
            raise refusal(f"{given} with method {method}, which has no such term", f"remove it; there is {own}")
        filled = {**cls.method_defaults.get(method, {}), **value}
        if method in METHOD_OPTIONS and filled.get(method) is None:
            filled[method] = {}
        return filled

    @model_validator(mode="after")
    def _a_teachers_term(self) -> "DistillOptions":
        if ":" in self.loss:
            raise refusal(
                f"a loss of your own, {self.loss!r}, does not know what to make of a teacher's outputs",
                f"set loss to one of {', '.join(LOSS_NAMES)}; or train with your own, without a teacher",
            )
        if self.method in _OF_CLASSES and self.loss != "cross_entropy":
            raise refusal(
                f"method {self.method} with loss {self.loss}: it sets one class of each sample apart from the others",
                "set method: kd, or loss: cross_entropy",
            )
        if self.method == "chain" and (self.sparsity or self.group_sparsity):
            name = "sparsity" if self.sparsity else "group_sparsity"
            raise refusal(
                f"{name} with method chain, whose students are trained one after the other",
                f"remove it, and `train` the chain with {name} afterwards",
            )
        return self
