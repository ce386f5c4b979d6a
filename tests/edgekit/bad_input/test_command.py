"""What is wrong with the command line, the YAML or the machine: three fields, and nothing half-written."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from edgekit.release.bundle import read_manifest
from edgekit.release.verify import verify_bundle
from tests.edgekit.bad_input.conftest import half_written
from tests.edgekit.pipeline.conftest import MODULE, RECIPE

BUNDLE = "own-cpu-x86-64"


def test_what_is_left_half_written_is_seen(folder):
    assert half_written(folder) == []
    whole, part = (folder / "home" / "steps" / "ab" / name for name in ("ab" * 32, ".ab.1234"))
    for path in (whole, part, folder / "dist", folder.parent / "temporary" / "x"):
        path.mkdir(parents=True)
    assert sorted(half_written(folder)) == sorted(
        ["work/dist", "temporary/x", f"work/home/steps/ab/{whole.name}", f"work/home/steps/ab/{part.name}"]
    )


@pytest.mark.parametrize(
    ("over", "what", "where", "near"),
    [
        ({"steps": [{"quantise": {}}]}, "no pass is called 'quantise'", "own.yaml: steps.0", "quantize"),
        ({"steps": [{"train": {"epoch": 3}}]}, "unknown key 'epoch'", "own.yaml: steps.0.train", "epochs"),
        ({"stepz": []}, "unknown key 'stepz'", "own.yaml", "steps"),
        ({"model": {"factry": "x:y"}}, "unknown key 'factry'", "own.yaml: model", "factory"),
        ({"export": {"formats": ["onx"]}}, "'onx' is not one of its values", "own.yaml: export.formats.0", "onnx"),
        ({"metric": "top-1"}, "no metric is called 'top-1'", "own.yaml: metric", "top1"),
        ({"data": "digit"}, "no calibration set is called 'digit'", "calib", "digits"),
    ],
)
def test_an_unknown_name_in_the_recipe_is_named_with_the_nearest(refused, over, what, where, near):
    error = refused(over=over)
    assert what in error.what
    assert where in error.where
    assert f"did you mean {near!r}?" in error.fix


def test_an_unknown_target_or_recipe_is_named_with_the_nearest(refused):
    error = refused(target="jetsn")
    assert error.what == "no target is called 'jetsn'"
    assert "targets" in error.where
    assert "did you mean 'jetson'?" in error.fix
    error = refused(recipe="quickstat")
    assert error.what == "no recipe is called 'quickstat'"
    assert "did you mean 'quickstart'?" in error.fix


@pytest.mark.parametrize(
    ("word", "what", "fix"),
    [
        ("steps.0.trian.epochs=3", "step 0 is 'train', not 'trian'", "did you mean 'train'?"),
        ("modle=3", "unknown key 'modle'", "did you mean 'model'?"),
        ("steps.7.train.epochs=3", "no step has the number 7", "steps: 0 is train"),
        ("seed", "'seed' is not key=value", "write --set"),
        ("seed=[1", "not YAML", "correct the line"),
    ],
)
def test_a_wrong_setting_is_named_as_it_was_given(refused, word, what, fix):
    error = refused("--set", word)
    assert what in error.what
    assert "--set" in error.where
    assert fix in error.fix


@pytest.mark.parametrize(
    ("text", "what", "line", "column"),
    [
        ("name: own\nmodel: {a: [1, 2\nsteps: 3\n", "expected ',' or ']'", 3, 6),
        ("name: own\n  model: 3\n", "mapping values are not allowed", 2, 8),
        ("name: own\n\tmodel: 3\n", "cannot start any token", 2, 1),
        ("name: own\nname: two\n", "key 'name' is written twice", 2, None),
        ("name: !!python/object:os.system x\n", "tag", 1, None),
    ],
)
def test_wrong_yaml_is_named_with_its_line(refused, folder, text, what, line, column):
    (folder / "own.yaml").write_text(text)
    error = refused()
    assert what in error.what
    assert error.where.endswith(f"own.yaml, line {line}" + (f", column {column}" if column else ""))


@pytest.mark.parametrize("place", ["dist", f"dist/{BUNDLE}"])
def test_a_file_where_the_bundle_should_lie_is_refused_before_anything_runs(refused, folder, place):
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text("mine")
    with pytest.raises(AssertionError):  # what lies there is the user's, and stays
        refused()
    assert (folder / place).read_text() == "mine"
    error = refused("--out", f"{place}/deeper" if place == "dist" else "dist", kept=("dist",))
    assert place in error.where
    assert "choose another --out" in error.fix
    assert not (folder / "home" / "steps").exists()


@pytest.fixture
def mounted(folder):
    """Mounts a small file system at `folder / small`."""
    place = folder / "small"
    place.mkdir()
    done = []

    def mount(options):
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        try:
            tried = subprocess.run(words, capture_output=True, check=False)
        except OSError as err:
            pytest.skip(f"nothing can be mounted here: {err}")
        if tried.returncode:
            pytest.skip(f"nothing can be mounted here: {tried.stderr.decode().strip()}")
        done.append(place)
        return place

    yield mount
    for path in done:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(refused, folder, mounted):
    mounted("size=64k,ro")
    error = refused("--out", "small/out")
    assert error.what == "the folder cannot be written"
    assert error.where.endswith("small")
    assert "choose another --out" in error.fix
    assert not (folder / "home" / "steps").exists()


def test_a_full_disk_under_the_store_is_named_and_leaves_no_step(refused, mounted, monkeypatch):
    mounted("size=160k")  # enough for the database, too little for a step
    monkeypatch.setenv("EDGEKIT_HOME", "small")
    error = refused(home=Path("small"))
    assert "No space left on device" in error.what
    assert error.where.startswith("small/steps/")
    assert "free space" in error.fix


def test_a_full_disk_under_the_bundle_is_named_and_leaves_nothing(refused, mounted):
    pytest.importorskip("onnxruntime", reason="builds and runs an ONNX artifact")
    place = mounted("size=16k")
    error = refused("--out", "small")
    assert "No space left on device" in error.what
    assert error.where == f"small/{BUNDLE}"
    assert "free space" in error.fix
    assert list(place.iterdir()) == []


def fill(monkeypatch, below):
    """Makes every write below a folder fail as on a full disk, where nothing can be mounted."""
    write_bytes = Path.write_bytes

    def full(path, content):
        if below in path.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the system names no file either
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)


@pytest.mark.parametrize(("below", "where"), [("home", "home/steps/"), ("dist", f"dist/{BUNDLE}")])
def test_a_write_that_fails_is_named_and_leaves_nothing(refused, folder, monkeypatch, below, where):
    pytest.importorskip("onnxruntime", reason="builds and runs an ONNX artifact")
    fill(monkeypatch, below)
    error = refused("--set", "steps=[]")
    assert "No space left on device" in error.what
    assert error.where.startswith(where)
    assert "free space" in error.fix


def test_a_missing_torch_is_named_with_the_command_that_brings_it(folder):
    words = ["build", "own.yaml", "--target", "cpu-x86-64"]
    program = f"import sys; sys.modules['torch'] = None; from edgekit.cli.main import cli; cli({words!r})"
    done = run([sys.executable, "-c", program], folder)
    assert done.returncode == 1
    what, where, fix = done.stderr.strip().splitlines()[-3:]
    assert what == "error: torch is not installed"
    assert sys.prefix in where
    assert "pip install 'edgekit[torch]'" in fix
    assert half_written(folder) == []


@pytest.mark.parametrize(
    ("library", "format_name", "extra"), [("onnxscript", "onnx", "onnx"), ("litert_torch", "tflite", "tflite")]
)
def test_a_missing_exporter_is_named_with_the_command_that_brings_it(refused, monkeypatch, library, format_name, extra):
    def absent(*arguments, **options):
        raise ModuleNotFoundError(f"No module named {library!r}", name=library)

    monkeypatch.setattr("torch.onnx.export", absent)  # which imports onnxscript when it is called
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    error = refused("--set", "steps=[]", "--set", f"export.formats=[{format_name}]")
    assert "is not installed" in error.what
    assert library in error.what
    assert error.where == f"format {format_name}"
    assert error.fix == f"pip install 'edgekit[{extra}]'"


def run(words, folder, **more):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, cwd=folder, env={**environment, **more}, capture_output=True, text=True, timeout=300, check=False
    )


# A metric that waits, where a file says so, when it is asked for the second time: after the step `train`.
WAITING = MODULE.replace(
    "    return float(",
    """    import pathlib, time
    if pathlib.Path("wait").exists():
        if pathlib.Path("loaded").exists():
            pathlib.Path("asked").touch()
            time.sleep(100)
        pathlib.Path("loaded").touch()
    return float(""",
)
QUICK = {"steps": [{"train": {"epochs": 1, "batch_size": 16, "learning_rate": 0.1}}, "quantize"]}
WORDS = [sys.executable, "-m", "edgekit", "build", "own.yaml", "--target", "cpu-x86-64"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder in which two builds ran at once in one store, and what each of them said."""
    pytest.importorskip("onnxruntime", reason="builds and runs an ONNX artifact")
    folder = tmp_path_factory.mktemp("shared")
    write_own(folder)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [*WORDS, "--out", out], cwd=folder, env={**environment, "EDGEKIT_HOME": "home"}, stderr=subprocess.PIPE
        )
        for out in ("one", "two")
    ]
    said = [process.communicate(timeout=300)[1].decode() for process in both]
    return folder, [process.returncode for process in both], said


def write_own(folder):
    (folder / "own_code.py").write_text(WAITING)
    (folder / "own_scale.py").write_text("SCALE = 1.0\n")
    (folder / "own.yaml").write_text(yaml.safe_dump({**yaml.safe_load(RECIPE), **QUICK}))


def test_two_builds_at_once_in_one_store_are_both_right(shared):
    folder, codes, said = shared
    assert codes == [0, 0], said
    one, two = (folder / out / BUNDLE for out in ("one", "two"))
    assert verify_bundle(one).ok
    assert verify_bundle(two).ok
    assert read_manifest(one).content_digest == read_manifest(two).content_digest
    steps = [path.name for path in (folder / "home" / "steps").glob("??/*")]
    assert {len(name) for name in steps} == {64}  # whole entries; no folder and no lock of either is left


def test_an_interrupted_build_goes_on_to_the_same_bundle(shared, tmp_path):
    write_own(tmp_path)
    (tmp_path / "wait").touch()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "EDGEKIT_HOME": "home"}
    first = subprocess.Popen(
        WORDS,
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # what is started in the background of a script ignores an interrupt, and so does all that it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not (tmp_path / "asked").exists():
            assert first.poll() is None, first.communicate()
            time.sleep(0.05)
        first.send_signal(signal.SIGINT)
        said = first.communicate(timeout=60)[1]
    finally:
        first.kill()
    assert first.returncode == 130, said
    assert said.splitlines()[-1] == "interrupted: run the same command to resume"
    assert half_written(tmp_path) == []
    (tmp_path / "wait").unlink()
    second = run(WORDS, tmp_path, EDGEKIT_HOME="home")
    assert second.returncode == 0, second.stderr
    assert "load: stored" in second.stderr
    assert "train: stored" not in second.stderr
    again = read_manifest(tmp_path / "dist" / BUNDLE)
    assert again.content_digest == read_manifest(shared[0] / "one" / BUNDLE).content_digest
