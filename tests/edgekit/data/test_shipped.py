"""The shipped calibration sets and recipes say what their data and networks are."""

import pytest

from edgekit.data.score import Score
from edgekit.data.table import find_loader
from edgekit.nets.load import build
from edgekit.schema.find import names
from edgekit.schema.load import load_calibration, load_recipe


@pytest.mark.parametrize("name", sorted(names("calibration set")))
def test_a_calibration_set_is_named_as_its_file_and_has_a_loader(name, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", "somewhere")
    calibration = load_calibration(name).calibration
    assert calibration.name == name
    find_loader(calibration.loader)
    assert calibration.licence
    assert calibration.citation


@pytest.mark.parametrize("name", sorted(names("recipe")))
def test_a_recipe_builds_its_networks_and_finds_its_data(name, data_folder, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))
    recipe = load_recipe(name).recipe
    assert recipe.name == name
    Score.of(recipe.metric, recipe.postprocess)
    calibration = load_calibration(recipe.data).calibration
    sources = [recipe.model, *(teacher.model for teacher in recipe.taught_by.values())]
    for source in sources:
        outputs = build(source).outputs
        assert not calibration.classes or [output.shape for output in outputs] == [(1, len(calibration.classes))]
    learns = {"train", "distill"} & {step.name for step in recipe.steps}
    assert not learns or calibration.train is not None
