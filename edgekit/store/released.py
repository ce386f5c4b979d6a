"""Releases: marking a bundle as one, and how later measurements stand against the last of them."""

from __future__ import annotations

from pathlib import Path

from edgekit.profiling.compare import Comparison, compare, differences
from edgekit.schema.gates import NO_RELEASE
from edgekit.schema.profile import Profile
from edgekit.store.builds import Release, build_of, mark_release, read_build_lines, read_releases, record_build
from edgekit.store.history import Wanted, read_history
from edgekit.store.profiles import Origin, ProfileStore
from edgekit.store.sides import read_bundle

_DIGITS = 12


def mark_bundle(store: ProfileStore, folder: Path, name: str | None = None) -> tuple[Release, int]:
    """Mark the bundle in `folder` as a release, and keep its profiles that are not in the database yet.

    Args:
        name: None: the first digits of its content digest.

    Returns:
        The release, and how many profiles were added.

    Raises:
        BundleError: it is no bundle, or its profiles were altered.
        StoreError: another build has that name, or the database cannot be written.
    """
    manifest, profiles = read_bundle(folder)
    build = build_of(manifest)
    release = mark_release(store.database, build, name or build.digest[:_DIGITS])
    precisions = {row.path: row.precision for row in build.artifacts}
    known = {
        (line.artifact_sha256, line.device, line.runtime, line.measured_at): line
        for row in build.artifacts
        for line in read_history(store.database, Wanted(artifact=row.sha256))
    }
    added = 0
    unassigned = []
    for profile in profiles:
        line = known.get((profile.artifact_sha256, profile.device, profile.runtime, profile.measured_at))
        if line is None:
            origin = Origin(
                build.recipe, build.target, build.digest, build.git_commit, precisions.get(profile.artifact), True
            )
            store.add(profile, origin)
            added += 1
        elif line.build is None:
            unassigned.append(line.id)
    record_build(store.database, build, unassigned)
    return release, added


def against_release(store: ProfileStore, recipe: str, target: str, profile: Profile) -> Comparison | str:
    """How a profile compares with the newest one of the last release, or why that cannot be said.

    The release's profile is of the same artifact in the same runtime on the same device.

    Raises:
        StoreError: the database cannot be read.
    """
    releases = read_releases(store.database, recipe=recipe, target=target)
    if not releases:
        return NO_RELEASE
    release = releases[0]
    wanted = Wanted(device=profile.device, runtime=profile.runtime, shipped_only=True)
    found = read_build_lines(store.database, release.build, wanted)
    lines = [line for line in found if line.artifact == profile.artifact]
    if not lines:
        return f"release {release.name}: {profile.artifact} was not measured on {profile.device} in {profile.runtime}"
    reference = store.get(lines[0].id)
    if reference.stand_in:
        return f"release {release.name} was measured on a stand-in"
    if not reference.valid:
        return f"release {release.name}: profile INVALID: {', '.join(reference.reasons)}"
    if forbidding := differences(reference, profile).forbidding:
        return f"release {release.name} was measured otherwise: {'; '.join(forbidding)}"
    return compare(reference, profile)
