"""Trains the network of a recipe, in a process of its own: `python trained.py RECIPE CHECKPOINTS FOLDER`.

With the weights that it leaves, `as_trained` makes a recipe of the same network without the training. So every system
starts from it as from a published one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from surroundings import context_of

from edgekit.data.splits import find_data
from edgekit.nets.load import build
from edgekit.passes.table import run_pass
from edgekit.schema.load import load_recipe
from edgekit.schema.pass_options import parse_options
from edgekit.schema.recipe import Recipe, Step

WEIGHTS = "weights.safetensors"


def training(recipe: Recipe) -> tuple[Step, ...]:
    """The steps that the recipe begins with, as far as they train; none where its weights come from a file."""
    return tuple(takewhile(lambda step: step.name == "train", recipe.steps))


def as_trained(recipe: Recipe, weights: Path, sha256: str) -> Mapping[str, Any]:
    """The recipe of the trained network, as its file has it."""
    content = recipe.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    checkpoint = {"path": str(weights), "sha256": sha256}
    steps = [{step.name: step.options} for step in recipe.steps[len(training(recipe)) :]]
    return {**content, "model": {**content["model"], "checkpoint": checkpoint}, "steps": steps}


def main(arguments: Sequence[str]) -> None:
    name, checkpoints, folder = arguments
    torch.set_num_threads(1)
    recipe = load_recipe(name).recipe
    model, data = build(recipe.model, recipe.seed), find_data(recipe.data)
    context = context_of(data.splits, seed=recipe.seed, folder=Path(checkpoints))
    for step in training(recipe):
        model = run_pass(step.name, model, parse_options(step, f"recipe {recipe.name}"), context)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}, Path(folder) / WEIGHTS
    )


if __name__ == "__main__":
    main(sys.argv[1:])
