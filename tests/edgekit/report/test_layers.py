"""The page of `edgekit debug parity`: what is drawn where, and that nothing of a report is run or fetched."""

import re

import pytest

from edgekit.report.layers import HEIGHT, WIDTH, codes, decibels, plain, plot, ratio, render_layers
from edgekit.schema.debug import Comparison, DebugReport, LayerRow


def _row(layer: str, snr: float | None, own: float | None = 40.0, **others: object) -> LayerRow:
    given = {
        "candidate_layer": f"their {layer}",
        "kind": "conv",
        "plain_snr_db": None,
        "cosine": 0.999,
        "max_abs_error": 0.1,
        "max_code_error": 2.0,
        "plain_own_snr_db": own,
        "own_max_code_error": 1.0,
        "explained_snr_db": 38.0,
        "clipped_ratio": 0.0,
        "exact": False,
        "state": "ok",
    }
    return LayerRow.model_validate({"layer": layer, "snr_db": snr, "own_snr_db": own, **given, **others})


def _comparison(*rows: LayerRow, **others: object) -> Comparison:
    given = {
        "reference": "float network",
        "candidate": "model.onnx",
        "runtimes": ("onnxruntime", "onnxruntime-unfused"),
        "samples": 16,
        "sample_source": "parity samples",
        "matched": "2 by tensor name",
        "layers": rows,
    }
    return Comparison.model_validate({**given, **others})


def test_points_lie_where_their_ratio_says():
    drawn = plot(_comparison(_row("a", 40.0, 50.0), _row("b", 20.0, 40.0)))
    top, bottom = drawn.ticks[-1], drawn.ticks[0]
    assert (top[1], bottom[1]) == (50, 0)
    per_db = (bottom[0] - top[0]) / 50
    assert [point.y for point in drawn.own] == pytest.approx([top[0], top[0] + 10 * per_db])
    (line,) = drawn.accumulated
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line.split())
    assert (y1, y2) == pytest.approx((top[0] + 10 * per_db, top[0] + 30 * per_db), abs=0.06)
    assert [x1, x2] == [name.x for name in drawn.names] == [point.x for point in drawn.own]
    assert 0 < x1 < x2 < WIDTH
    assert all(0 < name.y < HEIGHT for name in drawn.names)


def test_a_line_is_broken_where_there_is_no_error_and_an_axis_reaches_below_zero():
    drawn = plot(_comparison(_row("a", 30.0), _row("b", None, None), _row("c", -7.0), _row("d", 200.0)))
    assert [len(line.split()) for line in drawn.accumulated] == [1, 2]
    assert drawn.ticks[0][1] == -10
    assert drawn.ticks[-1][1] == 100
    assert len(drawn.own) == 3


def test_long_names_keep_their_end():
    (name,) = plot(_comparison(_row("backbone.stage3.block2.conv1/conv2d", 30.0))).names
    assert name.text == "…3.block2.conv1/conv2d"
    assert len(name.text) == 22


def test_the_page_names_the_culprit_and_colours_it():
    bad = _row("b", 5.0, 6.0, state="bad", reason="saturation: 12 % of its values", clipped_ratio=0.12)
    page = render_layers(DebugReport(comparisons=(_comparison(_row("a", 30.0), bad, notes=("be careful",)),)))
    assert "<title>Layer by layer: a bad layer was found</title>" in page
    assert '<p class="bad">b: saturation: 12 % of its values</p>' in page
    assert page.count('<circle class="bad"') == 1
    assert page.count('<circle class="ok"') == 1
    assert "be careful" in page
    assert "12 %</td>" in page
    fine = render_layers(DebugReport(comparisons=(_comparison(_row("a", 30.0)),)))
    assert "every layer within bounds</title>" in fine
    assert "No bad layer" in fine


def test_nothing_of_a_report_becomes_markup_and_nothing_is_fetched():
    row = _row("<script>alert(1)</script>", 10.0, reason="<img src=x>", state="coarse")
    page = render_layers(DebugReport(comparisons=(_comparison(row, candidate='"><b>'),)))
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert not re.search(r"<[^>]*(src|href)=", page)
    assert "default-src 'none'" in page


def test_numbers_as_they_are_shown():
    assert (decibels(None), decibels(12.34), codes(2.04), plain(0.012345)) == ("–", "12.3", "2.0", "0.0123")
    assert ratio(_row("a", None, exact=True), None) == "exact"
    assert ratio(_row("a", None), None) == "–"


def test_the_first_bad_layer_goes_before_a_coarse_one():
    coarse, bad = _row("a", 3.0, state="coarse"), _row("b", 2.0, state="bad")
    assert _comparison(coarse, bad).first_bad == bad
    assert _comparison(coarse, _row("b", 2.0)).first_bad == coarse
    assert _comparison(_row("b", 2.0)).passed
