from pathlib import Path

import pytest

from edgekit.errors import SchemaError
from edgekit.init.write import flow, preset_text, write_files
from edgekit.schema.gallery import list_presets
from edgekit.schema.load import load_recipe
from edgekit.schema.yaml_file import parse_yaml


@pytest.mark.parametrize(
    "value",
    [
        "net:make",
        "a b",
        "no",
        "True",
        "1e3",
        "x:",
        "ü",
        "",
        1,
        1.5,
        None,
        True,
        [1, "a,b"],
        {"a": {"b": [1, 2]}, "c": "}"},
    ],
)
def test_a_value_in_one_line_reads_back_as_itself(value):
    assert parse_yaml(f"key: {flow(value)} # comment", "here") == {"key": value}
    assert parse_yaml(f"[{flow(value)}]", "here") == [value]


def test_every_recipe_of_the_gallery_can_be_extended(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", "/data")
    presets, _ = list_presets(tmp_path)
    for preset in presets:
        (tmp_path / "mine.yaml").write_text(preset_text(preset, "mine", "s.json"))
        found = load_recipe(tmp_path / "mine.yaml", cwd=tmp_path).recipe
        assert found.name == "mine"
        assert found.steps == preset.recipe.steps
    with pytest.raises(SchemaError):
        preset_text(presets[0], "No Name", "s.json")


def test_all_files_are_written_or_none(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "calib" / "b.yaml"
    write_files({first: "1", second: "2"}, tmp_path / "schema", force=False)
    assert (first.read_text(), second.read_text()) == ("1", "2")
    with pytest.raises(SchemaError) as caught:
        write_files({tmp_path / "c.yaml": "3", second: "4"}, tmp_path / "schema", force=False)
    assert caught.value.where == str(second)
    assert not (tmp_path / "c.yaml").exists()
    write_files({first: "5"}, tmp_path / "schema", force=True)
    assert first.read_text() == "5"
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):  # a folder cannot be made below a file
        write_files({first: "6", tmp_path / "file" / "d.yaml": "7"}, tmp_path / "schema", force=True)
    assert first.read_text() == "5"
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_editors_find_the_schemas(tmp_path):
    write_files({}, tmp_path / "schema", force=False)
    assert {path.name for path in Path(tmp_path / "schema").iterdir()} == {"recipe.json", "calibration-set.json"}
