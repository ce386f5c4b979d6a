"""What is made of a network's outputs before a metric sees them: part of a recipe, recorded in the manifest."""

from typing import Any

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edgekit.schema.base import Record


class Nms(Record):
    """Class-wise greedy non-maximum suppression of a detector's boxes.

    In place of the two outputs it gives `detections` (N, max_detections, 6): rows of x_min, y_min, x_max, y_max, score,
    class by falling score. Rows that hold nothing have score 0 and class -1.
    """

    boxes: str = Field("boxes", description="output (N, A, 4): x_min, y_min, x_max, y_max")
    scores: str = Field("scores", description="output (N, A, C): a score for every box and class, higher is better")
    iou_threshold: float = Field(
        0.5, ge=0, le=1, description="a box that overlaps a better one of its class by more than this is dropped"
    )
    score_threshold: float = Field(0.05, ge=0, description="boxes with this score or less are dropped")
    max_detections: int = Field(100, ge=1, description="kept for each sample, over all classes")


class ReconstructionError(Record):
    """Mean squared difference between an input and the output that rebuilds it; `score` (N,) in place of the output."""

    input: str | None = Field(None, description="name of the network's input; none: the only one")
    output: str | None = Field(None, description="name of the network's output; none: the only one")


class Softmax(Record):
    """Shares that sum to 1 along the last axis, in place of the output."""

    output: str | None = Field(None, description="name of the network's output; none: the only one")


def _as_written(schema: dict[str, Any]) -> None:
    """A bare name is a step too."""
    mapping = {key: schema.pop(key) for key in ("type", "properties", "additionalProperties")}
    kinds = list(mapping["properties"])
    schema["anyOf"] = [{"enum": kinds}, {**mapping, "minProperties": 1, "maxProperties": 1}]


class Postprocess(Record):
    """One step between a network's outputs and the metric, `{kind: {option: value}}`; in float, everywhere the same."""

    model_config = ConfigDict(json_schema_extra=_as_written)

    nms: Nms | None = None
    reconstruction_error: ReconstructionError | None = None
    softmax: Softmax | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {value: {}}
        if isinstance(value, dict) and len(value) == 1:
            ((kind, options),) = value.items()
            return {kind: {} if options is None else options}
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> "Postprocess":
        if len(self.step) != 1:
            raise ValueError(f"a step is one of {', '.join(type(self).model_fields)}; the next is a line of its own")
        return self

    @model_serializer(mode="wrap")
    def _its_kind_alone(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {kind: options for kind, options in serialise(self).items() if options is not None}

    @property
    def step(self) -> dict[str, dict[str, Any]]:
        """The same as plain data, {kind: options}: what `agent/postprocess.py` takes and a manifest holds."""
        return self.model_dump(mode="json", exclude_none=True)
