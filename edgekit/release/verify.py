"""Verify a bundle of unknown origin: every digest, the manifest, the content digest and, on demand, the parity samples.

Runs no code of the user's, opens nothing by pickle, follows no link, and reads no file that is larger than it may be.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from edgekit.errors import BundleError, EdgekitError
from edgekit.release.content import Document, content_digest, evidence_digest
from edgekit.release.gates import verdict
from edgekit.release.parity import Array, Expected, ParitySamples, read_parity
from edgekit.release.paths import unsafe_path
from edgekit.schema.manifest import ArtifactRow, Manifest
from edgekit.schema.tensors import Layout
from edgekit.store.digests import file_sha256

MANIFEST = "manifest.json"
PARITY = "parity.safetensors"
_FIX = "name the folder that `edgekit build` printed"


@dataclass(frozen=True)
class Limits:
    """What is too large to be read at all."""

    manifest_bytes: int = 64 << 20
    file_bytes: int = 8 << 30
    total_bytes: int = 32 << 30
    files: int = 10_000


@dataclass(frozen=True)
class Answers:
    """What an artifact answered, by the network's names of its outputs: real numbers and integer codes."""

    outputs: Mapping[str, Array]
    codes: Mapping[str, Array]
    runtime: str


RerunParity = Callable[[Path, ArtifactRow, Mapping[str, Array], Mapping[str, Layout]], Answers]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a bundle."""

    kind: Literal[
        "missing", "altered", "added", "unsafe", "oversize", "manifest", "content digest", "evidence digest", "parity"
    ]
    path: str
    detail: str


@dataclass(frozen=True)
class ParityCheck:
    """The parity samples, run again on this machine. An error is None where nothing could be compared."""

    artifact: str
    runtime: str
    samples: int
    max_abs_error: float | None
    max_code_error: int | None
    passed: bool


@dataclass(frozen=True)
class VerifyReport:
    """What was checked, and everything that was found wrong."""

    path: Path
    manifest: Manifest | None
    files: int
    problems: tuple[Problem, ...]
    parity: tuple[ParityCheck, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with what was checked."""
        return not self.problems


def verify_bundle(path: Path, rerun_parity: RerunParity | None = None, limits: Limits | None = None) -> VerifyReport:
    """Check a bundle; what is wrong with it is in the report, not raised.

    Args:
        rerun_parity: runs an artifact on this machine; the samples are run again only when it is given, and only when
            every digest was right. An EdgekitError that it raises is a problem of kind parity.

    Raises:
        BundleError: `path` is no directory with a manifest.json.
    """
    limits = limits or Limits()
    if not path.is_dir():
        what = "this is a file" if path.exists() else "there is nothing there"
        raise BundleError(f"{what}, and a bundle is a folder", str(path), _FIX)
    if not os.path.lexists(path / MANIFEST):
        inside = sorted(found.parent for found in path.glob(f"*/{MANIFEST}"))
        fix = f"bundles in it: {', '.join(map(str, inside))}" if inside else _FIX
        raise BundleError("this is no bundle: no manifest.json in it", str(path), fix)
    found, problems = _walk(path, limits)
    manifest: Manifest | None = None
    if not problems:
        manifest, problems = _read(path)
    if manifest is not None:
        document = json.loads((path / MANIFEST).read_bytes())
        problems = [*_compare_files(path, manifest, found), *_compare_manifest(manifest, document)]
    checks: list[ParityCheck] = []
    if manifest is not None and not problems and rerun_parity is not None:
        checks, problems = _parity(path, manifest, rerun_parity)
    return VerifyReport(path, manifest, len(found), tuple(problems), tuple(checks))


def _walk(root: Path, limits: Limits) -> tuple[dict[str, int], list[Problem]]:
    """Size of every file by path, and what must not lie in a bundle. Nothing is opened."""
    sizes: dict[str, int] = {}
    problems: list[Problem] = []
    for path, status in _entries(root):
        name = path.relative_to(root).as_posix()
        if stat.S_ISLNK(status.st_mode):
            problems.append(Problem("unsafe", name, "a link"))
        elif not stat.S_ISREG(status.st_mode):
            problems.append(Problem("unsafe", name, "neither a file nor a directory"))
        elif status.st_size > (limits.manifest_bytes if name == MANIFEST else limits.file_bytes):
            problems.append(Problem("oversize", name, f"{status.st_size} bytes"))
        else:
            sizes[name] = status.st_size
        if len(sizes) > limits.files:
            return sizes, [*problems, Problem("oversize", ".", f"more than {limits.files} files")]
    if sum(sizes.values()) > limits.total_bytes:
        problems.append(Problem("oversize", ".", f"{sum(sizes.values())} bytes in all"))
    return sizes, problems


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))
            else:
                yield Path(entry.path), entry.stat(follow_symlinks=False)


def _read(root: Path) -> tuple[Manifest | None, list[Problem]]:
    try:
        manifest = Manifest.model_validate_json((root / MANIFEST).read_bytes())
    except ValidationError as err:
        first = err.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        more = f" (and {err.error_count() - 1} more)" if err.error_count() > 1 else ""
        return None, [Problem("manifest", MANIFEST, f"{key}: {first['msg']}{more}".removeprefix(": "))]
    except (ValueError, RecursionError) as err:
        return None, [Problem("manifest", MANIFEST, " ".join(str(err).split())[:300])]
    unsafe = [
        Problem("unsafe", repr(path), reason)
        for path in sorted({*manifest.files, *(row.path for row in manifest.artifacts)})
        if (reason := unsafe_path(path))
    ]
    return (None, unsafe) if unsafe else (manifest, [])


def _compare_files(root: Path, manifest: Manifest, found: Mapping[str, int]) -> Iterator[Problem]:
    listed = manifest.files
    wrong: set[str] = set()
    for name in sorted({*listed, *found} - {MANIFEST}):
        if name not in found:
            wrong.add(name)
            yield Problem("missing", name, "listed in the manifest, but not there")
        elif name not in listed:
            yield Problem("added", name, "there, but not listed in the manifest")
        elif (digest := file_sha256(root / name)) != listed[name]:
            wrong.add(name)
            yield Problem("altered", name, f"sha256 {digest[:12]}, not {listed[name][:12]}")
    for name in sorted({PARITY, "sbom.cdx.json"} - listed.keys()):
        yield Problem("missing", name, "every bundle has one, but the manifest does not list it")
    for row in manifest.artifacts:
        if row.path not in listed:
            yield Problem("missing", row.path, "an artifact that the manifest does not list among its files")
        elif row.path not in wrong and (row.sha256, row.size_bytes) != (listed[row.path], found[row.path]):
            yield Problem("manifest", row.path, "its row names another digest or size than its file has")


def _compare_manifest(manifest: Manifest, document: Document) -> Iterator[Problem]:
    digest = content_digest(document)
    if digest != manifest.content_digest:
        yield Problem(
            "content digest", MANIFEST, f"it says {manifest.content_digest[:12]}, its content has {digest[:12]}"
        )
    digest = evidence_digest(document)
    if digest != manifest.evidence_digest:
        detail = f"it says {manifest.evidence_digest[:12]}, its other keys have {digest[:12]}"
        yield Problem("evidence digest", MANIFEST, detail)
    judged = verdict(manifest.gates)
    if judged != manifest.verdict:
        yield Problem("manifest", MANIFEST, f"its verdict is {manifest.verdict!r}, its gates make it {judged!r}")


def _parity(root: Path, manifest: Manifest, rerun: RerunParity) -> tuple[list[ParityCheck], list[Problem]]:
    checks: list[ParityCheck] = []
    problems: list[Problem] = []
    try:
        samples = read_parity(root / PARITY)
    except BundleError as err:
        return [], [Problem("parity", PARITY, err.what)]
    for row in manifest.artifacts:
        if row.path not in samples.expected:
            problems.append(Problem("parity", row.path, "no expected outputs are stored for it"))
            continue
        try:
            answers = rerun(root / row.path, row, samples.inputs, samples.layouts)
        except EdgekitError as err:
            problems.append(Problem("parity", row.path, f"could not be run: {err.what}"))
            continue
        check = _compare_answers(row.path, samples, answers)
        checks.append(check)
        if not check.passed:
            problems.append(Problem("parity", row.path, _difference(check, samples.expected[row.path])))
    return checks, problems


def _difference(check: ParityCheck, expected: Expected) -> str:
    if check.max_abs_error is None or (expected.codes and check.max_code_error is None):
        return "it answered with NaN, or without an output that it should have"
    text = f"outputs differ by {check.max_abs_error:.3g} (allowed {expected.tolerance.output:.3g})"
    codes = f", codes by {check.max_code_error} (allowed {expected.tolerance.code})"
    return text + codes if expected.codes else text


def _compare_answers(path: str, samples: ParitySamples, answers: Answers) -> ParityCheck:
    expected = samples.expected[path]
    output_error = _largest(expected.outputs, answers.outputs)
    code_error = _largest(expected.codes, answers.codes)
    passed = (
        output_error is not None
        and code_error is not None
        and output_error <= expected.tolerance.output
        and code_error <= expected.tolerance.code
    )
    count = len(next(iter(samples.inputs.values())))
    codes = None if code_error is None or not expected.codes else int(code_error)
    return ParityCheck(path, answers.runtime, count, output_error, codes, passed)


def _largest(expected: Mapping[str, Array], found: Mapping[str, Array]) -> float | None:
    """Largest absolute difference; None where a tensor is absent, has another shape, or holds no finite numbers."""
    worst = 0.0
    for name, value in expected.items():
        if name not in found or found[name].shape != value.shape:
            return None
        difference = np.abs(value.astype(np.float64) - found[name].astype(np.float64))
        if not np.isfinite(difference).all():
            return None
        worst = max(worst, float(difference.max(initial=0.0)))
    return worst
