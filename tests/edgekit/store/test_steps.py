import errno
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgekit.errors import StoreError
from edgekit.store import folders
from edgekit.store.folders import building_folder, put_in_place
from edgekit.store.steps import StepStore, explain, step_key

PARTS = {"pass": "prune", "options": {"ratio": 0.5, "multiple_of": 8}, "seed": 0}


def write(folder: Path) -> None:
    (folder / "weights").mkdir()
    (folder / "weights" / "w.safetensors").write_bytes(b"0123456789")
    (folder / "model.json").write_text("{}")


def test_key_is_sha256_of_canonical_json_whatever_the_order():
    # by hand: sorted keys, no spaces, tuples as lists, UTF-8
    expected = hashlib.sha256('{"a":[1,2],"b":"ü"}'.encode()).hexdigest()
    assert step_key({"b": "ü", "a": (1, 2)}) == expected


def test_a_part_that_is_not_json_is_refused():
    with pytest.raises(StoreError) as caught:
        step_key({"pass": "x", "path": Path("a")})
    assert "not JSON" in caught.value.what
    with pytest.raises(StoreError):
        step_key({"ratio": float("nan")})


def test_what_was_put_is_found(tmp_path):
    store, key = StepStore(tmp_path), step_key(PARTS)
    assert store.find(key) is None
    folder = store.put(key, write, PARTS)
    assert StepStore(tmp_path).find(key) == folder
    assert (folder / "weights" / "w.safetensors").read_bytes() == b"0123456789"
    assert store.check(key)
    assert store.parts(key) == PARTS
    entry = json.loads((folder / "entry.json").read_text())
    assert entry["files"]["weights/w.safetensors"]["sha256"] == hashlib.sha256(b"0123456789").hexdigest()
    assert [path.name for path in folder.parent.iterdir()] == [key]  # nothing temporary is left


def test_a_file_of_another_size_is_a_miss_and_is_removed(tmp_path, caplog):
    store, key = StepStore(tmp_path), step_key(PARTS)
    folder = store.put(key, write)
    (folder / "model.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert store.find(key) is None
    assert "model.json has 1 bytes, not 2" in caplog.text
    assert not folder.exists()
    assert store.put(key, write) == folder
    assert store.find(key) == folder


def test_an_altered_byte_is_seen_by_check(tmp_path):
    store, key = StepStore(tmp_path), step_key(PARTS)
    folder = store.put(key, write)
    (folder / "model.json").write_text("[]")  # same size
    assert store.find(key) == folder
    assert not store.check(key)
    assert store.find(key) is None


@pytest.mark.parametrize("damage", ["missing", "added", "list", "no list", "link", "other key"])
def test_every_other_damage_is_a_miss(tmp_path, damage):
    store, key = StepStore(tmp_path), step_key(PARTS)
    folder = store.put(key, write)
    if damage == "missing":
        (folder / "model.json").unlink()
    elif damage == "added":
        (folder / "more").write_text("x")
    elif damage == "list":
        (folder / "entry.json").write_text('{"key":')
    elif damage == "no list":
        (folder / "entry.json").unlink()
    elif damage == "link":
        (folder / "model.json").unlink()
        (folder / "model.json").symlink_to("entry.json")
    else:
        other = store.put(step_key({"pass": "other"}), write)
        (folder / "entry.json").write_bytes((other / "entry.json").read_bytes())
    assert store.find(key) is None
    assert not folder.exists()


def test_a_failed_write_stores_nothing_and_its_error_passes_through(tmp_path):
    store, key = StepStore(tmp_path), step_key(PARTS)

    def fail(folder: Path) -> None:
        write(folder)
        raise FileNotFoundError("the step's own")

    with pytest.raises(FileNotFoundError, match="the step's own"):
        store.put(key, fail)
    assert store.find(key) is None
    assert list((tmp_path / key[:2]).iterdir()) == []


def test_a_disk_that_fills_while_a_step_writes_is_the_stores_error_and_names_the_path(tmp_path):
    store, key = StepStore(tmp_path), step_key(PARTS)

    def fail(folder: Path) -> None:
        write(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # what write() raises: it names no file

    with pytest.raises(StoreError) as caught:
        store.put(key, fail)
    assert "No space left on device" in caught.value.what
    assert caught.value.where == str(tmp_path / key[:2] / key)
    assert list((tmp_path / key[:2]).iterdir()) == []


def test_what_cannot_be_stored_is_refused(tmp_path):
    store, key = StepStore(tmp_path), step_key(PARTS)
    with pytest.raises(StoreError, match="no file"):
        store.put(key, lambda folder: None)
    with pytest.raises(StoreError, match="link"):
        store.put(key, lambda folder: (folder / "a").symlink_to("/etc/hostname"))
    with pytest.raises(StoreError, match=r"entry\.json"):
        store.put(key, lambda folder: (folder / "entry.json").touch())
    with pytest.raises(StoreError, match="no key"):
        store.find("../../etc")


def test_two_writers_of_one_key_leave_one_whole_entry(tmp_path):
    store, key = StepStore(tmp_path), step_key(PARTS)
    barrier = threading.Barrier(4)
    found: list[Path] = []

    def slow(folder: Path) -> None:
        write(folder)
        barrier.wait(10)  # all are in the middle of writing

    threads = [threading.Thread(target=lambda: found.append(store.put(key, slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / key[:2] / key] * 4
    assert store.check(key)
    assert [path.name for path in (tmp_path / key[:2]).iterdir()] == [key]


def test_a_writer_replaces_a_damaged_entry_that_another_left(tmp_path):
    store, key = StepStore(tmp_path), step_key(PARTS)

    def write_while_another_leaves_a_damaged_one(folder: Path) -> None:
        write(folder)
        broken = tmp_path / key[:2] / key
        broken.mkdir()
        (broken / "entry.json").write_text("")

    store.put(key, write_while_another_leaves_a_damaged_one)
    assert store.check(key)


KILLED = """
import os, signal, sys
from pathlib import Path
from edgekit.store.steps import StepStore

store = StepStore(Path(sys.argv[1]))
(store.checkpoints(sys.argv[2]) / "epoch").write_text("3")

def write(folder):
    (folder / "half").write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)

store.put(sys.argv[2], write)
"""


def test_a_kill_in_the_middle_leaves_no_entry_and_the_next_run_works(tmp_path):
    key = step_key(PARTS)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), key], check=False)
    assert done.returncode == -signal.SIGKILL
    left = list((tmp_path / key[:2]).rglob("half"))
    assert len(left) == 1  # it was killed in the middle
    store = StepStore(tmp_path)
    assert store.find(key) is None
    assert (store.checkpoints(key) / "epoch").read_text() == "3"
    store.put(key, write)
    assert store.check(key)
    assert [path.name for path in (tmp_path / key[:2]).iterdir()] == [key]  # what the killed one left is gone
    assert list(store.checkpoints(key).iterdir()) == []  # and so are its checkpoints


def test_explain_names_the_part_that_differs():
    new = {"pass": "prune", "options": {"ratio": 0.25, "multiple_of": 8}, "data": "digits"}
    assert explain(PARTS, new) == ('data: "digits" is new', "options.ratio: 0.5 -> 0.25", "seed: 0 is gone")
    assert explain(PARTS, PARTS) == ()


def test_why_not_stored_compares_with_the_nearest_step_of_the_same_pass(tmp_path):
    store = StepStore(tmp_path)
    assert store.why_not_stored(PARTS) == ("nothing like it is stored",)
    far = {**PARTS, "seed": 7, "options": {"ratio": 0.9, "multiple_of": 4}}
    other_pass = {**PARTS, "pass": "distill"}
    for parts in (far, other_pass, {**PARTS, "seed": 5}):
        store.put(step_key(parts), write, parts)
    assert store.why_not_stored(PARTS) == ("seed: 5 -> 0",)
    store.put(step_key(PARTS), write, PARTS)
    assert store.why_not_stored(PARTS) == ()


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_whole(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(folders, "_exchange", lambda first, second: False)
    place = tmp_path / "place"
    for text in ("first", "second"):
        with building_folder(tmp_path, "place") as folder:
            (folder / text).write_text(text)
            put_in_place(folder, place)
    assert os.listdir(place) == ["second"]
    assert os.listdir(tmp_path) == ["place"]
