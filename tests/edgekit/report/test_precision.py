"""What is told of single layers: in the terminal, in the page, and where the plot's points lie."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.report.html import render_html
from edgekit.report.precision import HEIGHT, WIDTH, decibels, plot, precision_block, precision_section
from edgekit.schema.manifest import Manifest
from edgekit.schema.precision import FrontPoint, GuardRow, KeptHigh, LayerPrecision, MixedRow

GUARD = GuardRow(
    max_drop=0.005,
    holds=True,
    float_metric=0.9731,
    asked_metric=0.9512,
    metric=0.97,
    drop=0.0031,
    drop_low=0.001,
    drop_high=0.006,
    samples=1000,
    evaluations=12,
)
MIXED = MixedRow(
    budget_name="size_bytes",
    budget=80_000,
    cost=75_000,
    noise=1e-3,
    layers=(
        LayerPrecision(layer="conv1/<b>", number="int8", macs=400, params=36, noise={"int8": 1e-5, "int4": 1e-2}),
        LayerPrecision(layer="conv2", number="int4", macs=800, params=72, noise={"int8": 1e-6, "int4": 1e-3}),
    ),
    front=(
        FrontPoint(cost=50_000, noise=1e-2, numbers={"int4": 2}),
        FrontPoint(cost=75_000, noise=1e-3, numbers={"int4": 1, "int8": 1}),
        FrontPoint(cost=100_000, noise=1e-5, numbers={"int8": 2}),
    ),
)
KEPT = (KeptHigh(layer="conv1/<b>", number="float", reason="mode auto: makes 30.0% of the error"),)


@pytest.fixture
def manifest_of(tmp_path, draft_of):
    def make(kept_high=(), **found: object) -> Manifest:
        draft = draft_of(kept_high=kept_high)
        *others, last = draft.steps
        draft = replace(draft, steps=(*others, last.model_copy(update=found)))
        return read_manifest(write_bundle(tmp_path, "a", draft))

    return make


def told(manifest: Manifest) -> str:
    console = Console(record=True, width=110, file=io.StringIO())
    console.print(precision_block(manifest))
    return " ".join(console.export_text().split())


def test_nothing_is_told_where_nothing_was_found(manifest_of):
    assert precision_block(manifest_of()) is None
    assert precision_section(manifest_of()) == ""
    assert "Precision of single layers" not in render_html(manifest_of())


def test_the_terminal_tells_of_the_guard_and_of_what_stayed_high_and_why(manifest_of):
    text = told(manifest_of(KEPT, guard=GUARD))
    assert "top1 on the selection split, 1000 samples: float 97.31 %, as asked for 95.12 %, as raised 97.00 %" in text
    assert "may drop by 0.50 %: holds" in text
    assert "conv1/<b> float mode auto: makes 30.0% of the error" in text


def test_a_bound_finer_than_one_sample_is_told(manifest_of):
    assert "none may be lost" not in told(manifest_of(guard=GUARD))
    few = GUARD.model_copy(update={"samples": 100})
    assert "one of 100 samples is 1.00 %, so none may be lost" in told(manifest_of(guard=few))
    assert "none may be lost" in precision_section(manifest_of(guard=few))


def test_a_bound_that_does_not_hold_is_told(manifest_of):
    failed = GUARD.model_copy(update={"holds": False})
    assert "DOES NOT HOLD" in told(manifest_of(guard=failed))
    assert "does not hold, even with everything raised" in precision_section(manifest_of(guard=failed))


def test_a_budget_is_told_in_its_own_unit(manifest_of):
    assert "budget size_bytes 80.0 KB: 75.0 KB; error of the outputs 30.0 dB below the signal" in told(
        manifest_of(mixed=MIXED)
    )
    timed = MIXED.model_copy(update={"budget_name": "latency_ms", "budget": 2.5, "cost": 2.25, "measured": 2.4})
    assert "budget latency_ms 2.5 ms: 2.25 ms, measured 2.4 ms" in told(manifest_of(mixed=timed))


def test_the_page_holds_it_all_escaped_with_a_plot_that_needs_nothing_from_elsewhere(manifest_of):
    manifest = manifest_of(KEPT, guard=GUARD, mixed=MIXED)
    page = render_html(manifest)
    assert "conv1/&lt;b&gt;" in page
    assert "conv1/<b>" not in page
    assert "12 networks tried" in page
    assert page.count("<svg") == 1
    assert "<title>75.0 KB, 30.0 dB: 1 in int4, 1 in int8</title>" in page
    assert re.search(r"<td>int4</td><td class=\"n\">72</td>", page)
    assert not re.search(r"(src=|href=|url\()", page)
    assert page == render_html(manifest)


def test_points_lie_where_their_numbers_say():
    found = plot(MIXED)
    left, middle, right = found.points
    assert (left[0] + right[0]) / 2 == pytest.approx(middle[0], abs=0.1)  # 50, 75, 100 KB
    # 20, 30 and 50 dB: more is higher up
    assert (left[1] - middle[1]) * 2 == pytest.approx(middle[1] - right[1], abs=0.3)
    assert found.chosen == middle[:2]
    assert found.line == f"{left[0]},{left[1]} {middle[0]},{middle[1]} {right[0]},{right[1]}"
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y, _ in found.points)
    assert [label for _, label in found.decibels] == ["20", "27.5", "35", "42.5", "50"]
    assert [label for _, label in found.costs] == ["50", "62.5", "75", "87.5", "100"]


def test_one_point_alone_and_no_noise_at_all_can_be_drawn():
    alone = MIXED.model_copy(update={"front": MIXED.front[1:2]})
    assert plot(alone).points[0][:2] == plot(alone).chosen
    assert decibels(0.0) == 120
    assert decibels(1e-3) == pytest.approx(30)
