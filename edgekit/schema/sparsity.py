"""Options of sparsity inside training, and what is recorded of it. No torch here."""

from typing import Literal

from pydantic import Field, model_validator

from edgekit.schema.base import Options, Record, refusal

SparsityMethod = Literal["gradual", "one_shot", "hold"]
SparsityPattern = Literal["unstructured", "block", "2:4"]
SparseSpeed = Literal["no", "where it has a kernel", "not known"]
_OF_FOUR = 0.5  # the share of zeros of 2:4


class SparsityOptions(Options):
    """Gradual magnitude pruning inside training, Zhu and Gupta, arXiv:1710.01878."""

    method: SparsityMethod = Field(
        "gradual",
        description="gradual: along a cubic ramp; one_shot: all at the first step, of a network that is trained "
        "already; hold: the zeros that the weights have already stay, and no more come",
    )
    pattern: SparsityPattern = Field(
        "unstructured",
        description="block: whole blocks by their mean magnitude; 2:4: two of every four inputs of an output, as "
        "NVIDIA's sparse tensor cores read them, layer after layer",
    )
    final: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the weights that are zero at the end; none: 0.8, and 2:4 is 0.5",
    )
    initial: float = Field(0.0, ge=0, lt=1, description="gradual: share at the first update")
    begin_ratio: float = Field(0.1, ge=0, lt=1, description="gradual: share of the steps before the first update")
    end_ratio: float = Field(
        0.7, gt=0, le=1, description="gradual: share of the steps after which the mask is final; the rest recovers"
    )
    frequency: int | None = Field(
        None, ge=1, description="gradual: steps between updates; none: 100, or a tenth of the ramp where that is less"
    )
    block: tuple[int, int] = Field((1, 4), description="block: outputs and inputs of a block; a kernel's places count")
    scope: Literal["layer", "global"] = Field("layer", description="rank within each layer, or over all of them")
    min_keep_ratio: float = Field(0.02, gt=0, le=1, description="scope global: share of its weights a layer keeps")
    exclude: tuple[str, ...] = Field((), description="layers, or modules with all layers in them, that stay dense")
    include: tuple[str, ...] = Field(
        (), description="layers that are made sparse although they would stay dense: first and depthwise convolutions"
    )

    @property
    def final_ratio(self) -> float:
        """Share of zeros at the end."""
        return self.final if self.final is not None else _OF_FOUR if self.pattern == "2:4" else 0.8

    @model_validator(mode="after")
    def _a_rising_ramp(self) -> "SparsityOptions":
        if self.method == "gradual" and self.begin_ratio >= self.end_ratio:
            raise refusal(
                f"a ramp from {self.begin_ratio:g} to {self.end_ratio:g} of the steps",
                "set begin_ratio below end_ratio, or `method: one_shot`",
            )
        if self.initial >= self.final_ratio:
            raise refusal(
                f"a share of zeros that goes from {self.initial:g} to {self.final_ratio:g}", "set initial below final"
            )
        return self

    @model_validator(mode="after")
    def _options_that_are_used(self) -> "SparsityOptions":
        changed = {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}
        ramp = {"initial", "begin_ratio", "end_ratio", "frequency"}
        aims = {"pattern", "final", "block", "scope", "min_keep_ratio"}
        unused = set() if self.method == "gradual" else ramp & changed
        if self.method == "hold":
            unused |= aims & changed
        if unused:
            name = min(unused)
            raise refusal(f"{name} with method {self.method}", f"remove {name}: only the other methods look at it")
        if self.block != (1, 4) and self.pattern != "block":
            raise refusal(f"a block with pattern {self.pattern}", "set `pattern: block`, or remove block")
        if min(self.block) < 1:
            raise ValueError("block holds two numbers of at least 1")
        return self

    @model_validator(mode="after")
    def _two_of_four(self) -> "SparsityOptions":
        if self.pattern == "2:4":
            if self.final_ratio != _OF_FOUR or self.initial:
                raise refusal(
                    "another share of zeros than 0.5 with pattern 2:4",
                    "remove final and initial: the ramp is by layers",
                )
            if self.scope == "global":
                raise refusal("scope global with pattern 2:4", "remove scope: each group of four is its own")
        if self.scope == "global" and self.min_keep_ratio > 1 - self.final_ratio:
            raise refusal(
                f"layers that each keep {self.min_keep_ratio:g} and together {1 - self.final_ratio:g}",
                "lower min_keep_ratio or final",
            )
        return self


class GroupSparsityOptions(Options):
    """Channels that belong together become small together, to be pruned after; Fang et al., arXiv:2301.12900."""

    weight: float = Field(1e-4, gt=0, description="of the penalty: half the squares of every channel, as weight decay")
    alpha: float = Field(4.0, gt=0, description="the weakest channel of a group is pressed 2^alpha times as hard")
    keep: tuple[str, ...] = Field((), description="layers whose channels are left alone, as in `prune`")


class SparseLayer(Record):
    """One weight that was made sparse."""

    weight: str
    zeros: int
    weights: int


class SparsityRow(Record):
    """`sparsity` of a training: part of the step's row in the manifest. A step is one of the optimiser."""

    method: SparsityMethod
    pattern: SparsityPattern
    scope: Literal["layer", "global"]
    steps: int = Field(description="of the training")
    begin: int = Field(description="step of the first update of the masks")
    every: int = Field(description="steps between two updates; 0: there is one")
    updates: int = Field(description="after the first one")
    recovery_steps: int = Field(description="from the last update on, under the final masks")
    zeros: int
    prunable_weights: int = Field(description="in the layers below")
    all_weights: int = Field(description="every parameter of the network: biases and norms stay dense")
    layers: tuple[SparseLayer, ...]
    left_dense: dict[str, str] = Field(description="other layers with weights, and why they stayed as they are")
    size_bytes: int = Field(description="of all stored tensors, dense")
    deflated_bytes: int = Field(description="the same after zlib at level 6, as in a .zip")
    bitmask_bytes: int = Field(description="the same, sparse weights as one bit each and the values other than zero")

    @property
    def prunable_ratio(self) -> float:
        """Share of zeros among the weights that could become zero."""
        return self.zeros / self.prunable_weights

    @property
    def total_ratio(self) -> float:
        """Share of zeros among all parameters."""
        return self.zeros / self.all_weights


class SparseArtifact(Record):
    """The zeros in one exported file, and whether its runtime makes time of them."""

    artifact: str
    zeros: int = Field(description="in weights of convolutions, matrix products and recurrent operators")
    weights: int
    size_bytes: int
    deflated_bytes: int = Field(description="of the file after zlib at level 6")
    bitmask_bytes: int = Field(description="of the file if weights were a bit each and the values other than zero")
    tensors: int = Field(description="weights, each a tensor")
    two_of_four: int = Field(description="of them, with two zeros among every four inputs")
    runtime: str
    faster: SparseSpeed = Field(description="what is published of the runtime; what was measured stands in `speed`")
    reason: str
    source: str = ""

    @property
    def zeros_ratio(self) -> float | None:
        """Share of zeros; none: no weight is stored as a plain tensor."""
        return self.zeros / self.weights if self.weights else None
