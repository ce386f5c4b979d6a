from pathlib import Path
from types import SimpleNamespace

from edgekit.errors import DeviceError
from edgekit.pipeline.choose import choose_variants
from edgekit.pipeline.engines import build_engines
from edgekit.pipeline.progress import Silent
from edgekit.schema.device import Device
from edgekit.schema.load import load_target
from edgekit.schema.recipe import Export

ORIN = Device(name="orin", target="jetson-orin-nano", transport="ssh", address="orin")


def exported(target, *, quantised: bool = True, two_of_four: int = 0):
    variants = choose_variants(target, Export(), quantised=quantised)
    return [
        SimpleNamespace(
            planned=SimpleNamespace(variant=variant),
            row=SimpleNamespace(path=f"{variant.stem}.onnx", sha256=variant.stem, two_of_four=two_of_four),
            path=Path(f"{variant.stem}.onnx"),
        )
        for variant in variants
    ]


def built(
    target_name: str, tmp_path: Path, *, instead_of=None, quantised=True, broken=False, because="no engine yet", **kept
):
    asked, lines = [], []
    target = load_target(target_name).target

    def engine_for(session, onnx, row, options, folder, *, lease, on_progress):
        on_progress({"stage": "building", "done": 1, "total": 2, "left_s": 3.0})
        sparse = ("sparse",) if options.sparse_weights else ()
        asked.append((onnx.name, options.precision, folder.relative_to(tmp_path).as_posix(), "who" in lease, *sparse))
        if broken:
            raise DeviceError("TensorRT is not installed", "board", "apt install it")
        folder.mkdir(parents=True)
        for name in ("model.engine", "passport.json", "model.float16.onnx"):
            (folder / name).write_text(name)
        return SimpleNamespace(path=folder / "model.engine", seconds=41.0, built_because=because)

    reporter = SimpleNamespace(task=Silent().task, note=lines.append)
    files = exported(target, quantised=quantised, **kept)
    session = SimpleNamespace(device=ORIN)
    return build_engines(session, instead_of, target, files, tmp_path, reporter, engine_for=engine_for), asked, lines


def test_an_engine_is_built_for_the_tensorrt_artifact_alone_and_is_evidence(tmp_path: Path):
    found, asked, lines = built("jetson", tmp_path)
    assert asked == [("model.tensorrt.onnx", "int8", "engines/orin/model.tensorrt", True)]
    assert list(found.by_path) == ["model.tensorrt.onnx"]
    assert list(found.files("orin")) == [
        "evidence/engines/orin/model.tensorrt/model.engine",
        "evidence/engines/orin/model.tensorrt/passport.json",
    ]
    assert lines == ["engine of model.tensorrt.onnx on orin: built in 41 s (no engine yet)"]
    assert not found.failed


def test_a_float_network_is_built_in_half_and_an_engine_that_fits_is_used_again(tmp_path: Path):
    _, asked, lines = built("jetson", tmp_path, quantised=False, because="")
    assert asked[0][1] == "fp16"
    assert lines[0].endswith("built before, and its passport fits")


def test_a_network_with_weights_in_two_of_four_gets_sparse_kernels(tmp_path: Path):
    _, asked, _ = built("jetson", tmp_path, two_of_four=3)
    assert asked[0][-1] == "sparse"


def test_a_stand_in_builds_no_engine_and_nothing_has_failed(tmp_path: Path):
    found, asked, _ = built("jetson", tmp_path, instead_of="jetson-orin-nano")
    assert (asked, found.by_path, found.failed) == ([], {}, False)
    assert [(row.what, row.where) for row in found.skipped] == [("latency", "model.tensorrt.onnx on orin")]
    assert "engine.json" in found.skipped[0].reason


def test_a_board_too_old_for_the_agent_is_left_to_trtexec(tmp_path: Path):
    found, asked, _ = built("jetson-nano", tmp_path)
    assert (asked, found.skipped, found.failed) == ([], (), False)
    asks, _, _ = built("jetson-nano", tmp_path, instead_of="jetson-nano")
    assert "engine.json" in asks.skipped[0].reason


def test_an_engine_that_cannot_be_built_leaves_the_boards_reason(tmp_path: Path):
    found, _, _ = built("jetson", tmp_path, broken=True)
    assert found.failed
    assert [(row.what, row.reason) for row in found.skipped] == [
        ("engine", "TensorRT is not installed; apt install it")
    ]
