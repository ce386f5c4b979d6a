"""What an estimate is made from: files and profiles of the history, and the network as far as it is built."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import EdgekitError
from edgekit.pipeline.predict import measured_networks, predict
from edgekit.profiling.statistics import summarise
from edgekit.schema.load import load_target
from edgekit.schema.profile import Conditions, LayerRow, MeasureSettings, Profile
from edgekit.store.profiles import Origin, ProfileStore

TARGET = load_target("cpu-x86-64").target


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def product(folder: Path, width: int, layers: int = 1) -> Path:
    """`layers` products of (4 width x width) each, as ONNX."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["x", *(f"h{i}" for i in range(1, layers)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], name=f"product{i}") for i in range(layers)]
    weights = [numpy_helper.from_array(np.ones((width, width), np.float32), f"w{i}") for i in range(layers)]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (4, width))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (4, width))],
        weights,
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def profiled(path: Path, ms: float, **changes) -> Profile:
    samples_ms = tuple([ms] * 200)
    fields = {
        "artifact": path.name,
        "artifact_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "device": "local",
        "stand_in": False,
        "runtime": "onnxruntime",
        "runtime_version": "1",
        "agent_version": "1",
        "settings": MeasureSettings(),
        "samples_ms": samples_ms,
        "summary": summarise(samples_ms),
        "conditions": Conditions(),
        "valid": True,
        "measured_at": "2026-11-21T10:00:00+00:00",
        **changes,
    }
    return Profile.model_validate(fields)


def remember(*profiles: tuple[Profile, Origin]) -> Path:
    with ProfileStore("profiles.sqlite") as store:
        for profile, origin in profiles:
            store.add(profile, origin)
    return Path("profiles.sqlite")


LAYER = LayerRow(name="product0", operator="MatMul", mean_ms=0.9, ratio=1.0, runs=20)
OURS = Origin(recipe="a", target="cpu-x86-64")


def test_only_what_may_be_learned_from_counts(tmp_path: Path):
    path = product(tmp_path / "dist/a", 8)
    other = product(tmp_path / "dist/b", 9)
    database = remember(
        (profiled(path, 1.0, layers=(LAYER,)), OURS),
        (profiled(path, 3.0), OURS),
        (profiled(path, 2.0), Origin()),  # a bare file, on a board of devices.yaml
        (profiled(path, 90.0, valid=False, reasons=("noisy",)), OURS),
        (profiled(path, 90.0, settings=MeasureSettings(threads=4)), OURS),
        (profiled(path, 90.0, stand_in=True, stand_in_for="jetson-orin-nano"), OURS),
        (profiled(path, 90.0, runtime="litert"), OURS),
        (profiled(path, 90.0), Origin(recipe="a", target="raspberry-pi-5")),
        (profiled(path, 90.0, device="somebody-elses"), Origin()),
        (profiled(other, 5.0), Origin(recipe="b", target="cpu-x86-64")),
    )
    found = {one.network: one for one in measured_networks(database, TARGET, [tmp_path / "dist"])}
    assert {name: one.ms for name, one in found.items()} == {"a": 2.0, "b": 5.0}
    assert {name: len(one.layers) for name, one in found.items()} == {"a": 1, "b": 0}
    assert found["b"].costs.macs == 4 * 9 * 9
    assert measured_networks(database, TARGET, [tmp_path / "elsewhere"]) == ()
    assert measured_networks(tmp_path / "none.sqlite", TARGET, []) == ()
    assert not (tmp_path / "none.sqlite").exists()


def test_a_file_is_predicted_from_the_others_not_from_itself(tmp_path: Path):
    rows = []
    for width in (8, 16, 32, 64, 128):
        path = product(tmp_path / f"dist/{width}", width, layers=2)
        ms = 8 * width * width * 1e-5
        rows.append((profiled(path, 1e6 * ms if width == 64 else ms), Origin(recipe=str(width), target="cpu-x86-64")))
    database = remember(*rows)
    asked = tmp_path / "dist/64/model.onnx"
    found = predict(str(asked), "cpu-x86-64", database, artifacts=[tmp_path / "dist"])
    fp32, int8 = found.estimates
    assert fp32.ms == pytest.approx(8 * 64 * 64 * 1e-5, rel=0.01)  # its own absurd measurement is not among them
    assert (fp32.precision, int8.precision) == ("fp32", "int8")
    assert int8.ms is None
    assert "0 networks were measured in int8" in int8.basis


def test_a_recipe_is_predicted_before_it_is_built(tmp_path: Path):
    found = predict("quickstart", "raspberry-pi-5", tmp_path / "none.sqlite")
    assert found.subject == "quickstart after load"
    assert "prune" in found.left_out  # it changes what is computed, so the estimate says that it is not in it
    assert [one.precision for one in found.estimates] == list(load_target("raspberry-pi-5").target.precisions)
    assert all(one.ms is None for one in found.estimates)
    assert found.estimates[0].floor_ms is not None


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(EdgekitError) as caught:
        predict("none.onnx", "cpu-x86-64", tmp_path / "none.sqlite")
    assert caught.value.what == "no file 'none.onnx'"
