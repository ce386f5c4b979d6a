from pathlib import Path
from typing import Any

import pytest

from edgekit.release.bundle import write_bundle
from edgekit.store.builds import record_build
from edgekit.store.profiles import Origin, ProfileStore
from tests.edgekit.store.made import build_number, profile_of, stand_in, timed


@pytest.fixture
def add(tmp_path: Path):
    """Adds a profile of a build to the database of the working directory."""

    def run(number: int, level_ms: float, **changes: Any) -> int:
        with ProfileStore(tmp_path / ".edgekit" / "profiles.sqlite") as store:
            key = store.add(profile_of(timed(level_ms, number), **changes), Origin("kws", "pi", ships=True))
            record_build(store.database, build_number(number), [key])
            return key

    return run


def test_slower_with_its_interval_and_the_sizes(edgekit, add):
    add(1, 1.0, peak_rss_bytes=61_000_000)
    add(2, 1.2, peak_rss_bytes=65_000_000, runtime_version="1.3")
    result = edgekit("compare", "111111", "222222")
    assert result.exit_code == 0
    text = result.output
    assert f"A  build {'1' * 12}: build {'1' * 12} of kws for pi, commit {'c1' * 6}" in text
    (row,) = (line for line in text.splitlines() if " slower" in line)
    assert row.split()[:3] == ["model.onnx", "bench", "onnxruntime"]
    assert "61.0" in row
    assert "65.0" in row
    assert "model.onnx on bench: also differs in onnxruntime version: 1.2, 1.3" in text
    (size,) = (line for line in text.splitlines() if "25.0" in line)
    assert "not measured" in size


def test_no_significant_change_is_an_answer(edgekit, edgekit_json, add):
    add(1, 1.0)
    add(2, 1.002)
    assert " no significant change" in edgekit("compare", "111111", "222222").output
    code, document = edgekit_json("compare", "1", "2")
    assert code == 0
    (pair,) = document["latency"]
    assert pair["verdict"] == "no significant change"
    assert pair["change_low"] < pair["change"] < pair["change_high"]
    assert (pair["a"]["id"], pair["b"]["id"]) == (1, 2)
    assert document["a"] == {"label": "profile 1", "build": None, "git_commit": None}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 0),
        (("--fail-if-slower",), 3),
        (("--fail-if-slower", "0.1"), 3),
        (("--fail-if-slower", "0.3"), 0),
    ],
)
def test_slower_fails_only_where_asked_and_by_more_than_allowed(edgekit, add, words: tuple[str, ...], code: int):
    add(1, 1.0)
    add(2, 1.2)
    result = edgekit("compare", "1", "2", *words)
    assert result.exit_code == code
    assert ("slower by more than" in result.output) == (code == 3)
    assert edgekit("compare", "2", "1", *words).exit_code == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (stand_in(), "B was measured on a stand-in"),
        ({"valid": False, "reasons": ("noisy",)}, "B is INVALID: noisy"),
    ],
)
def test_what_cannot_be_judged_does_not_pass(edgekit, add, changes: dict[str, Any], reason: str):
    add(1, 1.0, **(stand_in() if "stand_in" in changes else {}))
    add(2, 1.2, **changes)
    assert edgekit("compare", "1", "2").exit_code == 0
    result = edgekit("compare", "1", "2", "--fail-if-slower")
    assert result.exit_code == 4
    assert "not judged: " in result.output
    assert reason.removeprefix("B ") in result.output


def test_other_devices_are_not_compared_silently(edgekit, edgekit_json, add):
    add(1, 1.0)
    add(2, 1.2, device="other")
    result = edgekit("compare", "1", "2")
    assert result.exit_code == 1
    assert "NOT COMPARED" in result.output
    assert "model.onnx on other: differs in device: bench, other" in result.output
    across = edgekit("compare", "1", "2", "--across")
    assert across.exit_code == 0
    assert " slower" in across.output
    assert "differs in device: bench, other" in across.output
    code, document = edgekit_json("compare", "1", "2")
    assert (code, document["latency"][0]["verdict"]) == (1, "not compared")
    assert document["latency"][0]["change"] is None


def test_bundles_are_compared_by_their_folders(edgekit, draft_of, tmp_path: Path):
    first = write_bundle(tmp_path / "one", "quickstart", draft_of())
    draft = draft_of()
    slower = tuple(
        profile.model_copy(
            update={"summary": profile.summary, "samples_ms": tuple(2 * value for value in profile.samples_ms)}
        )
        for profile in draft.full_profiles
    )
    second = write_bundle(tmp_path / "two", "quickstart", draft_of(full_profiles=slower))
    result = edgekit("compare", str(first), str(second))
    assert result.exit_code == 0
    rows = [line for line in result.output.splitlines() if " slower" in line]
    assert len(rows) == 2
    assert "+100.0 %" in rows[1]
    assert "stand-in for jetson-orin-nano" in result.output
    assert "98.11 %" in result.output


def test_a_name_that_means_nothing_is_an_error(edgekit, add):
    add(1, 1.0)
    result = edgekit("compare", "1", "nonsense")
    assert result.exit_code == 1
    assert "nothing is known by the name 'nonsense'" in result.stderr
