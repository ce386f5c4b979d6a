"""Profiles that need not be measured again: of the same files, machine, agent, libraries and settings, a day old."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from edgekit.devices.zipapp import agent_version
from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.profile import MeasureSettings, Profile
from edgekit.store.profiles import ProfileStore

Artifacts = Sequence[tuple[Path, ArtifactRow, str]]  # file, row and runtime of each
Stored = Callable[[Artifacts, MeasureSettings], Sequence[Profile] | None]


def nothing_stored(artifacts: Artifacts, settings: MeasureSettings) -> None:
    """Everything is to be measured."""


def stored_profiles(
    history: ProfileStore,
    device: Device,
    stand_in_for: str | None,
    identity: str | None,
    libraries: Mapping[str, str],
) -> Stored:
    """A function that gives valid profiles of the last 24 hours for artifacts that are measured together, or None.

    What was measured in one job is taken together or not at all: only then was every file hit by the same drift.

    Args:
        stand_in_for: target that the device stands in for; None: none.
        identity: of the machine, as it tells now; None: it cannot be told from another, so nothing is taken.
        libraries: of the runtimes there now: another version is measured anew.
    """

    def find(artifacts: Artifacts, settings: MeasureSettings) -> Sequence[Profile] | None:
        if identity is None:
            return None
        together = [row.sha256 for _, row, _ in artifacts] if len(artifacts) > 1 else None
        found = []
        for path, row, runtime in artifacts:
            profile = history.find(
                row.sha256,
                device.name,
                runtime,
                agent_version(),
                settings,
                stand_in_for=stand_in_for,
                identity=identity,
            )
            if profile is None or profile.libraries != dict(libraries):
                return None
            if profile.conditions.extra.get("interleaved") != together or profile.artifact != path.name:
                return None
            found.append(profile)
        return found if len({profile.measured_at for profile in found}) == 1 else None

    return find


def ago(measured_at: str, now: datetime | None = None) -> str:
    """`3 h ago`, `12 min ago`."""
    minutes = ((now or datetime.now(UTC)) - datetime.fromisoformat(measured_at)).total_seconds() / 60
    return f"{minutes / 60:.0f} h ago" if minutes >= 60 else f"{max(minutes, 0):.0f} min ago"
