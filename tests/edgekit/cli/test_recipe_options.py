"""The options that `build` and `plan` share: the same in both, and one of them is a setting by another name."""

import json

import click
import pytest
from click.testing import CliRunner

from edgekit.cli.build import build
from edgekit.cli.plan import plan
from edgekit.cli.recipe_options import recipe_options


@click.command()
@recipe_options
def told(**given: object) -> None:
    click.echo(json.dumps(given))


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], []),
        (["--allow-float"], ["model.allow_float=true"]),
        (["--allow-float", "--set", "seed=1", "--set", "seed=2"], ["seed=1", "seed=2", "model.allow_float=true"]),
    ],
)
def test_a_command_gets_what_is_laid_over_the_recipe_as_settings(words, settings):
    result = CliRunner().invoke(told, ["net.onnx", "--target", "cpu", *words])
    assert json.loads(result.output) == {
        "recipe": "net.onnx",
        "target": "cpu",
        "calib": None,
        "settings": settings,
        "allow_override": False,
    }


def test_build_and_plan_take_the_same_of_them():
    def shared(command):
        return {p.name: p.to_info_dict() for p in command.params if p.name in {own.name for own in told.params}}

    assert shared(build) == shared(plan)
    assert len(shared(plan)) == 6
