"""What trtexec is told and what it says.

The times in the summaries are of real runs that were published: with three percentiles in issue 4177 of the repository
NVIDIA/TensorRT, with one in pull request 329 of WongKinYiu/yolov7. Banners and numbers of queries were filled in, in
the words of trtexec's sources. The exported JSON is made up in the format of these sources; the same parser was tried
on the ten real sets of files in NVIDIA/TensorRT's tools/experimental/trt-engine-explorer.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.devices.transport import Completed
from edgekit.errors import DeviceError
from edgekit.profiling import trtexec
from edgekit.profiling.engines import EngineOptions
from edgekit.profiling.trtexec_run import profile_by_trtexec
from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.profile import MeasureSettings
from edgekit.schema.tensors import ArtifactTensor

SUMMARY_10 = """&&&& RUNNING TensorRT.trtexec [TensorRT v100500] # trtexec --loadEngine=m.engine
[10/03/2024-10:47:56] [I] Warmup completed 29 queries over 200 ms
[10/03/2024-10:47:59] [I] Timing trace has 391 queries over 3.00082 s
[10/03/2024-10:47:59] [I] === Performance summary ===
[10/03/2024-10:47:59] [I] Throughput: 130.298 qps
[10/03/2024-10:47:59] [I] Latency: min = 5.38672 ms, max = 13.3664 ms, mean = 7.60628 ms, median = 7.16092 ms, \
percentile(90%) = 10.2996 ms, percentile(95%) = 10.8698 ms, percentile(99%) = 12.9675 ms
[10/03/2024-10:47:59] [I] Enqueue Time: min = 2.72876 ms, max = 15.0201 ms, mean = 7.63062 ms, median = 7.86694 ms, \
percentile(90%) = 10.1792 ms, percentile(95%) = 11.7217 ms, percentile(99%) = 14.1848 ms
[10/03/2024-10:47:59] [I] H2D Latency: min = 0.0065918 ms, max = 0.0698242 ms, mean = 0.0122212 ms, \
median = 0.00814819 ms, percentile(90%) = 0.0253906 ms, percentile(95%) = 0.0270996 ms, percentile(99%) = 0.0515137 ms
[10/03/2024-10:47:59] [I] GPU Compute Time: min = 5.34595 ms, max = 13.3388 ms, mean = 7.58404 ms, \
median = 7.14139 ms, percentile(90%) = 10.2881 ms, percentile(95%) = 10.8175 ms, percentile(99%) = 12.9485 ms
[10/03/2024-10:47:59] [I] D2H Latency: min = 0.00390625 ms, max = 0.110596 ms, mean = 0.0100141 ms, \
median = 0.00439453 ms, percentile(90%) = 0.0254517 ms, percentile(95%) = 0.0319824 ms, percentile(99%) = 0.0994873 ms
[10/03/2024-10:47:59] [I] Total Host Walltime: 3.00082 s
[10/03/2024-10:47:59] [I] Total GPU Compute Time: 2.96536 s
"""
SUMMARY_8 = """&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec --loadEngine=m.engine
[07/28/2022-16:00:55] [I] Timing trace has 2152 queries over 3.00294 s
[07/28/2022-16:00:55] [I] Throughput: 716.632 qps
[07/28/2022-16:00:55] [I] Latency: min = 1.3476 ms, max = 1.5657 ms, mean = 1.38629 ms, median = 1.38037 ms, \
percentile(99%) = 1.55853 ms
[07/28/2022-16:00:55] [I] GPU Compute Time: min = 1.3476 ms, max = 1.5657 ms, mean = 1.38629 ms, median = 1.38037 ms, \
percentile(99%) = 1.55853 ms
[07/28/2022-16:00:55] [W] * GPU compute time is unstable, with coefficient of variance = 2.10486%.
"""
FAILURE = """&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # trtexec --onnx=m.onnx
[05/01/2024-10:00:00] [E] Error[4]: [network.cpp::validate::1] INT8 needs calibration
[05/01/2024-10:00:00] [E] Engine could not be created from network
&&&& FAILED TensorRT.trtexec [TensorRT v8601] # trtexec --onnx=m.onnx
"""
# the flags, of those asked for here, that `--help` names in each version
COMMON = "--minShapes=spec --noTF32 --profilingVerbosity=mode --separateProfileRun --useDLACore=N"
HELP = {
    "8.2": f"{COMMON} --buildOnly --fp16 --int8 --workspace=N",
    "8.6": f"{COMMON} --skipInference --fp16 --int8 --memPoolSize=poolspec --builderOptimizationLevel",
    "10.3": f"{COMMON} --skipInference --fp16 --int8 --memPoolSize=poolspec --builderOptimizationLevel --stronglyTyped",
    "11.1": f"{COMMON} --skipInference --memPoolSize=poolspec --builderOptimizationLevel --stronglyTyped "
    "--includeDataTransfers --noCudaGraph --noSpinWait",
}
FILES = (PurePosixPath("/t/m.onnx"), PurePosixPath("/t/m.engine"), PurePosixPath("/c/t.cache"))
OUTPUTS = {name: PurePosixPath(f"/t/{name}.json") for name in ("times", "profile", "layers")}


def build(version: str, **options: Any) -> list[str]:
    return trtexec.build_command("trtexec", HELP[version], *FILES, EngineOptions(**options))


def test_versions_differ_in_how_they_are_told():
    assert build("8.2", precision="int8", workspace_bytes=1 << 28) == [
        "trtexec",
        "--onnx=/t/m.onnx",
        "--saveEngine=/t/m.engine",
        "--timingCacheFile=/c/t.cache",
        "--int8",
        "--fp16",
        "--workspace=256",
        "--buildOnly",
        "--profilingVerbosity=detailed",
    ]
    newer = build("8.6", precision="fp16", workspace_bytes=1 << 28, optimisation_level=4)
    assert newer[4:] == [
        "--fp16",
        "--memPoolSize=workspace:256",
        "--builderOptimizationLevel=4",
        "--skipInference",
        "--profilingVerbosity=detailed",
    ]
    assert build("10.3", precision="fp32")[4] == "--noTF32"
    assert build("10.3", strongly_typed=True)[4] == "--stronglyTyped"
    assert build("11.1", precision="int8")[4:] == ["--skipInference", "--profilingVerbosity=detailed"]
    assert build("11.1", strongly_typed=True)[4:] == ["--skipInference", "--profilingVerbosity=detailed"]
    assert build("11.1", precision="fp32")[4] == "--noTF32"
    assert (
        trtexec.build_command("trtexec", "--nvtxMode=mode", *FILES, EngineOptions(precision="int8"))[-1]
        == "--nvtxMode=verbose"
    )


def test_sparse_kernels_are_asked_for_where_trtexec_knows_them():
    said = f"{HELP['8.6']} --sparsity=spec"
    argv = trtexec.build_command("trtexec", said, *FILES, EngineOptions("fp16", sparse_weights=True))
    assert argv[4:6] == ["--fp16", "--sparsity=enable"]
    assert not any("sparsity" in word for word in build("8.6"))


def test_shapes_and_the_dla_are_named():
    profile = {"x": {"min": (1, 3), "opt": (2, 3), "max": (4, 3)}, "y": {"min": (1,), "opt": (1,), "max": (1,)}}
    argv = build("10.3", profiles=(profile,), dla_core=1, gpu_fallback=True)
    assert {"--minShapes=x:1x3,y:1", "--optShapes=x:2x3,y:1", "--maxShapes=x:4x3,y:1"} <= set(argv)
    assert {"--useDLACore=1", "--allowGPUFallback"} <= set(argv)


@pytest.mark.parametrize(
    ("version", "options", "what"),
    [
        ("8.2", {"optimisation_level": 3}, "this trtexec has no --builderOptimizationLevel"),
        ("8.6", {"strongly_typed": True}, "this trtexec has no --stronglyTyped"),
        ("8.2", {"sparse_weights": True}, "this trtexec has no --sparsity"),
        ("10.3", {"profiles": ({}, {})}, "2 optimisation profiles"),
        ("11.1", {"precision": "fp16"}, "this trtexec makes no fp16 of float32"),
    ],
)
def test_what_a_trtexec_cannot_do_is_refused(version: str, options: dict[str, Any], what: str):
    with pytest.raises(DeviceError) as caught:
        build(version, **options)
    assert caught.value.what == what


def test_every_version_measures_with_copies_and_without_graphs():
    settings = MeasureSettings(warmup_ms=150, duration_s=2.5, min_runs=80)
    argv = {
        version: trtexec.measure_command("trtexec", HELP[version], FILES[1], OUTPUTS, settings, EngineOptions())
        for version in ("8.2", "11.1")
    }
    assert argv["8.2"] == [
        "trtexec",
        "--loadEngine=/t/m.engine",
        "--warmUp=150",
        "--duration=3",
        "--iterations=80",
        "--exportTimes=/t/times.json",
        "--exportProfile=/t/profile.json",
        "--exportLayerInfo=/t/layers.json",
        "--separateProfileRun",
        "--profilingVerbosity=detailed",
    ]
    assert set(argv["11.1"]) - set(argv["8.2"]) == {"--includeDataTransfers", "--noCudaGraph"}


def test_a_summary_of_10():
    found = trtexec.read_summary(SUMMARY_10, "here")
    assert (found.version, found.queries, found.throughput_qps) == ("10.5.0", 391, 130.298)
    assert set(found.rows) == {"Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency"}
    latency = found.rows["Latency"]
    assert (latency.min_ms, latency.max_ms, latency.mean_ms, latency.median_ms) == (5.38672, 13.3664, 7.60628, 7.16092)
    assert latency.percentiles == {90.0: 10.2996, 95.0: 10.8698, 99.0: 12.9675}
    assert found.rows["GPU Compute Time"].percentiles[99.0] == 12.9485


def test_a_summary_of_8_has_one_percentile():
    found = trtexec.read_summary(SUMMARY_8, "here")
    assert (found.version, found.queries) == ("8.2.1", 2152)
    assert found.rows["Latency"].percentiles == {99.0: 1.55853}


@pytest.mark.parametrize(
    ("number", "version"),
    [("8201", "8.2.1"), ("8601", "8.6.1"), ("9300", "9.3.0"), ("100900", "10.9.0"), ("110100", "11.1.0")],
)
def test_versions_are_numbers_of_two_kinds(number: str, version: str):
    assert trtexec.version_of(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] # trtexec") == version


def test_a_failure_says_what_trtexec_said():
    with pytest.raises(DeviceError) as caught:
        trtexec.read_summary(FAILURE, "device nano")
    assert caught.value.what == (
        "trtexec 8.6.1: Error[4]: [network.cpp::validate::1] INT8 needs calibration; "
        "Engine could not be created from network"
    )
    with pytest.raises(DeviceError) as caught:
        trtexec.read_summary("Segmentation fault", "device nano")
    assert "without an error" in caught.value.what


def times(count: int, warmups: int) -> str:
    """A file of `--exportTimes`; run n, the warm-up's among them, takes n ms and computes n / 2."""
    rows = [
        {
            "startComputeMs": 10.0 * n,
            "endComputeMs": 10.0 * n + n / 2,
            "h2dMs": n / 4,
            "computeMs": n / 2,
            "d2hMs": n / 4,
            "latencyMs": float(n),
        }
        for n in range(1, warmups + count + 1)
    ]
    return json.dumps(rows)


def summary(queries: int) -> trtexec.Summary:
    return trtexec.Summary("8.6.1", queries, 1.0, {})


@pytest.mark.parametrize("warmups", [0, 4])
def test_samples_are_the_timed_runs_alone(warmups: int):
    found = trtexec.read_times(times(3, warmups), summary(3), "here")
    assert found.latency_ms == tuple(float(warmups + n) for n in (1, 2, 3))
    assert found.compute_ms == tuple((warmups + n) / 2 for n in (1, 2, 3))


def test_a_file_that_is_cut_short_is_refused():
    with pytest.raises(DeviceError) as caught:
        trtexec.read_times(times(3, 0), summary(4), "here")
    assert caught.value.what == "3 runs in the file, 4 in the summary"
    with pytest.raises(DeviceError) as caught:
        trtexec.read_times(times(3, 0)[:-9], summary(3), "here")
    assert "cannot be read" in caught.value.what


PROFILE = """[
  { "count" : 50 }
, { "name" : "QuantizeLinear_2", "timeMs" : 0.5, "averageMs" : 0.01, "percentage" : 20 }
, { "name" : "conv1.weight + QuantizeLinear_7 + Conv_9", "timeMs" : 2.0, "averageMs" : 0.04, "percentage" : 80 }
]
"""
LAYER_INFO = json.dumps(
    {
        "Layers": [
            {
                "Name": "conv1.weight + QuantizeLinear_7 + Conv_9",
                "LayerType": "CaskConvolution",
                "Inputs": [{"Format/Datatype": "Four wide channel vectorized row major Int8 format"}],
                "Weights": {"Type": "Int8", "Count": 864},
            }
        ]
    }
)


def test_layers_join_times_and_precisions():
    rows, why = trtexec.read_layers(PROFILE, LAYER_INFO)
    assert why == ""
    assert rows == [
        {"name": "QuantizeLinear_2", "operator": "", "mean_ms": 0.01, "runs": 50, "precision": None},
        {
            "name": "conv1.weight + QuantizeLinear_7 + Conv_9",
            "operator": "CaskConvolution",
            "mean_ms": 0.04,
            "runs": 50,
            "precision": "int8",
        },
    ]


def test_a_name_that_spoils_the_file_leaves_no_layers_and_says_so():
    rows, why = trtexec.read_layers(PROFILE.replace("Conv_9", 'Conv "9"'), LAYER_INFO)
    assert rows == []
    assert "cannot be read" in why


class Board:
    """A transport to a board with trtexec, which writes the files that it is asked for."""

    python, link = "python3", False

    def __init__(self, root: Path, warmups: int = 3) -> None:
        self.root, self.warmups = root, warmups
        self.ran: list[list[str]] = []
        self.gone: list[str] = []
        self.missing = False
        self.version = "8.2"
        self.failing = False

    def push(self, local: Path, remote: PurePosixPath) -> None:
        (self.root / remote.name).write_bytes(local.read_bytes())

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        local.write_bytes((self.root / remote.name).read_bytes())

    def run(self, argv: Sequence[str], *, timeout_s: float, on_line: Any = None) -> Completed:
        self.ran.append(list(argv))
        if argv[:2] == ["sh", "-c"] and "command -v" in argv[2]:
            return Completed(1, "", "") if self.missing else Completed(0, "/usr/src/tensorrt/bin/trtexec\n", "")
        if argv[0] == "sh":
            return Completed(0, "/home/u/.cache/edgekit/tensorrt\n", "")
        if argv[0] == "mktemp":
            return Completed(0, "/tmp/edgekit-1\n", "")
        if argv[0] == "rm":
            self.gone.append(argv[-1])
            return Completed(0, "", "")
        if argv[0] in ("cat", "uname"):
            known = {"/etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 1\n", "-m": "aarch64\n"}
            return Completed(0, known[argv[-1]], "") if argv[-1] in known else Completed(1, "", "no such file")
        if argv[-1] == "--help":
            return Completed(0, HELP[self.version], "")
        if self.failing:
            return Completed(1, FAILURE, "")
        if any(word.startswith("--loadEngine") for word in argv):
            (self.root / "times.json").write_text(times(1000, self.warmups))
            (self.root / "profile.json").write_text(PROFILE)
            (self.root / "layers.json").write_text(LAYER_INFO)
            return Completed(0, SUMMARY_8.replace("2152", "1000"), "")
        return Completed(0, "&&&& PASSED", "")

    def close(self) -> None: ...


ROW = ArtifactRow(
    format="tensorrt",
    convention="tensorrt",
    path="m.onnx",
    sha256="0" * 64,
    size_bytes=4,
    precision="int8",
    inputs=(ArtifactTensor(name="x", network_name="x", dtype="float32", shape=(1, 3), layout="NC"),),
    outputs=(ArtifactTensor(name="y", network_name="y", dtype="float32", shape=(1, 3), layout="NC"),),
)
NANO = Device(name="nano", target="jetson-nano", transport="local")


def measured(board: Board, tmp_path: Path, **settings: Any) -> Any:
    onnx = tmp_path / "m.onnx"
    onnx.write_bytes(b"onnx")
    options = EngineOptions(precision="int8")
    return profile_by_trtexec(NANO, board, onnx, ROW, options, MeasureSettings(**settings))


def test_a_board_without_an_agent_is_measured_by_trtexec(tmp_path: Path):
    board = Board(tmp_path)
    found = measured(board, tmp_path)
    assert (found.runtime, found.runtime_version, found.agent_version) == ("trtexec", "8.2.1", "none: trtexec")
    assert found.samples_ms[0] == 4.0  # the first after three of the warm-up
    assert len(found.samples_ms) == 1000
    assert "not compared" in found.conditions.extra["clock"]
    assert found.conditions.extra["l4t"] == "# R32 (release), REVISION: 7.1, GCID: 1"
    assert found.conditions.architecture == "aarch64"
    assert found.conditions.throttled is None  # nobody looked
    assert [(row.precision, row.ratio) for row in found.layers] == [
        (None, pytest.approx(0.2)),
        ("int8", pytest.approx(0.8)),
    ]
    assert found.peak_gpu_bytes is None
    assert found.gpu_memory_unavailable
    assert board.gone == ["/tmp/edgekit-1"]
    commands = [shlex.join(argv) for argv in board.ran]
    assert any("--saveEngine=/tmp/edgekit-1/model.engine" in c and "/home/u/.cache/edgekit" in c for c in commands)


def test_drift_makes_it_invalid_as_everywhere(tmp_path: Path):
    assert measured(Board(tmp_path), tmp_path).reasons[0] == "drifted"  # the made samples rise from 4 to 1003 ms


def test_a_board_without_trtexec_and_one_that_fails(tmp_path: Path):
    board = Board(tmp_path)
    board.missing = True
    with pytest.raises(DeviceError) as caught:
        measured(board, tmp_path)
    assert caught.value.what == "the board has no trtexec"
    board = Board(tmp_path)
    board.failing = True
    with pytest.raises(DeviceError) as caught:
        measured(board, tmp_path)
    assert "INT8 needs calibration" in caught.value.what
    assert board.gone == ["/tmp/edgekit-1"]


def test_a_frame_rate_is_refused(tmp_path: Path):
    with pytest.raises(DeviceError) as caught:
        measured(Board(tmp_path), tmp_path, fps=30.0)
    assert "frame rate" in caught.value.what


@pytest.mark.parametrize(("version", "dtype"), [("10.3", TensorProto.FLOAT), ("11.1", TensorProto.FLOAT16)])
def test_fp16_never_becomes_fp32_unseen(version: str, dtype: int, tmp_path: Path):
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [weight],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    board = Board(tmp_path)
    board.version = version
    profile_by_trtexec(NANO, board, path, ROW, EngineOptions(precision="fp16"), MeasureSettings())
    assert onnx.load(tmp_path / "model.onnx").graph.initializer[0].data_type == dtype  # what the board was sent
    flags = {word for argv in board.ran for word in argv}
    assert ("--fp16" in flags) == (version == "10.3")
