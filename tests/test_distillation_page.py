"""The steps of docs/distillation.md are ones that a recipe may have."""

import re
from pathlib import Path

import yaml

from edgekit.schema.distill import METHOD_OPTIONS
from edgekit.schema.pass_options import parse_options
from edgekit.schema.recipe import Step

PAGE = Path(__file__).parents[1] / "docs" / "distillation.md"


def test_every_method_has_a_step_that_is_taken():
    text = PAGE.read_text(encoding="utf-8")
    steps = [
        Step.model_validate(step)
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        for step in yaml.safe_load(block).get("steps", ())
    ]
    taken = [parse_options(step, "docs/distillation.md") for step in steps]
    methods = [options.method for step, options in zip(steps, taken, strict=True) if step.name == "distill"]
    assert sorted(methods) == sorted({"kd", *METHOD_OPTIONS})
    assert all(f"| `{name}` |" in text for name in methods)
    assert taken[0].recover.epochs == 3
