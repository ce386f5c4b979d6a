"""Gates: bounds from target and recipe, judged on evidence. What was not measured is never judged as if it were."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from edgekit.errors import SchemaError
from edgekit.schema.gates import NO_RELEASE, Bound, Gates
from edgekit.schema.manifest import ArtifactMetric, BoardMetricRow, GateRow, ProfileRow, Verdict
from edgekit.schema.metric import metric_drop

if TYPE_CHECKING:
    from edgekit.profiling.compare import Comparison  # numpy, which `plan` does without

STAND_IN_RUNTIME = "stand-in runtime"
FLOAT_OUTPUTS = "its outputs are float"
_NO_CODES = "float artifact: it has no integer codes"
_METRIC_DIGITS = 12  # metrics are shares of counts: 0.9173 - 0.9123 must not read as more than 0.005


@dataclass(frozen=True)
class ArtifactEvidence:
    """What is known of one artifact without a device.

    Attributes:
        path: its file in the bundle.
        size_bytes: of that file.
        metric: on the test split, in a runtime; None where it was not measured, and `metric_reason` says why.
        code_error: largest difference in integer codes from the Q/DQ program in PyTorch; None where there is none, and
            `code_error_reason` says why.
        integer: whether it computes in integer codes; a float artifact has no codes to compare, and that is no gap.
        stand_in: whether metric and codes come from a runtime that is not the target's own.
        parity_error: largest difference of an output, as a real number, from the same program; None: not compared.
        parity_tolerance: what of it is rounding.
    """

    path: str
    size_bytes: int
    metric: ArtifactMetric | None
    code_error: int | None
    integer: bool
    stand_in: bool = False
    parity_error: float | None = None
    parity_tolerance: float | None = None
    metric_reason: str = "metric not measured"
    code_error_reason: str = "codes not compared"


@dataclass(frozen=True)
class Evidence:
    """Everything that gates are judged on.

    Attributes:
        float_metric: of the float network on the test split, in PyTorch.
        device: that was named for this build; None: none was, and `device_reason` says why.
        profiles: of any artifact on any device; only those of `device` are judged.
        regressions: by path of an artifact, how its p50 on `device` compares with that of the last release, or why that
            cannot be said.
        board_metrics: of any artifact, as a device gave them.
        samples: in the test split; None: not known.
        larger_is_better, is_share: of the metric.
    """

    float_metric: float | None
    artifacts: tuple[ArtifactEvidence, ...]
    profiles: tuple[ProfileRow, ...] = ()
    device: str | None = None
    device_reason: str = "no device"
    regressions: Mapping[str, Comparison | str] = field(default_factory=dict)
    board_metrics: tuple[BoardMetricRow, ...] = ()
    samples: int | None = None
    larger_is_better: bool = True
    is_share: bool = True

    def drop(self, metric: float) -> float | None:
        """How much worse `metric` is than the float network's; None where that is not known."""
        if self.float_metric is None:
            return None
        worse = metric_drop(self.float_metric, metric, larger_is_better=self.larger_is_better, is_share=self.is_share)
        return round(worse, _METRIC_DIGITS)


def merge_gates(target: Gates, recipe: Gates, *, allow_override: bool = False) -> Gates:
    """The target's gates with those that the recipe sets or tightens.

    Raises:
        SchemaError: the recipe loosens a gate of the target (a wider bound, the other side, or no longer required) and
            `allow_override` is false.
    """
    merged: dict[str, Bound | None] = {}
    for name in Gates.model_fields:
        ours: Bound | None = getattr(target, name)
        theirs: Bound | None = getattr(recipe, name)
        if ours is not None and theirs is not None and not allow_override and not theirs.as_tight_as(ours):
            raise SchemaError(
                f"the recipe loosens a gate of the target: {_text(theirs)} instead of {_text(ours)}",
                f"recipe, gates.{name}",
                "tighten or remove it, or build with --allow-override",
            )
        merged[name] = ours if theirs is None else theirs
    return Gates(**merged)


def judge(gates: Gates, evidence: Evidence) -> tuple[GateRow, ...]:
    """One row per gate and artifact, in the order of `Gates`, then of the artifacts; last, parity of float outputs."""
    return tuple(_rows(gates, evidence))


def _rows(gates: Gates, evidence: Evidence) -> Iterator[GateRow]:
    for name in Gates.model_fields:
        bound: Bound | None = getattr(gates, name)
        if bound is None:
            continue
        if name == "float_metric":
            gap = "metric not measured" if evidence.float_metric is None else ""
            yield _row(name, "", bound, evidence.float_metric, gap)
            continue
        for artifact in evidence.artifacts:
            if name in _OF_PROFILE:
                yield from _on_device(name, bound, artifact, evidence)
            elif name == "latency_regression":
                yield _regression(name, bound, artifact, evidence)
            else:
                value, gap = _OF_ARTIFACT[name](artifact, evidence)
                yield _row(name, artifact.path, bound, value, gap)
                if name in _OF_BOARD:
                    yield from _on_board(name, bound, artifact, evidence)
    for artifact in evidence.artifacts:
        yield from _parity(artifact, gates)


def _parity(artifact: ArtifactEvidence, gates: Gates) -> Iterator[GateRow]:
    """Of an artifact whose codes no gate judges: an artifact that does something else than its program never passes."""
    error, tolerance = artifact.parity_error, artifact.parity_tolerance
    judged_by_codes = gates.parity_code_error is not None and artifact.code_error is not None
    if error is not None and tolerance is not None and not judged_by_codes and not artifact.stand_in:
        yield _row("parity", artifact.path, Bound(at_most=tolerance), error, "")


def _metric(artifact: ArtifactEvidence, _: Evidence) -> _Judged:
    if artifact.metric is None:
        return None, artifact.metric_reason
    return artifact.metric.value, STAND_IN_RUNTIME if artifact.stand_in or artifact.metric.stand_in else ""


def _metric_drop(artifact: ArtifactEvidence, evidence: Evidence) -> _Judged:
    value, gap = _metric(artifact, evidence)
    drop = None if value is None else evidence.drop(value)
    return drop, gap or ("float metric not measured" if drop is None else "")


def _code_error(artifact: ArtifactEvidence, _: Evidence) -> _Judged:
    if not artifact.integer:
        return None, _NO_CODES
    if artifact.code_error is None:
        return None, artifact.code_error_reason
    return artifact.code_error, STAND_IN_RUNTIME if artifact.stand_in else ""


_Judged = tuple[float | None, str]  # the value, and why it cannot be judged ("": it can)
_OF_ARTIFACT: Mapping[str, Callable[[ArtifactEvidence, Evidence], _Judged]] = {
    "metric": _metric,
    "metric_drop": _metric_drop,
    "size_bytes": lambda artifact, _: (artifact.size_bytes, ""),
    "parity_code_error": _code_error,
}
_OF_BOARD = ("metric", "metric_drop")
_OF_PROFILE = {
    "latency_p50_ms": "p50_ms",
    "latency_p99_ms": "p99_ms",
    "peak_rss_bytes": "peak_rss_bytes",
    "energy_per_inference_mj": "energy_per_inference_mj",
}


def _on_device(name: str, bound: Bound, artifact: ArtifactEvidence, evidence: Evidence) -> Iterator[GateRow]:
    if evidence.device is None:
        yield _row(name, artifact.path, bound, None, evidence.device_reason)
        return
    subject = f"{artifact.path} on {evidence.device}"
    rows = [row for row in evidence.profiles if row.device == evidence.device and row.artifact == artifact.path]
    if not rows:
        yield _row(name, subject, bound, None, f"not measured on {evidence.device}")
    for row in rows:
        value: float | None = getattr(row, _OF_PROFILE[name])
        gap = _profile_gap(row)
        if not gap and value is None:
            gap = "too few samples" if name == "latency_p99_ms" else "could not be read on the device"
            if name == "energy_per_inference_mj" and row.energy is not None:
                gap = row.energy.unavailable or gap
        yield _row(name, subject, bound, value, gap)


def _regression(name: str, bound: Bound, artifact: ArtifactEvidence, evidence: Evidence) -> GateRow:
    """Judged by the interval: the median of two measurements of one file differs too, a little."""
    if evidence.device is None:
        return _row(name, artifact.path, bound, None, evidence.device_reason)
    subject = f"{artifact.path} on {evidence.device}"
    rows = [row for row in evidence.profiles if row.device == evidence.device and row.artifact == artifact.path]
    gap = next((told for row in rows if (told := _profile_gap(row))), "")
    found = evidence.regressions.get(artifact.path, f"not measured on {evidence.device}")
    if gap or isinstance(found, str):
        return _row(name, subject, bound, None, gap or str(found))
    low, high = found.change_interval
    state: Literal["passed", "failed"] = "passed" if _meets(low, bound) else "failed"
    return _gate_row(name, subject, bound, found.change, state, f"95 % interval {low:.3g} to {high:.3g}")


def _on_board(name: str, bound: Bound, artifact: ArtifactEvidence, evidence: Evidence) -> Iterator[GateRow]:
    """The metric once more, as the board gave it: the same file may answer otherwise on another processor."""
    for row in evidence.board_metrics:
        if row.artifact != artifact.path or row.device != evidence.device:
            continue
        gap = "stand-in device" if row.stand_in else ""
        if not gap and evidence.samples is not None and row.samples < evidence.samples:
            gap = f"{row.samples} of {evidence.samples} samples"
        metric = ArtifactMetric(value=row.value, runtime=row.runtime, stand_in=False)
        value, missing = _OF_ARTIFACT[name](replace(artifact, metric=metric, stand_in=False), evidence)
        yield _row(name, f"{artifact.path} on {row.device}", bound, value, gap or missing)


def _profile_gap(row: ProfileRow) -> str:
    if row.stand_in:
        return "stand-in device"
    return "" if row.valid else f"profile INVALID: {', '.join(row.reasons)}"


def _row(name: str, subject: str, bound: Bound, value: float | None, gap: str) -> GateRow:
    finite = value is not None and math.isfinite(value)
    if value is not None and not finite and not gap:
        return _gate_row(name, subject, bound, None, "failed", "the value is not a finite number")
    if gap or value is None:
        return _gate_row(name, subject, bound, value if finite else None, "not evaluated", gap)
    return _gate_row(name, subject, bound, value, "passed" if _meets(value, bound) else "failed", "")


def _gate_row(
    name: str,
    subject: str,
    bound: Bound,
    value: float | None,
    state: Literal["passed", "failed", "not evaluated"],
    reason: str,
) -> GateRow:
    # Where outputs are float there are no codes, and parity has a row of its own; where nothing was released, nothing
    # can have become slower: nothing is left open, however much the gate is required elsewhere.
    required = bound.required and reason not in (_NO_CODES, FLOAT_OUTPUTS, NO_RELEASE)
    return GateRow(
        name=name, subject=subject, bound=_text(bound), value=value, state=state, required=required, reason=reason
    )


def _meets(value: float, bound: Bound) -> bool:
    if bound.at_most is not None:
        return value <= bound.at_most
    return bound.at_least is not None and value >= bound.at_least


def _text(bound: Bound) -> str:
    side, limit = ("at most", bound.at_most) if bound.at_most is not None else ("at least", bound.at_least)
    return f"{side} {limit:.12g}" + ("" if bound.required else " (not required)")


def verdict(rows: Sequence[GateRow]) -> Verdict:
    """fail: a gate failed. incomplete: a required one was not evaluated. pass: neither."""
    if any(row.state == "failed" for row in rows):
        return "fail"
    return "incomplete" if any(row.state == "not evaluated" and row.required for row in rows) else "pass"


def write_junit(rows: Sequence[GateRow], path: Path) -> None:
    """Write the gates as one JUnit suite; the same rows give the same bytes."""
    suite = TestSuite("gates")
    for row in rows:
        case = TestCase(f"{row.name} {row.bound}", row.subject or "model")
        value = "" if row.value is None else f"{row.value:.12g}"
        if row.state == "failed":
            case.result = [Failure(row.reason or f"{value} is not {row.bound}")]
        elif row.state != "passed":
            case.result = [Skipped(f"{row.state}: {row.reason}")]
        else:
            case.system_out = value
        suite.add_testcase(case)
    xml = JUnitXml("edgekit")
    xml.add_testsuite(suite)
    xml.write(str(path), pretty=True)
