"""What `compare` and `bisect` may be given: a profile's number, a digest, a commit, a release, a bundle's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import select

from edgekit.errors import BundleError, DataError
from edgekit.schema.manifest import Manifest
from edgekit.schema.profile import Profile
from edgekit.store.builds import Build, build_of, read_build, read_build_lines, read_releases
from edgekit.store.digests import file_sha256
from edgekit.store.history import LEAST_PREFIX, LINES, ProfileLine, Wanted, is_digest, read_history, read_lines
from edgekit.store.profiles import ProfileStore
from edgekit.store.tables import BUILDS, PROFILES, has_prefix

_ID_DIGITS = 9
_NAMED = 4  # of several matches, as many are named


@dataclass(frozen=True)
class Entry:
    """A profile that can be compared.

    Attributes:
        key: its number in the database; None: it lies in a bundle.
        artifact: file name in the bundle.
        load: reads it whole.
    """

    key: int | None
    artifact: str
    ships: bool | None
    device: str
    runtime: str
    measured_s: float
    valid: bool
    load: Callable[[], Profile]


@dataclass(frozen=True)
class Side:
    """One of the things compared: what it was called, which build it is where it is one, and its profiles."""

    label: str
    build: Build | None
    entries: tuple[Entry, ...]


def find_side(store: ProfileStore, given: str) -> Side:
    """What `given` names, with `@device` at its end only what was measured there.

    In this order: the folder of a bundle; a number of a profile; the name of a release; the first six or more digits of
    the content digest of a build, of an artifact's sha256, or of a commit that one build was made at.

    Raises:
        DataError: nothing is called so, or several things are.
        BundleError: a folder is no bundle, or its profiles were altered.
        StoreError: the database cannot be read.
    """
    text, at, device = (given, "", "") if Path(given).is_dir() else given.partition("@")
    side = _find(store, text)
    if not at:
        return side
    entries = tuple(entry for entry in side.entries if entry.device == device)
    if side.entries and not entries:
        devices = ", ".join(sorted({entry.device for entry in side.entries}))
        raise DataError(f"{text} was not measured on {device!r}", given, f"measured on: {devices}")
    return Side(f"{side.label} on {device}", side.build, entries)


def read_bundle(folder: Path) -> tuple[Manifest, tuple[Profile, ...]]:
    """A bundle's manifest and the profiles in its evidence, with raw samples.

    Raises:
        BundleError: it is no bundle, or a file of profiles is not the one that its manifest names.
    """
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except (OSError, ValueError) as err:
        raise BundleError(
            f"no manifest: {str(err).splitlines()[0]}", str(folder), "name the folder of a bundle"
        ) from err
    profiles: list[Profile] = []
    for path in sorted((folder / "evidence" / "profiles").glob("*.json")):
        name = path.relative_to(folder).as_posix()
        if manifest.files.get(name) != file_sha256(path):
            raise BundleError("a file of profiles was altered", str(path), f"see `edgekit verify {folder}`")
        try:
            profiles += [Profile.model_validate(document) for document in json.loads(path.read_bytes())]
        except (ValidationError, ValueError, TypeError) as err:
            raise BundleError(f"no profiles: {str(err).splitlines()[0]}", str(path), "build again") from err
    return manifest, tuple(profiles)


def _find(store: ProfileStore, text: str) -> Side:
    if Path(text).is_dir():
        return _bundle(store, Path(text))
    if text.isdigit() and len(text) <= _ID_DIGITS:
        lines = read_lines(store.database, LINES.where(PROFILES.c.id == int(text)))
        if lines:
            return Side(f"profile {text}", None, _entries(store, lines))
    releases = read_releases(store.database, name=text)
    if len(releases) > 1:
        raise DataError(
            f"several releases are called {text!r}: {_some(f'{row.recipe} for {row.target}' for row in releases)}",
            text,
            "name the build's digest; `edgekit history releases` lists them",
        )
    if releases:
        return _build(store, releases[0].build, f"release {text}")
    if is_digest(text):
        return _digest(store, text)
    raise DataError(
        f"nothing is known by the name {text!r}",
        "profile, digest, commit, release or bundle",
        f"name one of these, a digest with {LEAST_PREFIX} digits or more; `edgekit history` lists them",
    )


def _digest(store: ProfileStore, text: str) -> Side:
    columns = {
        "build": (BUILDS.c.digest, PROFILES.c.build),
        "artifact": (PROFILES.c.artifact_sha256,),
    }
    found: set[tuple[str, str]] = set()
    with store.database.reading() as connection:
        for kind, places in columns.items():
            for column in places:
                query = select(column).where(has_prefix(column, text)).distinct()
                found |= {(kind, value) for value in connection.execute(query).scalars()}
        query = select(BUILDS.c.digest).where(has_prefix(BUILDS.c.git_commit, text))
        found |= {("build", value) for value in connection.execute(query).scalars()}
    if not found:
        raise DataError(f"no build, artifact or commit begins with {text}", text, "see `edgekit history`")
    if len(found) > 1:
        names = _some(f"{kind} {value[:16]}" for kind, value in sorted(found))
        raise DataError(f"{text} is the beginning of {names}", text, "give the digest of one of them")
    ((kind, value),) = found
    if kind == "build":
        return _build(store, value, f"build {value[:12]}")
    lines = read_history(store.database, Wanted(artifact=value))
    return Side(f"artifact {value[:12]}", None, _entries(store, lines))


def _build(store: ProfileStore, digest: str, label: str) -> Side:
    lines = read_build_lines(store.database, digest)
    return Side(label, read_build(store.database, digest), _entries(store, lines))


def _bundle(store: ProfileStore, folder: Path) -> Side:
    manifest, profiles = read_bundle(folder)
    known = read_build(store.database, manifest.content_digest)
    build = known or build_of(manifest)
    entries = tuple(
        Entry(
            key=None,
            artifact=profile.artifact,
            ships=True,
            device=profile.device,
            runtime=profile.runtime,
            measured_s=datetime.fromisoformat(profile.measured_at).timestamp(),
            valid=profile.valid,
            load=_given(profile),
        )
        for profile in profiles
    )
    # built without measuring: the same content may have been measured since
    return Side(f"bundle {folder}", build, entries or _build(store, build.digest, "").entries)


def _entries(store: ProfileStore, lines: Iterable[ProfileLine]) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            key=line.id,
            artifact=line.artifact,
            ships=line.ships,
            device=line.device,
            runtime=line.runtime,
            measured_s=line.measured_s,
            valid=line.valid,
            load=partial(store.get, line.id),
        )
        for line in lines
    )


def _given(profile: Profile) -> Callable[[], Profile]:
    return lambda: profile


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    rest = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
