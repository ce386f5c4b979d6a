import pytest
from pydantic import TypeAdapter, ValidationError

from edgekit.agent.postprocess import KINDS
from edgekit.errors import SchemaError
from edgekit.schema.postprocess import Postprocess
from edgekit.schema.validate import validate


def test_every_kind_that_may_be_written_is_carried_out():
    assert set(Postprocess.model_fields) == set(KINDS)


@pytest.mark.parametrize("written", ["nms", {"nms": None}, {"nms": {}}])
def test_a_step_without_options_has_their_defaults(written: object):
    (kind, options), *rest = Postprocess.model_validate(written).step.items()
    assert (kind, rest) == ("nms", [])
    assert options["iou_threshold"] == 0.5
    assert options["boxes"] == "boxes"


def test_a_step_as_plain_data_is_read_back():
    step = Postprocess.model_validate({"reconstruction_error": {"input": "image"}})
    assert step.step == {"reconstruction_error": {"input": "image"}}
    assert Postprocess.model_validate(step.step) == step
    assert step.model_dump(mode="json") == {"reconstruction_error": {"input": "image", "output": None}}


def test_two_kinds_are_two_steps():
    with pytest.raises(ValidationError, match="a line of its own"):
        Postprocess.model_validate({"nms": {}, "softmax": {}})


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(SchemaError) as caught:
        validate(Postprocess, {"nmss": {}}, "edgekit.yaml: postprocess.0")
    assert "nms" in caught.value.fix


def test_the_schema_for_editors_knows_both_spellings():
    schema = TypeAdapter(tuple[Postprocess, ...]).json_schema()["$defs"]["Postprocess"]
    bare, mapping = schema["anyOf"]
    assert bare == {"enum": ["nms", "reconstruction_error", "softmax"]}
    assert set(mapping["properties"]) == set(bare["enum"])
