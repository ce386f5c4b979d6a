import pytest

from edgekit.errors import SchemaError
from edgekit.schema.find import FOLDERS, shipped_folder
from edgekit.schema.gallery import list_presets, read_preset
from edgekit.schema.resolve import references

OWN = """
extends: resnet20-cifar10
name: mine
model: {checkpoint: {path: "${WEIGHTS}/a.pth", sha256: null}}
gates: {size_bytes: {at_most: 300000}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGEKIT_DATA", raising=False)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(OWN)
    return tmp_path


def test_every_shipped_recipe_is_listed_without_its_data_and_described(folder):
    presets, refused = list_presets(folder)
    assert refused == []
    shipped = {path.stem for path in (shipped_folder() / FOLDERS["recipe"]).glob("*.yaml")}
    assert {preset.name for preset in presets if preset.shipped} == shipped
    assert [preset.name for preset in presets if not preset.shipped] == ["mine"]
    for preset in presets:
        if preset.shipped:
            assert preset.recipe.description.endswith("."), preset.name
            assert preset.recipe.name == preset.name


def test_a_recipe_tells_what_it_extends_and_which_variables_it_and_its_data_want(folder):
    mine = read_preset("mine", folder)
    assert mine.extends == ("resnet20-cifar10",)
    assert mine.wants == ("WEIGHTS", "EDGEKIT_DATA")  # the second is of the calibration set that it inherits
    assert mine.recipe.model.checkpoint.path == "${WEIGHTS}/a.pth"
    assert mine.recipe.gates.size_bytes.at_most == 300000
    assert mine.text == OWN
    quickstart = read_preset("quickstart", folder)
    assert (quickstart.wants, quickstart.extends, quickstart.shipped) == ((), (), True)


def test_one_that_cannot_be_read_does_not_hide_the_others(folder):
    (folder / "recipes" / "broken.yaml").write_text("extends: nothing-of-that-name\n")
    presets, refused = list_presets(folder)
    assert [name for name, _ in refused] == ["broken"]
    assert "mine" in {preset.name for preset in presets}
    with pytest.raises(SchemaError):
        read_preset("broken", folder)


def test_a_variable_with_a_default_is_not_wanted():
    content = {"a": ["${ONE}/x", "${TWO:-2}"], "b": {"c": "$${THREE} ${ONE} ${FOUR}"}, "d": 5}
    assert references(content) == ("ONE", "FOUR")
