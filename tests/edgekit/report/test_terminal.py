import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.report.tables import _narrowed
from edgekit.report.terminal import print_summary
from edgekit.schema.calibration import CalibrationRow
from edgekit.schema.manifest import Finding, GateRow


@pytest.fixture
def summary_of(tmp_path):
    def summary(draft, width=100, **options):
        manifest = read_manifest(write_bundle(tmp_path, "a", draft))
        console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
        print_summary(console, manifest, Path("dist/a"), **options)
        return console.export_text(styles=False)

    return summary


def line_with(text, word):
    (line,) = [line for line in text.splitlines() if word in line]
    return " ".join(line.split())


def test_every_step_shows_what_it_left(summary_of, draft_of):
    text = summary_of(draft_of())
    assert line_with(text, "teacher: train") == "teacher: train 1.235 M 98.7 M 4,938.3 99.10 % 0.1 cached"
    assert line_with(text, "as loaded") == "as loaded 269.7 k 40.81 M 1,078.9 –"
    assert line_with(text, "quantize ") == "quantize 120 k 20.3 M 121.2 97.12 % 12.3"
    assert text.index("teacher: train") < text.index("as loaded") < text.index("prune")


def test_artifacts_show_their_own_metric_and_stand_ins_are_labelled(summary_of, draft_of):
    text = summary_of(draft_of())
    artifacts = text[text.index("Artifacts") : text.index("Latency")]
    assert line_with(artifacts, "model.onnx") == "model.onnx 30.0 98.11 % onnxruntime 1.23.2 passed ±1 code 1 Softmax"
    assert "onnx, onnxruntime-arm, int8" in artifacts
    assert artifacts.count("stand-in runtime") == 1
    assert artifacts.index("model.tensorrt.onnx") < artifacts.index("stand-in runtime")
    assert "engine: deferred" in artifacts


def test_a_recurrent_network_shows_its_form_and_the_nodes_of_both(summary_of, draft_of):
    draft = draft_of()
    nodes = {"step": 61, "unrolled": 1412}
    whole = draft.artifacts[0].model_copy(update={"nodes": nodes})
    step = draft.artifacts[1].model_copy(update={"nodes": nodes, "feedback": {"next_h": "h"}})
    text = summary_of(replace(draft, artifacts=(whole, step, *draft.artifacts[2:])), width=120)
    assert "unrolled: 1,412 nodes; one step: 61" in text
    assert "one step: 61 nodes; unrolled: 1,412" in text
    assert "nodes" not in summary_of(draft)


def test_latency_shows_percentiles_validity_and_an_honest_speed(summary_of, draft_of):
    text = summary_of(draft_of(), width=160)
    latency = text[text.index("Latency") : text.index("Gates")]
    assert "local stand-in onnxruntime 1.23.2 1.024 1.044 1.049 INVALID: stand-in" in " ".join(latency.split())
    assert "1.648 1.688 – INVALID: noisy, stand-in" in " ".join(latency.split())
    assert line_with(latency, "1.58 to") == "model.onnx model.fp32.onnx 1.61 1.58 to 1.66 50 % faster, on a stand-in"


def test_gates_skipped_rows_verdict_and_place_end_it(summary_of, draft_of):
    text = summary_of(draft_of())
    assert line_with(text, "metric_drop") == "metric_drop model.onnx 0.0012 at most 0.005 passed"
    assert line_with(text, "size_bytes") == "size_bytes model.onnx 30,000 at most 25000 FAILED"
    assert line_with(text, "latency_p99_ms") == "latency_p99_ms model.onnx – at most 8 not evaluated: no device"
    assert "Skipped: 2" in text
    assert line_with(text, "TensorRT engine") == "TensorRT engine model.tensorrt.onnx no device"
    last = [" ".join(line.split()) for line in text.splitlines() if line.strip()][-2:]
    assert last == ["Verdict FAIL 1 of 3 gates failed", "Bundle dist/a"]


def test_an_incomplete_verdict_says_what_is_missing(summary_of, draft_of):
    draft = draft_of()
    text = summary_of(replace(draft, verdict="incomplete", gates=draft.gates[::2]))
    assert line_with(text, "Verdict") == "Verdict INCOMPLETE 1 of 2 gates not evaluated: no device"
    passed = replace(draft, verdict="pass", gates=draft.gates[:1])
    assert line_with(summary_of(passed), "Verdict") == "Verdict PASS all 1 gates passed or not required"


def test_what_a_bundle_without_measuring_leaves_out_is_shown_from_the_run(summary_of, draft_of):
    draft = draft_of(measured=False, full_profiles=(), speed=())
    steps = [row.model_copy(update={"cached": True, "seconds": 1.5}) for row in draft.steps]
    assert line_with(summary_of(draft), "teacher: train").endswith("99.10 % –")
    text = summary_of(draft, steps=steps)
    assert line_with(text, "teacher: train").endswith("99.10 % 1.5 cached")
    assert "not measured" in text


def test_no_line_is_wider_than_100_columns_and_no_colour_is_piped(tmp_path, draft_of):
    manifest = read_manifest(write_bundle(tmp_path, "a", draft_of()))
    stream = io.StringIO()
    print_summary(Console(file=stream, width=100), manifest, None)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert "Bundle not written" in " ".join(text.split())


def test_brackets_in_names_are_shown_as_they_are(summary_of, draft_of):
    row = GateRow(
        name="[red]", subject="[/]", bound="at most 1", value=None, state="not evaluated", required=False, reason="[b]"
    )
    text = summary_of(replace(draft_of(), gates=(row,)))
    assert line_with(text, "[red]") == "[red] [/] – at most 1 not evaluated: [b]"


def test_lines_break_at_blanks_before_they_break_in_names(summary_of, draft_of):
    text = summary_of(draft_of(), width=80)
    assert max(map(len, text.splitlines())) <= 80
    for name in ("model.tensorrt.onnx", "latency_p99_ms", "evaluated", "onnxruntime"):
        assert name in text


def test_columns_are_narrowed_widest_first_and_never_below_their_longest_word():
    assert _narrowed([10, 30, 5], [4, 8, 5], 40) == [10, 25, 5]
    assert _narrowed([10, 12, 5], [9, 4, 5], 20) == [9, 6, 5]
    assert _narrowed([10, 30, 5], [10, 8, 5], 20) is None


def test_findings_are_shown_where_there_are_any(summary_of, draft_of):
    assert "Look at the data" not in summary_of(draft_of())
    found = Finding(what="2 copies", where="own-data, calibration", fix="leave them out")
    text = summary_of(draft_of(findings=(found,)))
    assert "Look at the data: 1" in text
    assert line_with(text, "2 copies") == "2 copies own-data, calibration leave them out"


def test_ranges_from_synthetic_samples_are_labelled(summary_of, draft_of):
    draft = draft_of()
    row = CalibrationRow(source="synthetic", count=64, digest="d", seed=0)
    steps = [step.model_copy(update={"calibration": row if step.name == "quantize" else None}) for step in draft.steps]
    assert "synthetic" not in summary_of(draft)
    assert summary_of(replace(draft, steps=tuple(steps))).count("ranges from synthetic samples") == 1
