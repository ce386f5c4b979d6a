"""The agent as a whole: what it may import, what Python it must run on, how it ends."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit.agent
from edgekit.agent.errors import AgentError
from edgekit.agent.jobs import run_job
from edgekit.agent.main import main
from edgekit.agent.runtimes.table import RUNTIMES, runtime_class

FOLDER = Path(next(iter(edgekit.agent.__path__)))
SOURCES = sorted(FOLDER.rglob("*.py"))
ALLOWED = {"numpy", "onnxruntime", "tensorrt", "torch", "edgekit"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_every_file_is_python_3_8(source: Path):
    ast.parse(source.read_text(), feature_version=(3, 8))


def test_every_file_compiles_under_a_real_python_3_8(tmp_path: Path):
    candidates = [shutil.which("python3.8"), *map(str, Path.home().glob(".pyenv/versions/3.8.*/bin/python"))]
    found = [path for path in candidates if path and _is_python_3_8(path)]
    if not found:
        pytest.skip("no Python 3.8 on PATH or in ~/.pyenv")
    for source in SOURCES:
        target = tmp_path / "out.pyc"
        code = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], doraise=True)"
        subprocess.run([found[0], "-c", code, str(source), str(target)], check=True)


def _is_python_3_8(path: str) -> bool:
    code = "import sys; sys.exit(sys.version_info[:2] != (3, 8))"
    return subprocess.run([path, "-c", code], stderr=subprocess.DEVNULL).returncode == 0  # a pyenv shim may refuse


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_only_the_standard_library_numpy_and_the_agent_are_imported(source: Path):
    for node in ast.walk(ast.parse(source.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            assert top in ALLOWED or top in sys.stdlib_module_names, name
            assert top != "edgekit" or name == "edgekit" or name.startswith("edgekit.agent"), name


def test_a_failed_job_writes_its_error_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    job, result = tmp_path / "job.json", tmp_path / "result.json"
    job.write_text(json.dumps({"kind": "bake"}))
    assert main([str(job), str(result)]) == 1
    error = json.loads(result.read_text())["error"]
    assert error == {
        "what": "no job is of kind 'bake'",
        "where": "job, kind",
        "fix": "kinds: build_engine, compare_passport, describe, doctor, infer, profile",
    }
    assert "AgentError" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.json", "result.json"]


def test_an_unreadable_job_is_an_error_too(tmp_path: Path):
    result = tmp_path / "result.json"
    (tmp_path / "job.json").write_text("{")
    assert main([str(tmp_path / "job.json"), str(result)]) == 1
    assert json.loads(result.read_text())["error"]["where"].endswith("job.json")


def test_wrong_usage_ends_with_2():
    assert main(["only-one.json"]) == 2


def test_a_job_without_a_key_names_it(tmp_path: Path):
    with pytest.raises(AgentError) as caught:
        run_job({"kind": "infer"}, tmp_path)
    assert caught.value.what == "the job names no 'artifact'"


def test_an_unknown_runtime_is_answered_with_the_known_ones():
    with pytest.raises(AgentError) as caught:
        runtime_class("tensorflow")
    assert caught.value.fix == "runtimes: " + ", ".join(sorted(RUNTIMES))
    assert set(RUNTIMES) >= {"litert", "onnxruntime", "onnxruntime-unfused", "tflite-runtime", "tensorrt", "torch-cuda"}


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtimes_file_needs_no_library_of_its_own(name: str):
    assert runtime_class(name).__module__.startswith("edgekit.agent.runtimes.")


def test_describe_tells_the_machine(tmp_path: Path):
    result = run_job({"kind": "describe"}, tmp_path)
    assert result["python"] == ".".join(map(str, sys.version_info[:3]))
    assert result["libraries"]["numpy"]
    assert result["memory_bytes"] > 100_000_000
