"""report.html: a manifest as one page that needs no network and no script. The same manifest gives the same bytes."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from edgekit.report import values
from edgekit.report.precision import precision_section
from edgekit.report.pruning import pruning_section
from edgekit.report.sparsity import sparsity_section
from edgekit.schema.manifest import Manifest, QuantisedTensor


def render_html(manifest: Manifest) -> str:
    """The page, UTF-8 text. Everything that comes from the manifest is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    for function in (
        values.count,
        values.form,
        values.gate_outcome,
        values.gate_value,
        values.kilobytes,
        values.megabytes,
        values.metric,
        values.milliseconds,
        values.profile_state,
        values.seconds,
        values.moment,
        values.share,
        values.whole_share,
        _bits,
        _numbers,
    ):
        environment.filters[function.__name__.lstrip("_")] = function
    text = files("edgekit.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        m=manifest,
        precision=precision_section(manifest),
        pruning=pruning_section(manifest),
        sparsity=sparsity_section(manifest),
        first_step=next((row for row in manifest.steps if row.model == "model"), None),
        gate_counts=Counter(row.state for row in manifest.gates),
        slowest_ms=max((row.p99_ms or row.p90_ms for row in manifest.profiles), default=1.0),
        largest_bytes=max((row.size_bytes for row in manifest.artifacts), default=1),
    )


def _bits(tensor: QuantisedTensor) -> str:
    """`int8 per channel (axis 0)`."""
    granularity = "per tensor" if tensor.axis is None else f"per channel (axis {tensor.axis})"
    return f"{tensor.dtype} {granularity}"


def _numbers(found: tuple[float, ...] | tuple[int, ...]) -> str:
    """One number as it is, several as their range."""
    low, high = min(found, default=0), max(found, default=0)
    return f"{low:.4g}" if low == high else f"{low:.4g} … {high:.4g}"
