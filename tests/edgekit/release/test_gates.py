from dataclasses import replace

import pytest
from junitparser import Failure, JUnitXml, Skipped

from edgekit.errors import SchemaError
from edgekit.profiling.compare import Comparison
from edgekit.release.gates import FLOAT_OUTPUTS, ArtifactEvidence, Evidence, judge, merge_gates, verdict, write_junit
from edgekit.schema.gates import NO_RELEASE, Bound, Gates
from edgekit.schema.manifest import ArtifactMetric, BoardMetricRow, ProfileRow
from edgekit.schema.profile import Conditions, Energy

GATES = Gates(
    float_metric=Bound(at_least=0.9),
    metric=Bound(at_least=0.91),
    metric_drop=Bound(at_most=0.005),
    size_bytes=Bound(at_most=330_000),
    parity_code_error=Bound(at_most=1),
    latency_p50_ms=Bound(at_most=2.0),
    latency_p99_ms=Bound(at_most=5.0),
    peak_rss_bytes=Bound(at_most=1e8, required=False),
)


def artifact(path="model.onnx", value=0.9123, *, stand_in=False, **changes):
    metric = ArtifactMetric(value=value, runtime="onnxruntime", stand_in=stand_in)
    fields = {"path": path, "size_bytes": 330_000, "metric": metric, "code_error": 1, "integer": True}
    return ArtifactEvidence(**{**fields, **changes})


def profile(**changes):
    fields = {
        "artifact": "model.onnx",
        "device": "pi5",
        "stand_in": False,
        "runtime": "onnxruntime",
        "threads": 1,
        "batch": 1,
        "p50_ms": 1.5,
        "p90_ms": 1.7,
        "p99_ms": 5.1,
        "samples": 400,
        "valid": True,
        "reasons": (),
        "peak_rss_bytes": 90_000_000,
        "measured_at": "2026-01-01T00:00:00Z",
        "path": "evidence/profiles/pi5.json",
        "conditions": Conditions(),
    }
    return ProfileRow(**{**fields, **changes})


def rows_of(evidence, gates=GATES):
    return {(row.name, row.subject): row for row in judge(gates, evidence)}


def test_every_gate_gives_one_row_for_every_artifact_and_only_those_set_do():
    evidence = Evidence(0.9173, (artifact("a.onnx"), artifact("b.tflite")))
    assert len(judge(GATES, evidence)) == 1 + 7 * 2
    assert judge(Gates(), evidence) == ()


def test_an_artifact_that_differs_from_its_program_fails_though_no_gate_compares_codes():
    wrong = {"parity_error": 0.5, "parity_tolerance": 0.01}
    floats = artifact("f.onnx", integer=False, code_error=None, **wrong)
    ungated = artifact("u.onnx", **wrong)
    stand_in = replace(floats, stand_in=True)
    for gates, evidence, judged in (
        (GATES, floats, True),
        (Gates(), floats, True),
        (Gates(), ungated, True),
        (GATES, ungated, False),  # its codes have a row of their own
        (GATES, stand_in, False),
    ):
        rows = [row for row in judge(gates, Evidence(0.9173, (evidence,))) if row.name == "parity"]
        assert [row.state for row in rows] == ["failed"] * judged
    near = artifact("f.onnx", integer=False, code_error=None, parity_error=0.01, parity_tolerance=0.01)
    assert rows_of(Evidence(0.9173, (near,)))[("parity", "f.onnx")].state == "passed"


def test_values_on_their_bounds_pass_and_beyond_them_fail():
    rows = rows_of(Evidence(0.9173, (artifact(),), (profile(),), "pi5"))
    states = {name: (row.state, row.value) for (name, _), row in rows.items()}
    assert states == {
        "float_metric": ("passed", 0.9173),
        "metric": ("passed", 0.9123),
        "metric_drop": ("passed", 0.005),  # 0.9173 - 0.9123 is 0.00500...04 in floating point
        "size_bytes": ("passed", 330_000),
        "parity_code_error": ("passed", 1),
        "latency_p50_ms": ("passed", 1.5),
        "latency_p99_ms": ("failed", 5.1),
        "peak_rss_bytes": ("passed", 90_000_000),
    }
    assert rows[("latency_p99_ms", "model.onnx on pi5")].bound == "at most 5"
    worse = rows_of(Evidence(0.9173, (artifact(value=0.9122, size_bytes=330_001, code_error=2),)))
    assert [row.state for row in worse.values()][1:5] == ["passed", "failed", "failed", "failed"]
    assert rows_of(Evidence(0.9173, (artifact(value=0.9),)))[("metric", "model.onnx")].state == "failed"


def test_without_a_device_latency_is_not_evaluated_even_when_a_stand_in_was_measured():
    evidence = Evidence(0.95, (artifact(value=0.95),), (profile(stand_in=True, device="local"),))
    rows = judge(GATES, evidence)
    latency = [row for row in rows if row.name.startswith("latency")]
    assert [(row.state, row.reason, row.value, row.required) for row in latency] == [
        ("not evaluated", "no device", None, True)
    ] * 2
    assert verdict(rows) == "incomplete"
    named = judge(GATES, Evidence(0.95, (artifact(),), device_reason="--no-measure"))
    assert {row.reason for row in named if row.state == "not evaluated"} == {"--no-measure"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"valid": False, "reasons": ("noisy", "throttled")}, "profile INVALID: noisy, throttled"),
        ({"stand_in": True, "valid": False, "reasons": ("stand-in",)}, "stand-in device"),
        ({"p99_ms": None}, "too few samples"),
        ({"device": "pi4"}, "not measured on pi5"),
        ({"artifact": "other.onnx"}, "not measured on pi5"),
    ],
)
def test_a_profile_that_proves_nothing_passes_no_gate(changes, reason):
    evidence = Evidence(0.95, (artifact(value=0.95),), (profile(**{"p99_ms": 1.6, **changes}),), "pi5")
    row = rows_of(evidence)[("latency_p99_ms", "model.onnx on pi5")]
    assert (row.state, row.reason) == ("not evaluated", reason)


def test_a_stand_in_runtime_passes_and_fails_no_gate_of_the_metric_or_of_parity():
    good, bad = artifact("a", 0.95, stand_in=True), artifact("b", 0.1, stand_in=True, code_error=99)
    rows = rows_of(Evidence(0.95, (good, bad), (), None))
    for path in "ab":
        for name in ("metric", "metric_drop"):
            row = rows[(name, path)]
            assert (row.state, row.reason) == ("not evaluated", "stand-in runtime")
    assert rows[("metric", "a")].value == 0.95  # shown, but proves nothing
    row = rows_of(Evidence(0.95, (artifact("c", stand_in=True, **{"code_error": 0}),)))[("parity_code_error", "c")]
    assert row.state == "passed"  # only the metric's own runtime was a stand-in
    codes = ArtifactEvidence("d", 1, None, 0, integer=True, stand_in=True)
    assert rows_of(Evidence(0.95, (codes,)))[("parity_code_error", "d")].reason == "stand-in runtime"


def test_what_was_not_measured_says_why_and_a_float_artifact_needs_no_codes():
    evidence = Evidence(
        None, (artifact(metric=None, metric_reason="litert is not installed", code_error=None, integer=False),)
    )
    rows = rows_of(evidence)
    assert rows[("float_metric", "")].reason == "metric not measured"
    assert rows[("metric", "model.onnx")].reason == "litert is not installed"
    assert rows[("metric_drop", "model.onnx")].reason == "litert is not installed"
    codes = rows[("parity_code_error", "model.onnx")]
    assert (codes.state, codes.required) == ("not evaluated", False)
    assert verdict([codes]) == "pass"
    mixed = artifact(code_error=None, code_error_reason=FLOAT_OUTPUTS, parity_error=0.01, parity_tolerance=0.02)
    rows = rows_of(Evidence(0.9173, (mixed,)))
    assert not rows[("parity_code_error", "model.onnx")].required  # its last layer is in float
    assert rows[("parity", "model.onnx")].state == "passed"
    no_float = rows_of(Evidence(None, (artifact(),)))
    assert no_float[("metric_drop", "model.onnx")].reason == "float metric not measured"


def test_a_nan_fails():
    row = rows_of(Evidence(float("nan"), ()))[("float_metric", "")]
    assert (row.state, row.value, row.reason) == ("failed", None, "the value is not a finite number")


def test_verdict_is_fail_before_incomplete_before_pass():
    rows = judge(GATES, Evidence(0.95, (artifact(value=0.95),), (profile(p99_ms=1.6),), "pi5"))
    assert verdict(rows) == "pass"
    optional = judge(Gates(peak_rss_bytes=Bound(at_most=1, required=False)), Evidence(0.95, (artifact(),)))
    assert (optional[0].state, verdict(optional)) == ("not evaluated", "pass")
    failing = judge(GATES, Evidence(0.1, (artifact(),)))
    assert {row.state for row in failing} > {"not evaluated", "failed"}
    assert verdict(failing) == "fail"
    assert verdict(()) == "pass"


def test_a_recipe_may_set_and_tighten_gates():
    target = Gates(latency_p99_ms=Bound(at_most=10), metric=Bound(at_least=0.5, required=False))
    recipe = Gates(latency_p99_ms=Bound(at_most=8), metric=Bound(at_least=0.6), size_bytes=Bound(at_most=100))
    merged = merge_gates(target, recipe)
    assert merged == recipe
    assert merge_gates(target, Gates()) == target
    assert merge_gates(target, target) == target


@pytest.mark.parametrize(
    "recipe",
    [
        Gates(latency_p99_ms=Bound(at_most=10.1)),
        Gates(metric=Bound(at_least=0.4)),
        Gates(metric=Bound(at_most=0.9)),
        Gates(latency_p99_ms=Bound(at_least=1)),
        Gates(latency_p99_ms=Bound(at_most=8, required=False)),
    ],
)
def test_a_recipe_that_loosens_a_gate_is_refused_unless_allowed(recipe):
    target = Gates(latency_p99_ms=Bound(at_most=10), metric=Bound(at_least=0.5))
    with pytest.raises(SchemaError) as caught:
        merge_gates(target, recipe)
    (name,) = recipe.model_dump(exclude_none=True)
    assert caught.value.where == f"recipe, gates.{name}"
    allowed = merge_gates(target, recipe, allow_override=True)
    assert getattr(allowed, name) == getattr(recipe, name)


def test_junit_says_what_failed_and_what_was_skipped(tmp_path):
    rows = judge(GATES, Evidence(0.95, (artifact(value=0.5),)))
    write_junit(rows, tmp_path / "junit.xml")
    xml = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    assert (xml.tests, xml.failures, xml.skipped) == (8, 2, 3)
    results = {case.name: case.result for suite in xml for case in suite}
    (drop,) = results["metric_drop at most 0.005"]
    assert isinstance(drop, Failure)
    assert drop.message == "0.45 is not at most 0.005"
    (latency,) = results["latency_p50_ms at most 2"]
    assert isinstance(latency, Skipped)
    assert latency.message == "not evaluated: no device"
    first = (tmp_path / "junit.xml").read_bytes()
    write_junit(rows, tmp_path / "junit.xml")
    assert (tmp_path / "junit.xml").read_bytes() == first


REGRESSION = Gates(latency_regression=Bound(at_most=0.05))


def regressed(found, **changes):
    """The row of the gate, for an artifact that compares so with the last release."""
    fields = {"device": "pi5", "profiles": (profile(),), "regressions": {"model.onnx": found}, **changes}
    evidence = Evidence(0.9, (artifact(),), **fields)
    rows = judge(REGRESSION, evidence)
    assert [row.name for row in rows] == ["latency_regression"]
    return rows[0], verdict(rows)


def comparison(low, value, high):
    """Slower by `value`, a share, with its interval."""
    return Comparison(1 / (1 + value), 1 / (1 + high), 1 / (1 + low), "slower", stand_in=False, interleaved=False)


@pytest.mark.parametrize(
    ("low", "value", "high", "state"),
    [
        (0.06, 0.08, 0.10, "failed"),
        (0.04, 0.08, 0.12, "passed"),  # above the bound, but not for certain
        (-0.30, -0.25, -0.20, "passed"),
    ],
)
def test_a_regression_fails_only_where_its_whole_interval_lies_above_the_bound(low, value, high, state):
    row, told = regressed(comparison(low, value, high))
    assert row.state == state
    assert row.value == pytest.approx(value)
    assert row.subject == "model.onnx on pi5"
    assert row.reason == f"95 % interval {low:.3g} to {high:.3g}"
    assert told == ("fail" if state == "failed" else "pass")


@pytest.mark.parametrize(
    ("found", "changes", "reason", "told"),
    [
        (NO_RELEASE, {}, NO_RELEASE, "pass"),  # the first build can have become no slower
        ("release v1 was measured on a stand-in", {}, "release v1 was measured on a stand-in", "incomplete"),
        (comparison(0.1, 0.2, 0.3), {"profiles": (profile(stand_in=True),)}, "stand-in device", "incomplete"),
        (
            comparison(0.1, 0.2, 0.3),
            {"profiles": (profile(valid=False, reasons=("noisy",)),)},
            "profile INVALID: noisy",
            "incomplete",
        ),
        (NO_RELEASE, {"regressions": {}, "profiles": ()}, "not measured on pi5", "incomplete"),
        (NO_RELEASE, {"device": None}, "no device", "incomplete"),
    ],
)
def test_a_regression_that_cannot_be_judged_says_why(found, changes, reason, told):
    row, found_told = regressed(found, **changes)
    assert (row.state, row.value, row.reason) == ("not evaluated", None, reason)
    assert found_told == told


def test_a_regression_is_bounded_above_only():
    with pytest.raises(ValueError, match="at_most"):
        Gates(latency_regression=Bound(at_least=0.1))


def test_accuracy_of_the_board_is_judged_once_more_and_only_where_it_is_the_boards_own_and_whole():
    row = BoardMetricRow(
        artifact="model.onnx",
        device="pi5",
        stand_in=False,
        runtime="onnxruntime 1",
        value=0.85,
        host_value=0.9123,
        samples=10000,
        agreement_ratio=0.9,
        max_abs_error=1.0,
    )
    gates = Gates(metric_drop=Bound(at_most=0.01), metric=Bound(at_least=0.9))

    def judged(**changes):
        given = Evidence(
            0.9173, (artifact(),), board_metrics=(row.model_copy(update=changes),), samples=10000, device="pi5"
        )
        rows = {(found.name, found.subject): found for found in judge(gates, given)}
        return [rows[name, "model.onnx on pi5"] for name in ("metric_drop", "metric")]

    assert [(found.state, found.value) for found in judged()] == [("failed", 0.0673), ("failed", 0.85)]
    assert [found.state for found in judged(value=0.91)] == ["passed", "passed"]
    assert {found.reason for found in judged(stand_in=True)} == {"stand-in device"}
    assert {found.reason for found in judged(samples=200)} == {"200 of 10000 samples"}
    assert {found.state for found in judged(samples=200)} == {"not evaluated"}


def test_energy_is_judged_where_a_meter_told_it_and_else_the_reason_stands():
    gates = Gates(energy_per_inference_mj=Bound(at_most=2.0))

    def judged(energy):
        (row,) = judge(gates, Evidence(0.9, (artifact(),), (profile(energy=energy),), device="pi5"))
        return row.state, row.value, row.reason

    assert judged(Energy(source="PMIC", energy_per_inference_mj=1.5)) == ("passed", 1.5, "")
    assert judged(Energy(source="PMIC", energy_per_inference_mj=2.5)) == ("failed", 2.5, "")
    assert judged(Energy(unavailable="no power sensor")) == ("not evaluated", None, "no power sensor")
    assert judged(None) == ("not evaluated", None, "could not be read on the device")
