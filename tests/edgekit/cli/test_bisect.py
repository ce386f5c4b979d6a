from pathlib import Path

import pytest

from edgekit.store.builds import record_build
from edgekit.store.profiles import Origin, ProfileStore
from tests.edgekit.store.made import build_number, profile_of, timed


@pytest.fixture
def history(tmp_path: Path):
    """Builds 1, 2, ... of these levels in the database of the working directory."""

    def fill(*levels_ms: float) -> None:
        with ProfileStore(tmp_path / ".edgekit" / "profiles.sqlite") as store:
            for number, level_ms in enumerate(levels_ms, 1):
                key = store.add(profile_of(timed(level_ms, number)), Origin("kws", "pi", ships=True))
                record_build(store.database, build_number(number), [key])

    return fill


def test_the_first_slower_build_is_named_with_its_commit(edgekit, history):
    history(1.0, 1.0, 1.2, 1.2)
    result = edgekit("bisect", "--good", "111111", "--bad", "c4c4c4")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "model.onnx of kws for pi, onnxruntime on bench, p50_ms"
    (row,) = (line for line in lines if line.endswith("bad  ← the first"))
    assert row.split()[:2] == ["33333333", "c3c3c3c3"]
    assert "2 builds and 2 profiles between the two ends" in lines
    assert lines[-1] == f"first worse build: {'3' * 12} (commit {'c3' * 6})"


def test_what_cannot_be_said_is_inconclusive(edgekit, edgekit_json, history):
    history(1.0, 1.2, 1.0)
    text = edgekit("bisect", "--good", "111111", "--bad", "333333").output
    assert text.splitlines()[-1] == "inconclusive: no significant change between the two ends"
    code, document = edgekit_json("bisect", "--good", "111111", "--bad", "333333")
    assert (code, document["conclusive"], document["first_bad"]) == (0, False, None)
    assert [point["state"] for point in document["points"]] == ["good", "bad", "unclear"]


def test_an_end_that_is_no_build_is_an_error(edgekit, history):
    history(1.0, 1.2)
    result = edgekit("bisect", "--good", "1", "--bad", "222222")
    assert result.exit_code == 1
    assert "profile 1 is no build" in result.stderr
