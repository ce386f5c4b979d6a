from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgekit.devices.zipapp import agent_version
from edgekit.pipeline.stored import ago, stored_profiles
from edgekit.profiling.statistics import summarise
from edgekit.schema.device import Device
from edgekit.schema.profile import Conditions, MeasureSettings, Profile
from edgekit.store.profiles import ProfileStore

DEVICE = Device(name="bench", target="cpu-x86-64")
LIBRARIES = {"onnxruntime": "1.31.1"}
SETTINGS = MeasureSettings()
FILES = [(Path(f"{name}.onnx"), SimpleNamespace(sha256=name * 64), "onnxruntime") for name in ("a", "b")]


def measured(name: str, at: datetime, **changes) -> Profile:
    samples = (1.0,) * 1000
    extra = {"identity": "this one", "interleaved": ["a" * 64, "b" * 64]}
    fields = {
        "artifact": f"{name}.onnx",
        "artifact_sha256": name * 64,
        "device": "bench",
        "stand_in": False,
        "runtime": "onnxruntime",
        "runtime_version": "1.31.1",
        "agent_version": agent_version(),
        "settings": SETTINGS,
        "samples_ms": samples,
        "summary": summarise(samples),
        "conditions": Conditions(extra=extra),
        "valid": True,
        "measured_at": at.isoformat(timespec="milliseconds"),
        "libraries": LIBRARIES,
    }
    return Profile.model_validate({**fields, **changes})


@pytest.fixture
def history(tmp_path: Path):
    with ProfileStore(tmp_path / "profiles.sqlite") as store:
        yield store


def found(history, **changes):
    asked = {"identity": "this one", "libraries": LIBRARIES, **changes}
    return stored_profiles(history, DEVICE, None, **asked)(FILES, SETTINGS)


def test_what_was_measured_together_is_taken_together(history):
    now = datetime.now(UTC)
    both = [measured(name, now - timedelta(hours=3)) for name in ("a", "b")]
    numbers = [history.add(profile) for profile in both]
    assert found(history) == both
    assert [history.number_of(profile) for profile in both] == numbers
    assert history.number_of(measured("a", now)) is None


@pytest.mark.parametrize("gap", ["one is missing", "of two jobs", "measured alone", "too old", "noisy"])
def test_anything_less_is_measured_anew(history, gap: str):
    now = datetime.now(UTC) - timedelta(hours=25 if gap == "too old" else 3)
    history.add(measured("a", now))
    if gap == "of two jobs":
        history.add(measured("b", now + timedelta(minutes=1)))
    elif gap == "measured alone":
        history.add(measured("b", now, conditions=Conditions(extra={"identity": "this one"})))
    elif gap == "noisy":
        history.add(measured("b", now, valid=False, reasons=("noisy",)))
    elif gap == "too old":
        history.add(measured("b", now))
    assert found(history) is None


@pytest.mark.parametrize(
    "changes", [{"identity": "another"}, {"identity": None}, {"libraries": {"onnxruntime": "1.32.0"}}]
)
def test_another_machine_or_another_version_of_a_runtime_is_measured_anew(history, changes):
    now = datetime.now(UTC)
    for name in ("a", "b"):
        history.add(measured(name, now))
    assert found(history) is not None
    assert found(history, **changes) is None


def test_how_long_ago():
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert ago("2026-03-01T11:48:00.000+00:00", now) == "12 min ago"
    assert ago("2026-02-28T15:00:00.000+00:00", now) == "21 h ago"
