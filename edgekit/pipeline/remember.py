"""What of a build goes into the history, and how the history judges what was measured."""

from __future__ import annotations

import time
from collections.abc import Sequence

from edgekit.pipeline.artifacts import Exported
from edgekit.pipeline.measure import Measured
from edgekit.pipeline.plan import Plan
from edgekit.profiling.compare import Comparison
from edgekit.schema.manifest import Manifest
from edgekit.store.builds import build_of, record_build
from edgekit.store.profiles import Origin, ProfileStore
from edgekit.store.released import against_release


def remember_profiles(
    history: ProfileStore, plan: Plan, exported: Sequence[Exported], measured: Measured, commit: str | None
) -> tuple[int, ...]:
    """Keep every profile with what is known of its artifact; their numbers, for `remember_build`.

    Args:
        exported: every artifact that was measured, whether it ships or not.
        measured: told what ships.
        commit: of the user's project.
    """
    precisions = {item.row.sha256: item.row.precision for item in exported}
    recipe, target = plan.recipe.recipe.name, plan.target.target.name
    keys = []
    for ships, profiles in ((True, measured.profiles), (False, measured.references)):
        for profile in profiles:
            precision = precisions.get(profile.artifact_sha256)
            origin = Origin(recipe=recipe, target=target, git_commit=commit, precision=precision, ships=ships)
            known = history.number_of(profile)  # one that was not measured again
            keys.append(history.add(profile, origin) if known is None else known)
    return tuple(keys)


def remember_build(history: ProfileStore, manifest: Manifest, profiles: Sequence[int], commit: str | None) -> None:
    """Keep the build, and note on its profiles that they are of it: its digest is known only when it is written."""
    # by the clock: SOURCE_DATE_EPOCH gives many builds one time
    record_build(history.database, build_of(manifest, commit, time.time()), profiles)


def find_regressions(history: ProfileStore, plan: Plan, measured: Measured) -> dict[str, Comparison | str]:
    """By artifact: how it compares with the last release, or why that cannot be said. Empty where no gate asks."""
    if plan.gates.latency_regression is None:
        return {}
    recipe, target = plan.recipe.recipe.name, plan.target.target.name
    return {profile.artifact: against_release(history, recipe, target, profile) for profile in measured.profiles}
