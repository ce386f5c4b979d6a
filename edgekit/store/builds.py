"""Builds and releases: what a bundle was, kept after its folder is gone."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection, RowMapping

from edgekit.errors import StoreError
from edgekit.schema.manifest import ArtifactMetric, Manifest
from edgekit.store.database import Database
from edgekit.store.history import ProfileLine, Wanted, read_history
from edgekit.store.tables import BUILDS, PROFILES, RELEASES


@dataclass(frozen=True)
class BuiltArtifact:
    """One file of a bundle; `metrics` on the test split, by name, and with the board's name as a board gave them."""

    path: str
    sha256: str
    size_bytes: int
    precision: str
    metrics: dict[str, ArtifactMetric]


@dataclass(frozen=True)
class Build:
    """A bundle in short. `digest` is its content digest; `made_s` in seconds since 1970."""

    digest: str
    recipe: str
    target: str
    git_commit: str | None
    verdict: str
    made_s: float
    artifacts: tuple[BuiltArtifact, ...]

    @property
    def sha256s(self) -> tuple[str, ...]:
        """Of its artifacts."""
        return tuple(row.sha256 for row in self.artifacts)


@dataclass(frozen=True)
class Release:
    """A build that was marked as released. `marked_s` in seconds since 1970."""

    name: str
    recipe: str
    target: str
    build: str
    marked_s: float


def build_of(manifest: Manifest, git_commit: str | None = None, made_s: float | None = None) -> Build:
    """A bundle's manifest in short. `made_s` None: when the manifest says that it was made; where it does not, now."""
    if made_s is None:
        created = manifest.created_at
        made_s = time.time() if created is None else datetime.fromisoformat(created).timestamp()
    return Build(
        digest=manifest.content_digest,
        recipe=manifest.recipe.name,
        target=manifest.target.name,
        git_commit=git_commit,
        verdict=manifest.verdict,
        made_s=made_s,
        artifacts=tuple(
            BuiltArtifact(
                path=row.path,
                sha256=row.sha256,
                size_bytes=row.size_bytes,
                precision=row.precision,
                metrics={**manifest.metrics.per_artifact.get(row.path, {}), **_on_boards(manifest, row.path)},
            )
            for row in manifest.artifacts
        ),
    )


def _on_boards(manifest: Manifest, path: str) -> dict[str, ArtifactMetric]:
    """Of an artifact what boards gave; another number of samples is another metric."""
    return {
        f"{manifest.metrics.name} on {row.device}, {row.samples} samples": ArtifactMetric(
            value=row.value, runtime=row.runtime, stand_in=row.stand_in
        )
        for row in manifest.board_metrics
        if row.artifact == path
    }


def record_build(database: Database, build: Build, profiles: Sequence[int] = ()) -> None:
    """Keep a build, and note on the profiles of these numbers that they are of it.

    A build of the same content that is known already stays as it is, with the time it was first made at.

    Raises:
        StoreError: the database cannot be written.
    """
    with database.writing() as connection:
        _insert(connection, build)
        for key in profiles:
            connection.execute(update(PROFILES).where(PROFILES.c.id == key).values(build=build.digest))


def read_builds(database: Database, *, recipe: str | None = None, target: str | None = None) -> tuple[Build, ...]:
    """The builds of a recipe for a target, or of any; oldest first.

    Raises:
        StoreError: the database cannot be read.
    """
    query = select(BUILDS).order_by(BUILDS.c.made_s, BUILDS.c.digest)
    if recipe is not None:
        query = query.where(BUILDS.c.recipe == recipe)
    if target is not None:
        query = query.where(BUILDS.c.target == target)
    with database.reading() as connection:
        return tuple(_build(row) for row in connection.execute(query).mappings())


def read_build(database: Database, digest: str) -> Build | None:
    """The build of a content digest; None: it is not known.

    Raises:
        StoreError: the database cannot be read.
    """
    with database.reading() as connection:
        row = connection.execute(select(BUILDS).where(BUILDS.c.digest == digest)).mappings().first()
    return None if row is None else _build(row)


def read_build_lines(database: Database, digest: str, wanted: Wanted | None = None) -> tuple[ProfileLine, ...]:
    """Profiles of a build, newest first; of an artifact without one, those of the same file in another build.

    A file that did not change is not measured again within a day, so its profile is of the build before.

    Raises:
        StoreError: the database cannot be read.
    """
    wanted = wanted or Wanted()
    own = read_history(database, replace(wanted, build=digest))
    build = read_build(database, digest)
    measured = {line.artifact_sha256 for line in own}
    rest = tuple(sha256 for sha256 in (build.sha256s if build else ()) if sha256 not in measured)
    return own + (read_history(database, replace(wanted, sha256s=rest)) if rest else ())


def mark_release(database: Database, build: Build, name: str) -> Release:
    """Say that a build was released; later builds of its recipe and target are held against the newest such one.

    Marking the same build by the same name again changes nothing.

    Raises:
        StoreError: another build of that recipe and target has that name, or the database cannot be written.
    """
    with database.writing() as connection:
        _insert(connection, build)
        same = (RELEASES.c.recipe == build.recipe, RELEASES.c.target == build.target, RELEASES.c.name == name)
        row = connection.execute(select(RELEASES).where(*same)).mappings().first()
        if row is None:
            release = Release(name, build.recipe, build.target, build.digest, time.time())
            connection.execute(insert(RELEASES), vars(release))
            return release
    if row["build"] != build.digest:
        raise StoreError(
            f"release {name!r} of {build.recipe} for {build.target} is build {row['build'][:12]}",
            database.where,
            "choose another --name",
        )
    return _release(row)


def read_releases(
    database: Database, *, recipe: str | None = None, target: str | None = None, name: str | None = None
) -> tuple[Release, ...]:
    """Releases, the newest first; of one recipe, target or name where these are given.

    Raises:
        StoreError: the database cannot be read.
    """
    query = select(RELEASES).order_by(RELEASES.c.marked_s.desc(), RELEASES.c.id.desc())
    for column, value in ((RELEASES.c.recipe, recipe), (RELEASES.c.target, target), (RELEASES.c.name, name)):
        if value is not None:
            query = query.where(column == value)
    with database.reading() as connection:
        return tuple(_release(row) for row in connection.execute(query).mappings())


def _insert(connection: Connection, build: Build) -> None:
    known = connection.execute(select(BUILDS.c.digest).where(BUILDS.c.digest == build.digest)).scalar()
    if known is None:
        artifacts = [
            {**vars(row), "metrics": {name: metric.model_dump() for name, metric in row.metrics.items()}}
            for row in build.artifacts
        ]
        connection.execute(insert(BUILDS), {**vars(build), "artifacts": json.dumps(artifacts)})


def _build(row: RowMapping) -> Build:
    artifacts = []
    for stored in json.loads(row["artifacts"]):
        metrics = {name: ArtifactMetric.model_validate(metric) for name, metric in stored["metrics"].items()}
        artifacts.append(BuiltArtifact(**{**stored, "metrics": metrics}))
    return Build(**{**row, "artifacts": tuple(artifacts)})


def _release(row: RowMapping) -> Release:
    return Release(**{name: row[name] for name in ("name", "recipe", "target", "build", "marked_s")})
