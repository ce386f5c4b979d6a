import json

import pytest

from edgekit.schema.json_schema import SCHEMAS


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_a_schema_is_printed_as_json(edgekit, name):
    result = edgekit("schema", name)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["$schema"].endswith("2020-12/schema")
    assert set(SCHEMAS[name].model_fields) <= set(document["properties"])


def test_without_a_name_the_names_are_listed(edgekit, edgekit_json):
    result = edgekit("schema")
    assert result.exit_code == 0
    for name in ("recipe", "calibration-set", "quantize"):
        assert name in result.stdout
    _, document = edgekit_json("schema")
    assert [row["name"] for row in document["schemas"]] == list(SCHEMAS)


def test_an_unknown_name_is_answered_with_the_nearest(edgekit):
    result = edgekit("schema", "manifst")
    assert result.exit_code == 1
    assert "did you mean 'manifest'?" in result.stderr
