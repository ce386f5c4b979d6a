"""Layers of TFLite files, and what LiteRT gives for them whole and cut."""

import numpy as np
import pytest

from edgekit.data.loaders.packed import packed_cifar10
from edgekit.debug.compare import DebugSamples, compare
from edgekit.debug.layers import INPUT
from edgekit.debug.tflite_side import TfliteSide
from edgekit.errors import FormatError


@pytest.fixture
def side(colour_tflite) -> TfliteSide:
    return TfliteSide(colour_tflite, "model.tflite")


@pytest.fixture
def batch(colour_samples) -> dict[str, np.ndarray]:
    return {"input:image": colour_samples.inputs["image"][:8]}


def test_layers_are_those_of_the_network(side, colour_model):
    assert [(layer.name, layer.kind, layer.sources, layer.activated) for layer in side.layers] == [
        ("input:image", INPUT, (), False),
        ("conv_2d_1", "conv", ("input:image",), True),
        ("conv_2d_2", "conv", ("conv_2d_1",), False),
        ("add_1", "add", ("conv_2d_1", "conv_2d_2"), True),
        ("mean_1", "averagepool", ("add_1",), False),
        ("output", "linear", ("mean_1",), False),
    ]
    assert side.batch == 8
    assert side.layers[0].shape == (8, 3, 8, 8)
    edge = colour_model.table.edges["/relu"]
    assert side.layers[1].grid.scale == pytest.approx(edge.scale)
    assert (side.layers[1].grid.qmin, side.layers[1].grid.zero_point) == (-128, edge.zero_point)


def test_weights_have_pytorchs_order_and_the_tables_values(side, colour_model):
    for layer, name in ((side.layers[1], "stem"), (side.layers[5], "linear")):
        codes = colour_model.table.weights[f"{name}.weight"]
        np.testing.assert_allclose(layer.weight.values, codes.values().numpy(), rtol=1e-5)
        assert layer.weight.step.reshape(-1) == pytest.approx(codes.scale.numpy())
        assert layer.weight.high == 127
        np.testing.assert_allclose(layer.bias, getattr(colour_model.network, name).bias.detach(), atol=5e-3)


@pytest.mark.parametrize("runtime", ["litert", "litert-unfused"])
def test_a_cut_layer_fed_with_its_own_values_is_what_it_was(runtime, side, batch):
    with side.session(runtime, frozenset()) as run:
        whole = run(batch)
    assert whole["conv_2d_1"].shape == (8, 6, 8, 8)
    cut = frozenset(layer.name for layer in side.layers[1:])
    with side.session(runtime, cut) as run:
        same = run({**whole, **batch})
        nothing = run({**{name: np.zeros_like(values) for name, values in whole.items()}, **batch})
    for name, values in whole.items():
        np.testing.assert_array_equal(same[name], values)
    np.testing.assert_array_equal(nothing["conv_2d_1"], whole["conv_2d_1"])
    grid, bias = side.layers[2].grid, side.layers[2].bias
    np.testing.assert_allclose(nothing["conv_2d_2"][0, :, 4, 4], bias, atol=0.51 * grid.scale)


def test_the_input_is_what_its_grid_makes_of_it(side, batch):
    with side.session("litert", frozenset()) as run:
        found = run(batch)["input:image"]
    grid = side.layers[0].grid
    np.testing.assert_array_equal(found, grid.decode(grid.encode(batch["input:image"])))


def test_outputs_more_leave_one_part_to_the_delegate(side, colour_tflite, tmp_path):
    from edgekit.formats.tflite.fused import DELEGATE, executed_operators

    content, _, _ = side._tapped(frozenset())
    (tmp_path / "tapped.tflite").write_bytes(content)
    assert executed_operators(tmp_path / "tapped.tflite")[0][DELEGATE] == 1
    assert executed_operators(colour_tflite)[0][DELEGATE] == 1


def test_the_second_runtime_leaves_the_delegate_out(side):
    from edgekit.debug.runtimes import opened

    for runtime, parts in (("litert", 1), ("litert-unfused", 0)):
        with opened(runtime, side._path) as loaded:
            names = [op["op_name"] for op in loaded._interpreter._get_ops_details()]
            assert names.count("DELEGATE") == parts


def test_what_is_no_tflite_file_is_refused(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"no model at all, though long enough")
    with pytest.raises(FormatError) as caught:
        TfliteSide(path, "x")
    assert caught.value.where == str(path)


def test_a_published_file_agrees_with_its_float_version_as_far_as_its_grids_explain(data_folder):
    """An outside witness: MLPerf Tiny's ResNet-8, quantised by TensorFlow, on real images."""
    images = packed_cifar10(str(data_folder), "cifar10_test.npz")["test"].inputs[0][:6]
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32)
    sides = [TfliteSide(data_folder / f"weights/mlperf_ic_resnet8_{kind}.tflite", kind) for kind in ("float", "int8")]
    found = compare(*sides, DebugSamples({sides[0].layers[0].tensor: pixels}, "CIFAR-10"))
    assert found.passed
    assert len(found.layers) == 16
    assert found.layers[0].exact  # its input is the pixels' own codes
    # own error and closed form: within 2 dB where no ReLU cuts the noise off
    sharp = [row for row in found.layers if row.kind in ("conv", "linear") and "BiasAdd" in row.layer]
    assert all(abs(row.own_snr_db - row.explained_snr_db) < 2 for row in sharp)
