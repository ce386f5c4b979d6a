"""The bundle: one directory with what is shipped and the evidence for it, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgekit.errors import BundleError
from edgekit.release.content import EVIDENCE, content_digest, evidence_digest
from edgekit.release.gates import write_junit
from edgekit.release.parity import ParitySamples, parity_bytes
from edgekit.release.paths import unsafe_path
from edgekit.release.sbom import Materials, software_bill
from edgekit.report.html import render_html
from edgekit.schema.manifest import (
    ArtifactRow,
    BoardMetricRow,
    Environment,
    Finding,
    GateRow,
    Manifest,
    ManifestInput,
    Metrics,
    Override,
    ParityRow,
    ProfileRow,
    RecipeRow,
    Skipped,
    SpeedRow,
    StepRow,
    TargetRow,
    Verdict,
)
from edgekit.schema.postprocess import Postprocess
from edgekit.schema.precision import KeptHigh
from edgekit.schema.profile import Profile
from edgekit.schema.sparsity import SparseArtifact
from edgekit.schema.tensors import OutputSpec
from edgekit.store.digests import canonical_json, file_sha256
from edgekit.store.folders import building_folder, put_in_place

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_NO_SIGNATURE = Skipped(what="signature", where="bundle", reason="no key given")
_NO_LOG = Skipped(what="evidence/log", where="bundle", reason="--no-measure: its times differ in every build")


@dataclass(frozen=True)
class BundleDraft:
    """Everything that goes into a bundle: the manifest's keys but those that follow from the files, and the files.

    Attributes:
        files: path in the bundle -> file to copy: every artifact, and what belongs to one (engine.json).
        samples: for parity.safetensors.
        materials: for sbom.cdx.json.
        full_profiles: with raw samples; `profiles` of the manifest is made from them.
        log: file to copy to evidence/log.
        measured: False under --no-measure: then times of day, seconds, `cached` and the log are left out, so that two
            builds are equal byte by byte.
    """

    edgekit_version: str
    recipe: RecipeRow
    target: TargetRow
    environment: Environment
    inputs: tuple[ManifestInput, ...]
    outputs: tuple[OutputSpec, ...]
    artifacts: tuple[ArtifactRow, ...]
    metrics: Metrics
    parity: tuple[ParityRow, ...]
    verdict: Verdict
    files: Mapping[str, Path]
    samples: ParitySamples
    materials: Materials
    measured: bool
    overrides: tuple[Override, ...] = ()
    full_profiles: tuple[Profile, ...] = ()
    postprocess: tuple[Postprocess, ...] = ()
    board_metrics: tuple[BoardMetricRow, ...] = ()
    speed: tuple[SpeedRow, ...] = ()
    sparse: tuple[SparseArtifact, ...] = ()
    gates: tuple[GateRow, ...] = ()
    steps: tuple[StepRow, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    kept_high: tuple[KeptHigh, ...] = ()
    findings: tuple[Finding, ...] = ()
    log: Path | None = None


def profile_row(profile: Profile) -> ProfileRow:
    """A profile in short, for the manifest and for gates."""
    return ProfileRow(
        artifact=profile.artifact,
        device=profile.device,
        stand_in=profile.stand_in,
        runtime=f"{profile.runtime} {profile.runtime_version}",
        threads=profile.settings.threads,
        batch=profile.settings.batch,
        p50_ms=profile.summary.p50_ms,
        p90_ms=profile.summary.p90_ms,
        p99_ms=profile.summary.p99_ms,
        samples=profile.summary.n,
        valid=profile.valid,
        reasons=profile.reasons,
        peak_rss_bytes=profile.peak_rss_bytes,
        measured_at=profile.measured_at,
        path=f"evidence/profiles/{profile.device}.json",
        conditions=profile.conditions,
        energy=profile.energy,
    )


def write_bundle(dist: Path, name: str, draft: BundleDraft, environ: Mapping[str, str] = os.environ) -> Path:
    """Write `dist/name/` and return it; an older bundle of that name is replaced in one rename.

    Args:
        environ: read for SOURCE_DATE_EPOCH, which takes the place of the time of day.

    Raises:
        BundleError: a file of the draft is absent, is not what its artifact row says, or has a path that leaves the
            bundle; or the disk refused. What stood at `dist/name` is untouched then.
    """
    place = check_place(dist, name)
    if draft.full_profiles and not draft.measured:
        raise BundleError("a build without measuring has profiles", name, "set measured, or leave the profiles out")
    made = not dist.exists()
    try:
        with building_folder(dist, name) as folder:
            _fill(folder, name, draft, _created_at(draft, environ))
            put_in_place(folder, place)
    except BaseException as err:
        if made:
            with suppress(OSError):  # it is not empty: another build has written into it meanwhile
                dist.rmdir()
        if not isinstance(err, OSError):
            raise
        raise BundleError(
            f"the bundle could not be written: {err}", str(place), "check free space and permissions"
        ) from err
    return place


def check_place(dist: Path, name: str) -> Path:
    """Where the bundle `name` will lie in `dist`; asked before a build, so that hours of work are not lost.

    Raises:
        BundleError: the name cannot be one, something that is no bundle is in the way, or `dist` cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise BundleError(f"{name!r} cannot be the name of a bundle", str(dist), "use a-z, 0-9, '.', '_' and '-'")
    place = dist / name
    if place.is_symlink() or (place.exists() and not (place / "manifest.json").is_file()):
        raise BundleError("something that is no bundle is in the way", str(place), "move it, or choose another --out")
    above = next(folder for folder in (dist, *dist.absolute().parents) if folder.exists())
    if not above.is_dir():
        raise BundleError("a bundle cannot lie in a file", str(above), "choose another --out")
    if not os.access(above, os.W_OK | os.X_OK):
        raise BundleError("the folder cannot be written", str(above), "change its permissions, or choose another --out")
    return place


def read_manifest(bundle: Path) -> Manifest:
    """The manifest of a bundle of ours; for one of unknown origin use `verify_bundle`.

    Raises:
        BundleError: there is none, or it is not one.
    """
    try:
        return Manifest.model_validate_json((bundle / "manifest.json").read_bytes())
    except (OSError, ValueError) as err:
        raise BundleError(
            f"no manifest: {str(err).splitlines()[0]}", str(bundle), "name the folder of a bundle"
        ) from err


def _fill(folder: Path, name: str, draft: BundleDraft, created_at: str | None) -> None:
    evidence = {path: source for path, source in draft.files.items() if path.startswith(EVIDENCE)}
    for path, source in sorted(draft.files.items() - evidence.items()):
        _copy(source, folder, path)
    for row in draft.artifacts:
        _check_artifact(folder, row)
    (folder / "parity.safetensors").write_bytes(parity_bytes(draft.samples))
    bill = software_bill(name, draft.recipe, draft.artifacts, draft.materials)
    (folder / "sbom.cdx.json").write_bytes(bill)

    manifest = _manifest(draft, created_at, _digests(folder))
    (folder / EVIDENCE).mkdir()
    for path, source in sorted(evidence.items()):
        _copy(source, folder, path)
    for device in sorted({profile.device for profile in draft.full_profiles}):
        profiles = [item.model_dump(mode="json") for item in draft.full_profiles if item.device == device]
        profile_file = folder / "evidence" / "profiles" / f"{device}.json"
        profile_file.parent.mkdir(exist_ok=True)
        profile_file.write_bytes(canonical_json(profiles) + b"\n")
    write_junit(draft.gates, folder / "evidence" / "junit.xml")
    if draft.measured and draft.log is not None:
        shutil.copyfile(draft.log, folder / "evidence" / "log")
    (folder / "evidence" / "report.html").write_text(render_html(manifest), encoding="utf-8")

    manifest = manifest.model_copy(update={"files": _digests(folder)})
    document = manifest.model_dump(mode="json")
    document["evidence_digest"] = evidence_digest(document)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (folder / "manifest.json").write_text(f"{text}\n", encoding="utf-8")


def _copy(source: Path, folder: Path, path: str) -> None:
    if reason := unsafe_path(path):
        raise BundleError(f"a file cannot lie there: {reason}", repr(path), "give a relative path inside the bundle")
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _check_artifact(folder: Path, row: ArtifactRow) -> None:
    if not (folder / row.path).is_file():
        raise BundleError("an artifact has no file", row.path, "name its file in BundleDraft.files")
    found = file_sha256(folder / row.path)
    if found != row.sha256 or (folder / row.path).stat().st_size != row.size_bytes:
        raise BundleError(
            f"an artifact changed after it was checked: sha256 {found[:12]}, not {row.sha256[:12]}",
            row.path,
            "build again, and let nothing else write to the folder of the export",
        )


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def _manifest(draft: BundleDraft, created_at: str | None, files: dict[str, str]) -> Manifest:
    """The manifest with the digests of `files`, which are all but those under evidence/ so far."""
    steps, skipped = draft.steps, (*draft.skipped, _NO_SIGNATURE)
    if not draft.measured:
        steps = tuple(row.model_copy(update={"cached": None, "seconds": None}) for row in steps)
        skipped = (*skipped, _NO_LOG) if draft.log else skipped
    manifest = Manifest(
        edgekit_version=draft.edgekit_version,
        created_at=created_at,
        content_digest="",
        evidence_digest="",
        recipe=draft.recipe,
        target=draft.target,
        overrides=draft.overrides,
        environment=draft.environment,
        inputs=draft.inputs,
        outputs=draft.outputs,
        artifacts=draft.artifacts,
        kept_high=draft.kept_high,
        metrics=draft.metrics,
        postprocess=draft.postprocess,
        parity=draft.parity,
        profiles=tuple(map(profile_row, draft.full_profiles)),
        board_metrics=draft.board_metrics,
        speed=draft.speed,
        sparse=draft.sparse,
        gates=draft.gates,
        steps=steps,
        skipped=skipped,
        findings=draft.findings,
        files=files,
        verdict=draft.verdict,
    )
    return manifest.model_copy(update={"content_digest": content_digest(manifest.model_dump(mode="json"))})


def _created_at(draft: BundleDraft, environ: Mapping[str, str]) -> str | None:
    """Now; or SOURCE_DATE_EPOCH where it is set; or, of a build without measuring, nothing."""
    given = environ.get("SOURCE_DATE_EPOCH")
    if given is None and not draft.measured:
        return None
    try:
        moment = datetime.fromtimestamp(int(given) if given is not None else int(time.time()), UTC)
    except (ValueError, OverflowError, OSError) as err:
        raise BundleError(
            f"SOURCE_DATE_EPOCH is {given!r}", "environment", "set it to seconds since 1970, or unset it"
        ) from err
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
