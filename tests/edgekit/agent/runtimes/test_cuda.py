"""CUDA by ctypes, on a fake library whose memory is this process's."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import edgekit.agent.runtimes.cuda as cuda_module
from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.cuda import Cuda, library_names, load_library
from tests.edgekit.agent.runtimes.fake_gpu import RECORDED, FakeCudart

USED = set(re.findall(r'"(cuda[A-Z]\w*)"|\.(cuda[A-Z]\w*)', Path(cuda_module.__file__).read_text()))
FUNCTIONS = {first or second for first, second in USED}


@pytest.mark.parametrize("library", ["cudart-11.8", "cudart-12.9", "cudart-13.5"])
def test_every_function_that_is_called_is_in_cudas_libraries(library: str):
    recorded = set(json.loads((RECORDED / f"{library}.json").read_text())["functions"])
    assert len(FUNCTIONS) >= 13
    missing = FUNCTIONS - recorded
    assert missing <= {"cudaGetDeviceProperties_v2"}, missing  # in 12 alone, and asked for first


def test_what_is_copied_in_comes_back():
    library = FakeCudart()
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    with Cuda(library=library) as cuda:
        address = cuda.allocate(given.nbytes)
        cuda.to_device(address, given)
        back = np.zeros_like(given)
        cuda.to_host(back, address)
        cuda.synchronise()
        np.testing.assert_array_equal(back, given)
        assert library.copied == [1, 2]
        assert cuda.memory_bytes() == (1_000_000 - 24, 1_000_000)
    assert library.memory == {}
    assert library.streams == 0


def test_memory_can_be_given_back_early():
    library = FakeCudart()
    with Cuda(library=library) as cuda:
        first, second = cuda.allocate(10), cuda.allocate(20)
        cuda.free(first)
        assert list(library.memory) == [second]


def test_facts_are_those_of_the_device():
    with Cuda(library=FakeCudart()) as cuda:
        assert cuda.facts() == {
            "gpu": "Fake GPU",
            "sm": "8.7",
            "integrated": True,
            "cuda_runtime": "12.6",
            "cuda_driver": "12.8",
        }


def test_a_failing_call_is_named_with_its_error():
    with Cuda(library=FakeCudart(fails={"cudaMalloc": 2})) as cuda, pytest.raises(AgentError) as caught:
        cuda.allocate(10)
    assert caught.value.what == "cudaMalloc: out of memory (error 2)"
    assert "free memory" in caught.value.fix


def test_no_driver_points_at_the_driver():
    with pytest.raises(AgentError) as caught:
        Cuda(library=FakeCudart(fails={"cudaGetDeviceCount": 100})).__enter__()
    assert "error 100" in caught.value.what
    assert "nvidia-smi" in caught.value.fix


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(AgentError) as caught:
        Cuda(1, FakeCudart(devices=1)).__enter__()
    assert caught.value.what == "there is no GPU 1"
    assert "has 1" in caught.value.fix


def test_a_board_without_cuda_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cuda_module, "library_names", lambda: iter(["libno-such-thing.so"]))
    with pytest.raises(AgentError) as caught:
        load_library()
    assert caught.value.what == "libcudart cannot be found"


def test_pips_libraries_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = tmp_path / "nvidia" / "cu13" / "lib"
    place.mkdir(parents=True)
    (place / "libcudart.so.13").touch()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert str(place / "libcudart.so.13") in list(library_names())
