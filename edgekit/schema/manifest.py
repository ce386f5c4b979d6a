"""manifest.json: the contract of a bundle. Keys are only ever added."""

import builtins
from typing import Any, Literal

from pydantic import Field

from edgekit.schema.base import Record
from edgekit.schema.calibration import CalibrationRow
from edgekit.schema.distilled import DistillRow
from edgekit.schema.postprocess import Postprocess
from edgekit.schema.precision import GuardRow, KeptHigh, MixedRow
from edgekit.schema.profile import Conditions, Energy
from edgekit.schema.pruned import PruneRow
from edgekit.schema.scheme import ArtifactPrecision
from edgekit.schema.sparsity import SparseArtifact, SparsityRow
from edgekit.schema.tensors import ArtifactTensor, InputSpec, OutputSpec, Preprocess


class RecipeRow(Record):
    """The recipe as it was run."""

    name: str
    digest: str
    text: str


class TargetRow(Record):
    """The target as it was read."""

    name: str
    digest: str


class Override(Record):
    """A file of the user's that stood in for a shipped one."""

    path: str
    shipped_digest: str
    digest: str


class Environment(Record):
    """What ran the build."""

    python: str
    platform: str
    libraries: dict[str, str]


class ManifestInput(InputSpec):
    """A network input with its preprocessing."""

    preprocess: Preprocess | None = None


class QuantisedTensor(Record):
    """How one tensor of an artifact is quantised."""

    tensor: str
    role: Literal["activation", "weight", "bias"]
    bits: int
    dtype: str
    scheme: Literal["symmetric", "affine"]
    axis: int | None = None
    group: int | None = Field(None, description="inputs that share a scale; such scales stand in the artifact alone")
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    tied_to: str | None = None


class InFloat(Record):
    """An operator that runs in float in an otherwise integer artifact."""

    node: str
    op: str
    reason: str


class ConformanceRow(Record):
    """One rule of a convention, checked on an artifact."""

    rule: str
    passed: bool
    checked: int = Field(description="places that the rule was checked at")
    detail: str = ""


class ArtifactRow(Record):
    """One exported file."""

    format: Literal["onnx", "tflite", "tensorrt"]
    convention: str
    path: str
    sha256: str
    size_bytes: int
    precision: ArtifactPrecision
    inputs: tuple[ArtifactTensor, ...]
    outputs: tuple[ArtifactTensor, ...]
    quantisation: tuple[QuantisedTensor, ...] = ()
    fused: dict[str, int] = Field(default_factory=dict, description="operators of the runtime's optimised graph")
    fused_by: str = Field("", description="runtime, version and machine that `fused` was counted on")
    in_float: tuple[InFloat, ...] = ()
    conformance: tuple[ConformanceRow, ...] = ()
    engine: Literal["deferred"] | None = Field(None, description="tensorrt only")
    two_of_four: int = Field(
        0, description="tensorrt only: weights with two zeros among every four inputs, for which sparse kernels exist"
    )
    feedback: dict[str, str] = Field(
        default_factory=dict,
        description="one step of a recurrent network: output -> input that it goes into at the next step, as it is",
    )
    free_batch: bool = Field(False, description="takes any number of samples at once; shapes here are those of one")
    nodes: dict[str, int] = Field(
        default_factory=dict,
        description="recurrent network: operators in the file's graph as one `step`, and `unrolled` over the sequence",
    )

    @property
    def computes_in_float(self) -> bool:
        """Whether activations are float32 throughout, whatever numbers the weights are stored in."""
        return self.precision == "fp32" or self.precision.endswith("-weights")

    @property
    def sample_inputs(self) -> list[str]:
        """Network names of the inputs that samples are given to: all but the states of a recurrent network."""
        return [t.network_name for t in self.inputs if t.network_name not in self.feedback.values()]


class ArtifactMetric(Record):
    """An artifact's metric in a runtime."""

    value: float
    runtime: str
    stand_in: bool
    details: dict[str, float] = Field(default_factory=dict, description="parts of it, such as the recall of each class")
    is_share: bool = Field(True, description="lies in [0, 1]")


class Metrics(Record):
    """How good the network is, on the test split."""

    name: str
    larger_is_better: bool = True
    is_share: bool = Field(True, description="lies in [0, 1]; a drop is a difference then, else a part of the value")
    details: dict[str, builtins.float] = Field(default_factory=dict, description="of the float network")
    float: dict[str, builtins.float]
    compressed: dict[str, builtins.float] = Field(
        default_factory=dict, description="the last step's network, in PyTorch"
    )
    per_artifact: dict[str, dict[str, ArtifactMetric]] = Field(default_factory=dict)
    samples: int


class ParityRow(Record):
    """Two executions of what should be one function."""

    reference: str
    candidate: str
    max_abs_error: float
    max_code_error: int | None
    agreement_ratio: float = Field(description="share of samples with the same largest output")
    tolerance: float
    passed: bool


class ProfileRow(Record):
    """A profile in short; the whole of it lies in evidence/profiles/."""

    artifact: str
    device: str
    stand_in: bool
    runtime: str
    threads: int
    batch: int
    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    samples: int
    valid: bool
    reasons: tuple[str, ...]
    peak_rss_bytes: int | None
    measured_at: str
    path: str
    conditions: Conditions
    energy: Energy | None = None

    @property
    def energy_per_inference_mj(self) -> float | None:
        """Above idle; None: not available."""
        return None if self.energy is None else self.energy.energy_per_inference_mj


class BoardMetricRow(Record):
    """An artifact's metric as a device gave it: the same file may answer otherwise on another processor."""

    artifact: str
    device: str
    stand_in: bool = Field(description="not the target's own hardware: passes no gate")
    runtime: str = Field(description="with its version")
    value: float
    host_value: float = Field(description="of the same samples on the machine that built")
    samples: int = Field(description="of the test split, from its beginning")
    agreement_ratio: float = Field(description="share of samples with the same largest output as on that machine")
    max_abs_error: float = Field(description="largest difference of an output from that machine's")


class SpeedRow(Record):
    """Did compression make the artifact faster? Compared in one run on one device."""

    artifact: str
    reference: str
    device: str
    stand_in: bool
    speedup: float = Field(description="p50 of the reference / p50 of the artifact")
    low: float
    high: float
    macs_ratio: float = Field(description="MACs left / MACs of the float model as loaded")
    verdict: Literal["faster", "slower", "no significant change"]


class GateRow(Record):
    """One gate and what became of it."""

    name: str
    subject: str = ""
    bound: str
    value: float | None
    state: Literal["passed", "failed", "not evaluated", "waived"]
    required: bool
    reason: str = ""


class Measure(Record):
    """A model at one point of the pipeline."""

    params: int
    macs: int
    size_bytes: int = Field(description="bytes of its weights as they would be stored")
    metric: float | None = Field(description="on the selection split; none: not measured")


class StepRow(Record):
    """One step that was run, or taken from the store."""

    name: str
    model: str = Field("model", description="model, or the key of a teacher: teacher, teachers.0")
    options: dict[str, Any]
    key: str
    cached: bool | None = Field(
        description="none: built with --no-measure, which leaves out what differs between two builds"
    )
    seconds: float | None = Field(description="none: as for `cached`")
    before: Measure | None
    after: Measure
    calibration: CalibrationRow | None = Field(None, description="quantize only: what its ranges were decided on")
    guard: GuardRow | None = Field(None, description="quantize with mode: auto")
    mixed: MixedRow | None = Field(None, description="quantize with a budget")
    distill: DistillRow | None = Field(None, description="distill of features, or of a chain")
    prune: PruneRow | None = Field(None, description="prune only: what it took out")
    sparsity: SparsityRow | None = Field(None, description="training with sparsity")


class Skipped(Record):
    """Something that was not done, and why."""

    what: str
    where: str
    reason: str


class Finding(Record):
    """Something about the data that a person should look at; it stops nothing."""

    what: str
    where: str
    fix: str


Verdict = Literal["pass", "fail", "incomplete"]


class Manifest(Record):
    """What is in the bundle, how it was made, and what was found."""

    schema_version: Literal[1] = 1
    edgekit_version: str
    created_at: str | None = Field(description="UTC, ISO 8601; none: built with --no-measure and no SOURCE_DATE_EPOCH")
    content_digest: str = Field(description="of what is deterministic: two builds are the same when it is equal")
    evidence_digest: str = Field(description="of every other key: finds an edited manifest")
    recipe: RecipeRow
    target: TargetRow
    overrides: tuple[Override, ...] = ()
    environment: Environment
    inputs: tuple[ManifestInput, ...]
    outputs: tuple[OutputSpec, ...]
    artifacts: tuple[ArtifactRow, ...]
    kept_high: tuple[KeptHigh, ...] = Field((), description="layers of a higher precision than the rest, and why")
    postprocess: tuple[Postprocess, ...] = Field(
        (), description="what is made of the outputs, in float, before the metric, and by whoever runs the artifact"
    )
    metrics: Metrics
    parity: tuple[ParityRow, ...]
    board_metrics: tuple[BoardMetricRow, ...] = Field((), description="of the recipe's metric, on the device itself")
    profiles: tuple[ProfileRow, ...] = ()
    speed: tuple[SpeedRow, ...] = ()
    sparse: tuple[SparseArtifact, ...] = Field((), description="every artifact, where a step made weights zero")
    gates: tuple[GateRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    findings: tuple[Finding, ...] = Field((), description="about the calibration samples and the splits")
    files: dict[str, str] = Field(
        default_factory=dict, description="path in the bundle -> sha256, all but manifest.json"
    )
    verdict: Verdict
