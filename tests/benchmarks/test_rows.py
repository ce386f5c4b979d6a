import json
import math
from pathlib import Path

import pytest

from benchmarks.rows import (
    Interval,
    Page,
    Results,
    Row,
    cpu_flags,
    describe_versions,
    markdown_tables,
    mean_ratio,
    paired_difference,
    write_json,
    write_markdown,
)
from edgekit.errors import DataError


def test_a_second_row_of_one_name_is_refused():
    results = Results()
    results.add("resnet-20 int8", "edgekit", "top1", 0.917, "share")
    with pytest.raises(DataError) as caught:
        results.add("resnet-20 int8", "edgekit", "top1", 0.918, "share")
    assert caught.value.where == "case resnet-20 int8, system edgekit, metric top1"
    assert [row.value for row in results.rows] == [0.917]


def test_rows_that_differ_in_case_system_or_metric_are_kept():
    results = Results()
    names = [
        ("int8", "edgekit", "top1"),
        ("int4", "edgekit", "top1"),
        ("int8", "peer", "top1"),
        ("int8", "edgekit", "loss"),
    ]
    for case, system, metric in names:
        results.add(case, system, metric, 0.5, "share")
    assert [(row.case, row.system, row.metric) for row in results.rows] == names


@pytest.mark.parametrize(("value", "unit", "said"), [(math.nan, "ms", "nan"), (1.0, "mile", "'mile'")])
def test_what_is_no_number_of_a_known_unit_is_refused(value: float, unit: str, said: str):
    with pytest.raises(DataError) as caught:
        Results().add("a", "b", "c", value, unit)
    assert said in caught.value.what


def test_paired_difference_of_one_draw_by_hand():
    # ten samples: seven judged alike, two won, one lost; mean 0.1, sum of squares 3 - 10 * 0.01 = 2.9
    first = [1, 1, 1, 0, 0, 1, 0, 1, 1, 0]
    second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 1]
    found = paired_difference(first, second)
    margin = 1.959963984540054 * math.sqrt(2.9 / 9 / 10)
    assert found.value == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.1 - margin, 0.1 + margin))


def test_draws_are_averaged_sample_by_sample():
    # three draws of four samples: means 1, 2/3, 1/3, 0 against 1, 0, 1, 0: differences 0, 2/3, -2/3, 0
    first = [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]]
    found = paired_difference(first, [1, 0, 1, 0])
    margin = 1.959963984540054 * math.sqrt((8 / 9) / 3 / 4)
    assert found.value == pytest.approx(0)
    assert found.high == pytest.approx(margin)


def test_mean_ratio_by_hand():
    # logarithms -ln 2, 0, ln 2: mean 0, standard deviation ln 2; Student's t of two degrees of freedom is 4.302653
    found = mean_ratio([0.5, 1.0, 2.0])
    margin = 4.302653 * math.log(2) / math.sqrt(3)
    assert (found.low, found.value, found.high) == pytest.approx((math.exp(-margin), 1.0, math.exp(margin)), rel=1e-6)
    with pytest.raises(DataError):
        mean_ratio([1.0])


def test_other_samples_cannot_be_paired():
    with pytest.raises(DataError):
        paired_difference([1, 0, 1], [1, 0])
    with pytest.raises(DataError):
        paired_difference([1], [1])


def test_a_table_has_systems_across_and_intervals_in_brackets():
    results = Results()
    results.add("resnet", "float onnx", "top1", 0.9173, "share")
    results.add_interval("resnet", "edgekit", "latency", Interval(0.6, 0.59, 0.61), "ms")
    results.add("resnet", "edgekit", "top1", 0.91775, "share")
    assert markdown_tables(results.rows).splitlines() == [
        "## resnet",
        "",
        "| | float onnx | edgekit |",
        "|---|---|---|",
        "| top1 (share) | 0.9173 | 0.9177 |",
        "| latency (ms) |  | 0.6000 [0.5900, 0.6100] |",
    ]


def test_json_holds_machine_versions_rows_and_notes(tmp_path: Path):
    results = Results([Row("a", "edgekit", "size", 330.0, "KB")], ["no rows of peer: absent"])
    write_json(tmp_path / "new" / "rows.json", results, {"cores": 2}, {"python": "3.11"})
    assert json.loads((tmp_path / "new" / "rows.json").read_text()) == {
        "machine": {"cores": 2},
        "versions": {"python": "3.11"},
        "rows": [{"case": "a", "system": "edgekit", "metric": "size", "value": 330.0, "unit": "KB"}],
        "notes": ["no rows of peer: absent"],
    }


def test_the_page_says_how_it_was_made_and_what_is_missing(tmp_path: Path):
    results = Results([Row("a", "edgekit", "size", 330.0, "KB")], ["no rows of peer: absent"])
    machine = {"cpu": "a processor", "governor": None}
    head = Page("int8", "Medians of one run.", "python benchmarks/x.py")
    write_markdown(tmp_path / "page.md", head, results, machine, {"numpy": "2.0"})
    page = (tmp_path / "page.md").read_text()
    for part in (
        "# int8\n\nMedians of one run.\n",
        "`python benchmarks/x.py`",
        "- cpu: a processor",
        "- governor: not known",
        "numpy 2.0",
        "| size (KB) | 330.0 |",
        "- no rows of peer: absent",
    ):
        assert part in page


def test_flags_are_read_of_x86_and_arm(tmp_path: Path):
    (tmp_path / "proc").mkdir()
    cpuinfo = tmp_path / "proc" / "cpuinfo"
    cpuinfo.write_text("model name\t: x\nflags\t\t: fpu avx512_vnni\n\nflags\t\t: other\n")
    assert cpu_flags(tmp_path) == {"fpu", "avx512_vnni"}
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimddp\n")
    assert cpu_flags(tmp_path) == {"fp", "asimddp"}
    assert cpu_flags(tmp_path / "absent") == frozenset()


def test_a_library_that_is_absent_has_no_version():
    versions = describe_versions(["numpy", "no-such-library"])
    assert "numpy" in versions
    assert "no-such-library" not in versions
