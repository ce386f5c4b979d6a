"""The recipe: what to do, in order. Written by the user."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edgekit.schema.base import Record, refusal
from edgekit.schema.gates import Gates
from edgekit.schema.metric import MetricSpec
from edgekit.schema.postprocess import Postprocess
from edgekit.schema.tensors import InputSpec

# of data/metrics/table.py, here because a plan imports no numpy
METRIC_NAMES = ("top1", "top5", "top_k", "per_class", "auc", "mse", "mae", "perplexity", "map50_95")
FormatName = Literal["onnx", "tflite", "tensorrt"]


class Checkpoint(Record):
    """Weights on disk: .pth and its like (loaded with weights_only), .npz, .safetensors, or an index of shards."""

    path: str = Field(
        description="file: .pth, .pt, .th, .bin, .ckpt, .npz, .safetensors, or the .json index of several; "
        "${NAME} is expanded from the environment"
    )
    key: str | None = Field(None, description="entry of the file that holds the state dict")
    strip_prefix: str = Field("", description="removed from the start of every name")
    sha256: str | None = Field(
        None, description="refuse the file if its digest differs; of an index: of itself and its shards, by name"
    )
    ignore_missing: tuple[str, ...] = Field(
        (), description="names of the network that the file need not hold; `*` matches"
    )
    ignore_unexpected: tuple[str, ...] = Field(
        (), description="names of the file that the network need not take; `*` matches"
    )


_SOURCES = ("factory", "onnx", "pt2", "timm", "transformers")  # of which a model has one
_FILES = ("onnx", "pt2")  # that hold structure, weights and inputs


class ModelSource(Record):
    """A network: a factory called with arguments, then weights; a file that holds both; or one that a library knows."""

    factory: str | None = Field(None, description="package.module:function that returns a torch.nn.Module")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="what the factory is called with; for transformers, laid over its config"
    )
    onnx: str | None = Field(None, description="an .onnx file, operator set 7 or later, with its weights")
    pt2: str | None = Field(None, description="a .pt2 file of torch.export.save, with its weights; it is not unpickled")
    timm: str | None = Field(None, description="name of a model of timm, made without weights: see checkpoint")
    transformers: str | None = Field(
        None,
        description="folder with config.json and safetensors, as save_pretrained writes it, or a config alone; "
        "its class is the first of the config's architectures",
    )
    sha256: str | None = Field(
        None, description="refuse an .onnx or .pt2 file if its digest differs; a build records it"
    )
    allow_float: bool = Field(
        False, description="keep operators of an .onnx file that do not become layers as they are, computed in float"
    )
    checkpoint: Checkpoint | None = None
    inputs: tuple[InputSpec, ...] = Field(
        (),
        description="name and shape of each input, batch first: [{name: image, shape: [1, 3, 32, 32]}]; "
        "read from an .onnx or .pt2 file where not given",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "ModelSource":
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"both {' and '.join(given)}" if given else f"none of {', '.join(_SOURCES)}"
            fix = "write factory: package.module:function, onnx: model.onnx, pt2: model.pt2, timm: a name, "
            fix += "or transformers: a folder"
            raise refusal(f"a model has one source, and this has {found}", fix)
        if self.allow_float and self.onnx is None:
            raise refusal("'allow_float' is for an .onnx file, and the model is none", "remove allow_float")
        extra = next((name for name in ("arguments", "checkpoint") if getattr(self, name)), None)
        if self.key in _FILES and extra is not None:
            raise refusal(f"{extra!r} is for a factory, and the model is a file", f"remove {extra}")
        if self.file is None and self.sha256 is not None:
            raise refusal("'sha256' is of a file, and the model is none", "write it into checkpoint")
        if self.key not in _FILES and not self.inputs:
            fix = "add inputs: name and shape of each input, batch first: [{name: image, shape: [1, 3, 32, 32]}]"
            raise refusal("key 'inputs' is missing", fix)
        return self

    @property
    def key(self) -> str:
        """Which of its keys names the source."""
        return next(name for name in _SOURCES if getattr(self, name) is not None)

    @property
    def file(self) -> str | None:
        """The file or folder that says what the network is, if one does."""
        return self.reference if self.key in (*_FILES, "transformers") else None

    @property
    def files(self) -> tuple[str, ...]:
        """That, and the checkpoint, as far as there are such."""
        return tuple(path for path in (self.file, self.checkpoint and self.checkpoint.path) if path)

    @property
    def without_places(self) -> "ModelSource":
        """The same but for where files lie: their content counts by digest."""
        return self.model_copy(update={"checkpoint": None, **({self.key: "file"} if self.file else {})})

    @property
    def reference(self) -> str:
        """The factory or the file, as the recipe names it."""
        return str(getattr(self, self.key))

    @property
    def named(self) -> dict[str, str]:
        """The same under its key."""
        return {self.key: self.reference}

    @property
    def where(self) -> str:
        """Both as one line, for messages."""
        return f"model.{self.key}: {self.reference}"


class Step(Record):
    """One line of `steps:`, written `{pass name: {option: value}}` in YAML."""

    name: str = Field(description="name of the pass")
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1 and "name" not in value:
            ((name, options),) = value.items()
            return {"name": name, "options": options or {}}
        return value


class Teacher(Record):
    """A second network that `distill` learns from, with steps of its own.

    None: what the model was before it was compressed.
    """

    model: ModelSource
    steps: tuple[Step, ...] = ()


class Export(Record):
    """What is written."""

    formats: tuple[FormatName, ...] | None = Field(None, description="none: every format of the target")
    batch: Annotated[int, Field(ge=1)] | Literal["dynamic"] = Field(
        1, description="samples at once; dynamic: any number of them, for onnx alone, measured and checked with one"
    )
    ship: Literal["fastest", "quantised"] = Field(
        "fastest",
        description="fastest: an artifact's float version takes its place where the device shows it to be faster",
    )
    recurrent: Literal["unrolled", "step"] = Field(
        "unrolled",
        description="a recurrent network as one graph of all its steps, or as one step with states in and out",
    )
    opset: int = Field(18, ge=18, le=20, description="ONNX operator set")

    @property
    def samples(self) -> int:
        """Of the programs that artifacts are made from and compared with, and of what is measured."""
        return 1 if self.batch == "dynamic" else self.batch


class Recipe(Record):
    """What to do: model, data, metric, steps in order, seed, gates."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", description="of the bundle's folder: lower-case letters, digits, . _ -"
    )
    description: str = ""
    seed: int = Field(0, ge=0, description="decides initial weights, the order of samples and augmentation")
    model: ModelSource
    data: str = Field(description="name of a calibration set, a path to one, or package.module:function")
    postprocess: tuple[Postprocess, ...] = Field(
        (), description="what is made of the outputs before the metric, in float, on every runtime alike"
    )
    metric: MetricSpec = MetricSpec(name="top1")
    teacher: Teacher | None = None
    teachers: tuple[Teacher, ...] = Field(
        (), description="several in place of one, for `distill` to learn from together"
    )
    steps: tuple[Step, ...] = ()
    export: Export = Export()
    gates: Gates = Gates()

    @model_validator(mode="after")
    def _one_way_to_name_teachers(self) -> "Recipe":
        if self.teacher is not None and self.teachers:
            raise refusal("both teacher and teachers", "move the teacher into the list of teachers")
        return self

    @property
    def taught_by(self) -> dict[str, Teacher]:
        """Every teacher, by the key that it stands at: `teacher`, or `teachers.0` and on."""
        if self.teacher is not None:
            return {"teacher": self.teacher}
        return {f"teachers.{i}": teacher for i, teacher in enumerate(self.teachers)}
