from pathlib import Path

import pytest

from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.store.profiles import Origin, ProfileStore
from tests.edgekit.store.made import hours_before, profile_of, stand_in, timed


@pytest.fixture
def store(tmp_path: Path):
    with ProfileStore(tmp_path / ".edgekit" / "profiles.sqlite") as opened:
        yield opened


def fill(store: ProfileStore) -> None:
    origin = Origin("kws", "pi", "b" * 64, "c" * 40 + "-dirty", "int8", True)
    store.add(profile_of(timed(2.0, 0, 1200), peak_rss_bytes=61_000_000, measured_at=hours_before(50)), origin)
    store.add(profile_of(measured_at=hours_before(30), valid=False, reasons=("noisy", "drifted")))
    store.add(profile_of(**stand_in()))
    store.add(profile_of(measured_at=hours_before(0.5), **stand_in(reasons=("noisy", "stand-in"))))


def test_one_line_a_profile_newest_first_and_labelled(edgekit, store: ProfileStore):
    fill(store)
    result = edgekit("history")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    rows = [line for line in lines if line.lstrip()[:2].strip().isdigit() and "bench" in line]
    assert [row.split()[0] for row in rows] == ["4", "3", "2", "1"]
    assert rows[0].endswith("stand-in for jetson-orin-nano; INVALID: noisy")
    assert rows[1].endswith("stand-in for jetson-orin-nano")
    assert rows[2].endswith("INVALID: noisy, drifted")
    assert rows[3].endswith("VALID")
    first = store.get(1).summary
    for word in (
        "2026-03-02 10:00",
        "kws",
        "int8",
        "onnxruntime 1.2",
        f"{first.p50_ms:.4g} [{first.p50_low_ms:.4g}, {first.p50_high_ms:.4g}]",
        f"{first.p99_ms:.4g}",
        "61.0",
        "bbbbbbbb",
        "cccccccc-dirty",
    ):
        assert f" {word} " in rows[3]
    assert " threads " in lines[0]
    assert " mJ " not in lines[0]  # nobody measured it
    assert lines[-1] == f"4 profiles in {Path('.edgekit/profiles.sqlite')}"


def test_filters(edgekit_json, store: ProfileStore):
    fill(store)
    code, document = edgekit_json("history", "--recipe", "kws", "--target", "pi")
    assert (code, [row["id"] for row in document["profiles"]]) == (0, [1])
    assert document["profiles"][0]["p50_ms"] == store.get(1).summary.p50_ms
    for words, found in (
        (("--valid-only",), [1]),
        (("--artifact", "aaaaaa", "--limit", "1"), [4]),
        (("--since", "2026-03-03"), [4, 3, 2]),
        (("--device", "none"), []),
        (("--runtime", "onnxruntime"), [4, 3, 2, 1]),
    ):
        assert [row["id"] for row in edgekit_json("history", *words)[1]["profiles"]] == found
    assert edgekit_json("history", "--limit", "1")[1]["more"] is True
    assert edgekit_json("history", "--limit", "4")[1]["more"] is False


def test_nothing_measured_yet_is_told_and_nothing_is_made(edgekit, tmp_path: Path):
    result = edgekit("history")
    assert result.exit_code == 0
    assert list(tmp_path.iterdir()) == []
    assert result.output == "no such profile in .edgekit/profiles.sqlite\n"


def test_another_database_is_named_in_the_environment(edgekit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with ProfileStore(tmp_path / "lab.sqlite") as lab:
        fill(lab)
    monkeypatch.setenv("EDGEKIT_DB", str(tmp_path / "lab.sqlite"))
    assert "4 profiles in" in edgekit("history").output


def test_a_database_that_cannot_be_reached_is_three_lines(edgekit, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDGEKIT_DB", "postgresql://me:secret@localhost:1/none")
    result = edgekit("history")
    assert result.exit_code == 1
    assert "where: postgresql+psycopg://me:***@localhost:1/none" in result.stderr
    assert "secret" not in result.stderr


def test_a_bundle_is_marked_as_released(edgekit, edgekit_json, draft_of, tmp_path: Path):
    bundle = write_bundle(tmp_path / "dist", "quickstart", draft_of())
    digest = read_manifest(bundle).content_digest
    assert edgekit("history", "releases").output == "no release is marked in .edgekit/profiles.sqlite\n"
    result = edgekit("history", "mark-release", str(bundle), "--name", "v1.2")
    assert result.exit_code == 0
    assert f"release v1.2: build {digest[:12]} of quickstart for jetson-orin-nano" in result.output
    assert "2 profiles taken from the bundle" in result.output
    code, document = edgekit_json("history", "mark-release", str(bundle), "--name", "v1.2")
    assert (code, document["profiles_added"], document["release"]["build"]) == (0, 0, digest)
    table = edgekit("history", "releases").output
    assert "v1.2" in table
    assert digest[:8] in table
    assert edgekit_json("history", "releases", "--recipe", "other")[1]["releases"] == []


def test_a_folder_that_is_no_bundle_cannot_be_released(edgekit, tmp_path: Path):
    result = edgekit("history", "mark-release", str(tmp_path))
    assert result.exit_code == 1
    assert "name the folder of a bundle" in result.stderr
