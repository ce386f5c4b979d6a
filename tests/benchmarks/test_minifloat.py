"""What the benchmark of minifloats counts and draws; what it simulates is tested with the simulation itself."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.nets.program import trace
from tests import nets

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def minifloat(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, which imports its neighbours as scripts do."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("minifloat")


def _point(minifloat: ModuleType, number: str, top1: float, bits: int, luts: float):  # type: ignore[no-untyped-def]
    return minifloat.Point(number, top1, minifloat.Interval(top1 - 0.9, top1 - 0.91, top1 - 0.89), bits, luts)


def test_every_split_of_three_to_eight_bits_with_two_to_five_exponent_bits(minifloat: ModuleType) -> None:
    names = minifloat.formats()
    assert len(names) == len(set(names)) == 6 + 18
    assert {"int3", "int8", "e2m0", "e2m1", "e3m0", "e5m0", "e2m5", "e5m2"} <= set(names)
    assert not {"e1m2", "e6m1", "e2m6"} & set(names)


def test_front_holds_what_no_other_point_beats(minifloat: ModuleType) -> None:
    points = [
        _point(minifloat, "int3", 0.5, 10, 9),
        _point(minifloat, "int4", 0.8, 20, 5),
        _point(minifloat, "e2m1", 0.8, 20, 6),  # as good as int4 by bits, beaten by the proxy
        _point(minifloat, "e3m0", 0.7, 30, 7),
        _point(minifloat, "int8", 0.9, 40, 8),
    ]
    assert [p.number for p in minifloat.front(points, "accumulator_bits")] == ["int3", "int4", "e2m1", "int8"]
    assert [p.number for p in minifloat.front(points, "lut_proxy")] == ["int4", "int8"]


def test_longest_dot_product_is_that_of_the_largest_filter(minifloat: ModuleType) -> None:
    # 3x3 of 2 channels 18, depthwise 9, pointwise 4, linear 6
    assert minifloat.longest_dot_product(trace(nets.model(nets.TINY_CONV))) == 18
    assert minifloat.longest_dot_product(trace(nets.model(nets.TINY_RESIDUAL))) == 36


def test_the_page_names_what_is_simulated_and_shows_every_format(minifloat: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    points = (_point(minifloat, "int4", 0.88, 20, 30.0), _point(minifloat, "e2m1", 0.89, 22, 40.4))
    found = minifloat.Found(minifloat.Case("tiny", "tiny"), 0.9, 500, 18, points)
    minifloat.write_page(tmp_path / "page.md", [found], "python benchmarks/minifloat.py", {"torch": "1"})
    page = (tmp_path / "page.md").read_text()
    assert "| int4 | 4 | 0.8800 | -0.0200 [-0.0300, -0.0100] | 20 | 30 | A L |" in page
    assert "| E2M1 | 4 | 0.8900 | -0.0100 [-0.0200, +0.0000] | 22 | 40 | A L |" in page
    assert "uncalibrated" in page
    assert "simulated" in page
    image = tmp_path / "images" / "minifloat-tiny.svg"
    assert "(images/minifloat-tiny.svg)" in page
    first = image.read_bytes()
    assert b"e2m1" in first
    minifloat.plot(found, image)
    assert image.read_bytes() == first


def test_rows_have_units_of_their_own(minifloat: ModuleType) -> None:
    results = minifloat.Results()
    points = (_point(minifloat, "e2m1", 0.89, 22, 40.4),)
    minifloat.add_rows(minifloat.Found(minifloat.Case("tiny", "tiny"), 0.9, 500, 18, points), results)
    rows = {(row.case, row.metric): (row.value, row.unit) for row in results.rows}
    assert rows["tiny fp32", "top1"] == (0.9, "share")
    assert rows["tiny e2m1", "accumulator"] == (22, "bits")
    assert rows["tiny e2m1", "LUT proxy, uncalibrated"] == (40.4, "points")
    assert rows["tiny e2m1", "top1 to float low"][0] == pytest.approx(-0.02)
