"""Planted faults must be named, at their layer, with their reason; a sound artifact has none."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.debug.bounds import MARGIN
from edgekit.debug.compare import DebugSamples, compare
from edgekit.debug.layers import INPUT, Array, Grid, Layer, Run
from edgekit.debug.network import NetworkSide
from edgekit.debug.onnx_side import OnnxSide
from edgekit.debug.tflite_side import TfliteSide
from edgekit.errors import DataError
from tests.edgekit.debug import faults
from tests.edgekit.debug.conftest import BATCH


def _bad(comparison) -> list[str]:
    return [row.layer for row in comparison.layers if row.state != "ok"]


@pytest.mark.parametrize("convention", ["onnxruntime-x86-vnni", "tensorrt"])
def test_a_sound_onnx_artifact_has_no_bad_layer(
    convention, colour_onnx, exported, colour_model, colour_network, colour_samples
):
    tensorrt = convention == "tensorrt"
    side = OnnxSide(exported(colour_model, convention) if tensorrt else colour_onnx, "model.onnx", fuses=not tensorrt)
    found = compare(colour_network, side, colour_samples)
    assert found.passed
    assert found.first_bad is None
    assert found.samples == 32  # 38 are four batches of 8
    assert [row.layer for row in found.layers] == [
        "input:image",
        "stem/conv2d",
        "body/conv2d",
        "/add",
        "/adaptive_avg_pool2d",
        "linear/linear",
    ]
    if not tensorrt:  # whose operators give floats
        # the bound is no wide net: what is measured lies near it
        assert all(abs(row.own_snr_db - row.explained_snr_db) < 5 for row in found.layers)


def test_a_sound_tflite_artifact_has_no_bad_layer(colour_tflite, colour_network, colour_samples):
    found = compare(colour_network, TfliteSide(colour_tflite, "model.tflite"), colour_samples)
    assert found.passed
    assert found.matched == "5 by order, kind and shape"
    assert found.runtimes == ("litert", "litert-unfused")


@pytest.mark.parametrize("convention", ["float-onnx", "float-tflite"])
def test_a_float_artifact_agrees_to_float_precision(convention, exported, colour_model, colour_network, colour_samples):
    path = exported(colour_model, convention)
    side = TfliteSide(path, "float") if path.suffix == ".tflite" else OnnxSide(path, "float")
    found = compare(colour_network, side, colour_samples)
    assert found.passed
    assert min(row.snr_db for row in found.layers if row.snr_db is not None) > 110
    assert all(row.max_code_error is None for row in found.layers)


def test_two_equal_artifacts_have_no_error_at_all(colour_onnx, colour_samples):
    found = compare(OnnxSide(colour_onnx, "a"), OnnxSide(colour_onnx, "b"), colour_samples)
    assert found.passed
    assert all(row.exact and row.max_abs_error == 0 and row.snr_db is None for row in found.layers)
    assert found.matched == "5 by tensor name"


def test_onnx_and_tflite_of_one_table_differ_by_a_code_at_most_layer_by_layer(
    colour_onnx, colour_tflite, colour_samples
):
    found = compare(OnnxSide(colour_onnx, "a"), TfliteSide(colour_tflite, "b"), colour_samples)
    assert found.passed
    assert max(row.own_max_code_error for row in found.layers) <= 1.01


@pytest.mark.parametrize(("index", "layer"), [(0, "stem/conv2d"), (1, "body/conv2d"), (2, "linear/linear")])
@pytest.mark.parametrize("factor", [0.8, 1.5])
def test_a_wrong_weight_scale_is_named(index, layer, factor, colour_onnx, colour_network, colour_samples):
    path = faults.planted(colour_onnx, faults.scale_weight(index, factor))
    found = compare(colour_network, OnnxSide(path, "fault"), colour_samples)
    assert _bad(found) == [layer]
    told = re.fullmatch(r"its weights are (\S+) times the reference's: a scale is wrong", found.first_bad.reason)
    assert float(told[1]) == pytest.approx(factor, rel=5e-3)


def test_an_accumulated_error_is_not_blamed_on_the_layers_it_passes(colour_onnx, colour_network, colour_samples):
    path = faults.planted(colour_onnx, faults.scale_weight(0, 1.5))
    rows = {row.layer: row for row in compare(colour_network, OnnxSide(path, "fault"), colour_samples).layers}
    assert rows["linear/linear"].snr_db < 20
    assert rows["linear/linear"].own_snr_db > 35
    assert rows["linear/linear"].state == "ok"
    assert rows["stem/conv2d"].state == "bad"


@pytest.mark.parametrize("edge", ["input:image", "body/conv2d"])
def test_half_a_range_in_the_table_is_named(edge, exported, colour_model, colour_network, colour_samples):
    edges = dict(colour_model.table.edges)
    narrow = replace(edges[edge], low=edges[edge].low / 2, high=edges[edge].high / 2)
    model = replace(colour_model, table=replace(colour_model.table, edges={**edges, edge: narrow}))
    side = OnnxSide(exported(model, "onnxruntime-x86-vnni"), "fault")
    found = compare(colour_network, side, colour_samples)
    assert _bad(found) == [edge]  # and not what reads it: a clipped value is the fault of who stores it
    assert found.first_bad.reason.startswith("saturation: ")
    assert f"{found.first_bad.clipped_ratio * 100:.2g} %" in found.first_bad.reason


def test_half_a_range_in_a_tflite_file_is_named(colour_tflite, colour_network, colour_samples):
    path = faults.scale_tflite_range(colour_tflite, "conv_2d_1", 0.5)
    found = compare(colour_network, TfliteSide(path, "fault"), colour_samples)
    assert found.first_bad.layer == "stem/conv2d"
    assert found.first_bad.reason.startswith("saturation: ")
    # the bias of its reader was stored for the scale as it was, so that is wrong too, and comes second
    assert set(_bad(found)) <= {"stem/conv2d", "body/conv2d"}


def test_swapped_input_channels_are_named(colour_onnx, colour_network, colour_samples):
    path = faults.planted(colour_onnx, faults.reverse_input_channels)
    found = compare(colour_network, OnnxSide(path, "fault"), colour_samples)
    assert _bad(found) == ["stem/conv2d"]
    assert found.first_bad.reason.startswith("layout or preprocessing of 'image': with its channels reversed")


@pytest.mark.parametrize(("index", "layer"), [(0, "stem/conv2d"), (1, "body/conv2d"), (2, "linear/linear")])
def test_a_dropped_bias_is_named(index, layer, colour_onnx, colour_network, colour_samples):
    path = faults.planted(colour_onnx, faults.drop_bias(index))
    found = compare(colour_network, OnnxSide(path, "fault"), colour_samples)
    assert _bad(found) == [layer]
    assert found.first_bad.reason.startswith("its bias is missing")


def test_a_range_far_too_wide_is_coarse(colour_onnx, colour_network, colour_samples):
    path = faults.planted(colour_onnx, faults.scale_range(1, 100.0))
    found = compare(colour_network, OnnxSide(path, "fault"), colour_samples)
    assert found.first_bad.state == "coarse"
    assert found.first_bad.layer == "stem/conv2d"
    assert found.first_bad.reason.startswith("its output's grid is too coarse")


def test_random_samples_say_nothing_of_ranges(colour_onnx, colour_network, colour_samples):
    path = faults.planted(colour_onnx, faults.scale_range(1, 0.5))
    assert not compare(colour_network, OnnxSide(path, "fault"), colour_samples).passed
    random = replace(colour_samples, random=True)
    assert compare(colour_network, OnnxSide(path, "fault"), random).passed


class _Doubler:
    """A side of one layer that doubles its input; its fused runtime may be wrong by `error`."""

    title = "doubler"
    batch: int | None = 4
    runtimes: tuple[str, ...] = ("fused", "plain")

    def __init__(self, fused_error: float, plain_error: float = 0.0) -> None:
        self._errors = {"fused": fused_error, "plain": plain_error}
        grid = Grid(0.01, 0, -128, 127)
        self.layers = (
            Layer("input:x", "x", INPUT, (), shape=(4, 5)),
            Layer("twice", "twice", "mul constant", ("input:x",), grid=grid),
            Layer("half", "half", "div constant", ("twice",), grid=grid),
        )

    def notes(self) -> tuple[str, ...]:
        return ()

    @contextmanager
    def session(self, runtime: str, cut: frozenset[str]) -> Iterator[Run]:
        def run(given: Mapping[str, Array]) -> dict[str, Array]:
            twice = (2 * given["input:x"] + self._errors[runtime]).astype(np.float32)
            read = given["twice"] if "twice" in cut else twice
            return {"input:x": given["input:x"], "twice": twice, "half": read / 2}

        yield run


def test_a_runtime_whose_fused_kernel_alone_is_wrong_is_named():
    x = np.linspace(-0.4, 0.5, 20, dtype=np.float32).reshape(4, 5)
    found = compare(_Doubler(0.0), _Doubler(0.2), DebugSamples({"x": x}, "numbers"))
    assert _bad(found) == ["twice"]
    assert found.first_bad.reason.startswith("the runtime's fused kernel: fused gives")
    assert found.layers[1].plain_own_snr_db is None
    assert found.layers[2].own_snr_db is None
    assert found.layers[2].snr_db == pytest.approx(found.layers[1].snr_db, abs=1e-3)


def test_an_error_of_both_kernels_is_not_blamed_on_fusion():
    x = np.linspace(-0.4, 0.5, 20, dtype=np.float32).reshape(4, 5)
    found = compare(_Doubler(0.0), _Doubler(0.2, 0.2), DebugSamples({"x": x}, "numbers"))
    assert _bad(found) == ["twice"]
    assert "one constant a channel" in found.first_bad.reason


def test_an_error_within_the_margin_is_explained():
    x = np.linspace(-0.4, 0.5, 20, dtype=np.float32).reshape(4, 5)
    noise = 0.01 / np.sqrt(12)  # of one grid; both sides have it
    inside, outside = (noise * np.sqrt(2 * MARGIN) * factor for factor in (0.98, 1.02))
    assert compare(_Doubler(0.0), _Doubler(inside, inside), DebugSamples({"x": x}, "numbers")).passed
    assert not compare(_Doubler(0.0), _Doubler(outside, outside), DebugSamples({"x": x}, "numbers")).passed


def test_outputs_that_are_not_finite_are_named():
    x = np.full((4, 5), 0.3, np.float32)
    found = compare(_Doubler(0.0), _Doubler(np.nan, np.nan), DebugSamples({"x": x}, "numbers"))
    assert found.first_bad.layer == "twice"
    assert found.first_bad.reason == "its outputs are not finite"
    assert found.first_bad.max_abs_error is None
    assert not found.first_bad.exact


def test_sides_of_different_batches_are_refused(colour_model, colour_onnx, colour_samples):
    with pytest.raises(DataError) as caught:
        compare(NetworkSide(colour_model, "one at a time", 1), OnnxSide(colour_onnx, "a"), colour_samples)
    assert caught.value.what == f"one takes 1 samples at a time, the other {BATCH}"


def test_samples_that_do_not_fit_are_refused(colour_network, colour_onnx):
    side = OnnxSide(Path(colour_onnx), "a")
    with pytest.raises(DataError) as caught:
        compare(colour_network, side, DebugSamples({"sound": np.zeros((8, 3, 8, 8), np.float32)}, "x.npz"))
    assert caught.value.what == "no samples for input 'image'"
    with pytest.raises(DataError) as caught:
        compare(colour_network, side, DebugSamples({"image": np.zeros((8, 8, 8, 3), np.float32)}, "x.npz"))
    assert caught.value.what == "a sample is (8, 8, 3), and input 'image' takes (3, 8, 8)"
    with pytest.raises(DataError) as caught:
        compare(colour_network, side, DebugSamples({"image": np.zeros((3, 3, 8, 8), np.float32)}, "x.npz"))
    assert caught.value.what == "3 samples for a batch of 8"


def test_layers_are_called_by_the_names_that_are_given(colour_onnx, colour_samples):
    found = compare(
        OnnxSide(colour_onnx, "a"), OnnxSide(colour_onnx, "b"), colour_samples, {"conv2d": "stem", "input:image": "in"}
    )
    assert [row.layer for row in found.layers][:2] == ["in", "stem"]
