"""What the lint finds about a build's data, kept in the store: data are read again only when they change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from edgekit.data.lint import lint
from edgekit.pipeline.keys import findings_key
from edgekit.pipeline.run import Stages, Workshop
from edgekit.schema.base import Record
from edgekit.schema.manifest import Finding

_FINDINGS = "findings.json"


class _Found(Record):
    rows: tuple[Finding, ...] = Field(description="of the lint")


def find_faults(stages: Stages, workshop: Workshop) -> tuple[Finding, ...]:
    """What the lint says about the splits, and about the samples that the last model's ranges were decided on."""
    row = next((row.calibration for row in reversed(stages.rows) if row.calibration is not None), None)
    used = None
    if row is not None and row.source == "samples":
        used = row.indices or tuple(range(row.count))
    key = findings_key(used, workshop.plan.around)
    folder = workshop.store.find(key.key)
    if folder is None:
        with workshop.reporter.task("looking at the data"):
            # of single steps a sequence has many: more of them may have been used than there are samples
            last = len(workshop.data.splits.calibration)
            seen = None if used is None else np.array([index for index in used if index < last], np.int64)
            found = _Found(rows=lint(workshop.data, seen))

        def write(into: Path) -> None:
            (into / _FINDINGS).write_text(found.model_dump_json(), encoding="utf-8")

        folder = workshop.store.put(key.key, write, key.parts)
    return _Found.model_validate_json((folder / _FINDINGS).read_bytes()).rows
