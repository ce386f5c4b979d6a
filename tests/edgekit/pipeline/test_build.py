"""Parts of a build that no whole build shows."""

from types import SimpleNamespace

import pytest

from edgekit.errors import FormatError
from edgekit.pipeline import build
from edgekit.pipeline.choose import choose_variants
from edgekit.schema.load import load_target
from edgekit.schema.recipe import Export

VARIANTS = choose_variants(load_target("cpu-arm64").target, Export(formats=("onnx",)), quantised=True, compare=True)


def exporting(monkeypatch, broken: str):
    def export(planned, stage, workshop):
        if planned.variant.stem == broken:
            raise FormatError("too large for a half", "layer fc", "none")
        return f"{planned.variant.stem} of {stage}"

    monkeypatch.setattr(build, "export_artifact", export)
    plan = SimpleNamespace(artifacts=[SimpleNamespace(variant=variant) for variant in VARIANTS])
    return build._export(SimpleNamespace(plan=plan), {"last": "this", "reference": "that"})


def test_what_is_only_compared_with_may_fail_and_leaves_a_reason(monkeypatch):
    exported, skipped = exporting(monkeypatch, "model.half")
    assert exported == ("model of this", "model.float of this")
    assert [(row.what, row.where) for row in skipped] == [("comparison of speed", VARIANTS[-1].title)]
    assert "too large" in skipped[0].reason


def test_what_ships_may_not(monkeypatch):
    with pytest.raises(FormatError):
        exporting(monkeypatch, "model")
