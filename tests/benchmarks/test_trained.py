"""A network that a recipe trains is trained once, and is then a recipe like those of published networks."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from edgekit.nets.load import build
from edgekit.schema.load import load_recipe

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
RECIPE = """
name: tiny
seed: 3
model:
  factory: edgekit.nets.repvgg:repvgg_digits
  arguments: {widths: [4, 4, 4]}
  inputs:
    - {name: image, shape: [1, 1, 8, 8]}
data: digits
steps:
  - train: {epochs: 1, learning_rate: 0.05}
  - reparam
  - quantize: {samples: 32}
gates:
  metric_drop: {at_most: 0.5}
"""


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The store of files, which imports its neighbours as scripts do."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("kept")


def test_a_network_is_trained_once_and_then_read_from_a_file(
    kept: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    given = load_recipe(path).recipe
    store = kept.Kept(tmp_path / "kept")
    made = load_recipe(store.trained(str(path))).recipe
    assert [step.name for step in made.steps] == ["reparam", "quantize"]
    assert (made.steps[1].options, made.gates, made.seed) == ({"samples": 32}, given.gates, 3)
    (x,) = build(made.model).example(8, seed=1)
    trained, other_seed, untrained = (
        build(model, seed).network(x) for model, seed in ((made.model, 3), (made.model, 4), (given.model, 3))
    )
    torch.testing.assert_close(trained, other_seed, rtol=0, atol=0)
    assert (trained - untrained).abs().max() > 0.1

    def refuse(script: str, *arguments: str) -> None:
        raise AssertionError(f"{script} ran again")

    monkeypatch.setattr(kept, "_process", refuse)
    assert load_recipe(store.trained(str(path))).digest == load_recipe(store.trained(str(path))).digest
    path.write_text(RECIPE.replace("seed: 3", "seed: 4"), encoding="utf-8")
    with pytest.raises(AssertionError, match="ran again"):
        store.trained(str(path))


def test_a_recipe_with_weights_of_its_own_is_taken_as_it_is(
    kept: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", "nowhere")  # the weights are named, not read
    name = "resnet8-mlperf"
    assert kept.Kept(tmp_path).trained(name) == name
    assert not any(tmp_path.iterdir())
