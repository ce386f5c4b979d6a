import json

import pytest

from edgekit.errors import SchemaError
from edgekit.schema.json_schema import SCHEMAS, json_schema
from edgekit.schema.pass_options import PASS_OPTIONS, PASS_SOURCES, parse_options
from edgekit.schema.recipe import Step


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_every_schema_is_json_that_refuses_unknown_keys(name):
    schema = json.loads(json.dumps(json_schema(name)))
    assert schema["additionalProperties"] is False
    references = {part.split('"')[0] for part in json.dumps(schema).split('"#/$defs/')[1:]}
    assert references <= set(schema.get("$defs", {}))


def test_the_recipe_schema_knows_steps_as_they_are_written():
    schema = json_schema("recipe")
    bare, spelled = schema["$defs"]["Step"]["anyOf"][:2]
    assert bare == {"enum": ["train", "distill", "prune", "reparam", "equalise", "quantize"]}
    assert spelled["properties"]["prune"]["anyOf"][0] == {"$ref": "#/$defs/PruneOptions"}
    assert schema["properties"]["extends"]["type"] == "string"
    assert {"required": ["extends"]} in schema["anyOf"]


def test_an_unknown_schema_is_answered_with_the_nearest():
    with pytest.raises(SchemaError) as caught:
        json_schema("recipes")
    assert "'recipe'" in caught.value.fix


def test_every_pass_says_where_it_was_published():
    assert set(PASS_SOURCES) == set(PASS_OPTIONS)
    assert all("arXiv:" in source for source in PASS_SOURCES.values())


def test_options_are_parsed_by_the_class_of_their_pass():
    for given in ({}, {"budget": {"macs_ratio": 0.5}, "channel_ratio": 0.5}):
        with pytest.raises(SchemaError) as caught:
            parse_options(Step(name="prune", options=given), "x.yaml: steps.0")
        assert caught.value.what == "set exactly one of budget, channel_ratio"
    options = parse_options(Step(name="prune", options={"budget": {"macs_ratio": 0.5}}), "x.yaml: steps.0")
    assert type(options) is PASS_OPTIONS["prune"]
    assert options.budget.macs_ratio == 0.5
    with pytest.raises(SchemaError) as caught:
        parse_options(Step(name="prune", options={"budget": {"macs_ratio": 2}}), "x.yaml: steps.0")
    assert caught.value.where == "x.yaml: steps.0.prune.budget.macs_ratio"
