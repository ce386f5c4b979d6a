import numpy as np
import pytest
from pydantic import ValidationError

from edgekit.agent.errors import AgentError
from edgekit.agent.preprocess import (
    centre_crop,
    from_artifact,
    preprocess,
    relayout,
    resize,
    resize_to,
    to_artifact,
)
from edgekit.schema.tensors import ArtifactTensor, Preprocess, Resize

torch = pytest.importorskip("torch", reason="the outside witness of resizing")


def tensor(**changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "name": "t",
        "network_name": "x",
        "shape": (1, 2, 2, 3),
        "dtype": "float32",
        "layout": "NHWC",
    }
    return ArtifactTensor.model_validate({**fields, **changes}).model_dump()


def test_steps_in_their_order_by_hand():
    # 2 x 4 one-row-of-four images, two channels; the crop keeps columns 1 and 2
    raw = np.arange(16, dtype=np.uint8).reshape(1, 2, 4, 2)
    spec = Preprocess(crop=(2, 2), offset=1.0, factor=0.5, mean=(1.0, 2.0), std=(2.0, 4.0))
    made = preprocess(spec.model_dump(), raw)
    # channel 0 holds 2 4 / 10 12, channel 1 holds 3 5 / 11 13; ((x - 1) / 2 - mean) / std
    expected = [[[-0.25, 0.25], [1.75, 2.25]], [[-0.25, 0.0], [0.75, 1.0]]]
    np.testing.assert_array_equal(made, np.array([expected], dtype=np.float32))
    assert made.dtype == np.float32
    assert made.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(("size", "wanted"), [((7, 5), (13, 9)), ((12, 9), (5, 4)), ((6, 6), (6, 3)), ((1, 4), (3, 8))])
def test_resize_agrees_with_torch(size: tuple[int, int], wanted: tuple[int, int]):
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, *size)).astype(np.float32)
    witness = torch.nn.functional.interpolate(
        torch.from_numpy(images), wanted, mode="bilinear", align_corners=False, antialias=False
    ).numpy()
    np.testing.assert_allclose(resize(images, "NCHW", *wanted), witness, rtol=1e-5, atol=1e-3)
    last = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(resize(last, "NHWC", *wanted), witness.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-3)


def test_resize_by_hand():
    # halving 4 pixels reads between each pair; doubling 2 reads at -0.25, 0.25, 0.75, 1.25, held inside
    row = np.array([[[[0.0, 4.0, 8.0, 20.0]]]], dtype=np.float32)
    np.testing.assert_array_equal(resize(row, "NCHW", 1, 2)[0, 0], [[2.0, 14.0]])
    pair = np.array([[[[0.0, 8.0]]]], dtype=np.float32)
    np.testing.assert_array_equal(resize(pair, "NCHW", 1, 4)[0, 0], [[0.0, 2.0, 6.0, 8.0]])


def test_resize_comes_before_the_crop_and_nothing_is_rounded():
    raw = np.array([[[[0]], [[3]]]], dtype=np.uint8).reshape(1, 1, 2, 1)
    spec = Preprocess(resize=Resize(size=(1, 4)), crop=(1, 2))
    np.testing.assert_array_equal(preprocess(spec.model_dump(), raw), [[[[0.75, 2.25]]]])


def test_an_odd_margin_cuts_less_at_the_top_and_left():
    image = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
    np.testing.assert_array_equal(centre_crop(image, "NCHW", 2, 4)[0, 0], [[5, 6, 7, 8], [10, 11, 12, 13]])


def test_raw_layout_n_only_scales():
    raw = np.array([[2.0, 4.0], [6.0, 8.0]], dtype=np.float32)
    spec = Preprocess(raw_dtype="float32", raw_layout="N", offset=2.0, factor=0.5, layout="NC")
    np.testing.assert_array_equal(preprocess(spec.model_dump(), raw), [[0.0, 1.0], [2.0, 3.0]])


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"raw_dtype": "int8"}, "raw_dtype"),
        ({"raw_layout": "NC"}, "raw_layout"),
        ({"raw_layout": "N", "mean": (1.0,)}, "raw_layout N"),
        ({"crop": (2, 9)}, "axis W"),
        ({"mean": (1.0, 2.0)}, "mean"),
        ({"layout": "NTC"}, "layout"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], where: str):
    spec = Preprocess.model_validate(changes).model_dump()
    with pytest.raises(AgentError) as caught:
        preprocess(spec, np.zeros((1, 4, 4, 3), dtype=np.uint8))
    assert caught.value.where.endswith(where)


def test_to_artifact_moves_channels_rounds_half_to_even_and_saturates():
    wanted = tensor(dtype="int8", scale=0.5, zero_point=-3, shape=(1, 1, 3, 2))
    # (N, C, H, W) = (1, 2, 1, 3); x / 0.5 = 0.5, 1.5, 2.5 | 300, -300, -2.5
    batch = np.array([[[[0.25, 0.75, 1.25]], [[150.0, -150.0, -1.25]]]], dtype=np.float32)
    codes = to_artifact(wanted, batch, "NCHW")
    assert codes.dtype == np.int8
    np.testing.assert_array_equal(codes, [[[[-3, 127], [-1, -128], [-1, -5]]]])


def test_to_artifact_gives_the_codes_of_onnx_runtimes_quantize_linear():
    import onnxruntime
    from onnx import TensorProto, helper

    scale = np.float32(0.0173)
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [None, 64])],
        [
            helper.make_tensor("s", TensorProto.FLOAT, [], [scale]),
            helper.make_tensor("z", TensorProto.UINT8, [], [117]),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = np.random.default_rng(1).normal(0, 1.2, (50, 64)).astype(np.float32)
    batch[:, 0] = (np.arange(50) + np.float32(0.5)) * scale  # as near to ties as float32 gets
    (witness,) = session.run(None, {"x": batch})
    wanted = tensor(dtype="uint8", scale=float(scale), zero_point=117, shape=(1, 64), layout="NC")
    np.testing.assert_array_equal(to_artifact(wanted, batch, "NC"), witness)


def test_from_artifact_is_scale_times_code_minus_zero_point_in_the_networks_layout():
    given = tensor(dtype="uint8", scale=0.25, zero_point=200, shape=(1, 1, 2, 2))
    codes = np.array([[[[0, 255], [200, 201]]]], dtype=np.uint8)  # (N, H, W, C)
    real = from_artifact(given, codes, "NCHW")
    assert real.dtype == np.float32
    np.testing.assert_array_equal(real, [[[[-50.0, 0.0]], [[13.75, 0.25]]]])


def test_floats_pass_unchanged_but_for_layout_and_dtype():
    batch = np.random.default_rng(2).normal(size=(4, 3, 2, 2)).astype(np.float32)
    given = to_artifact(tensor(), batch, "NCHW")
    np.testing.assert_array_equal(given, batch.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(from_artifact(tensor(), given, "NCHW"), batch)


def test_a_value_that_is_no_number_cannot_become_a_code():
    batch = np.full((1, 3, 2, 2), np.nan, dtype=np.float32)
    with pytest.raises(AgentError) as caught:
        to_artifact(tensor(dtype="int8", scale=1.0, zero_point=0), batch, "NCHW")
    assert caught.value.where == "input x"


def test_samples_of_another_shape_are_refused_with_both_shapes():
    with pytest.raises(AgentError) as caught:
        to_artifact(tensor(), np.zeros((1, 3, 2, 5), dtype=np.float32), "NCHW")
    assert caught.value.what == "samples of shape (2, 5, 3) for an input of (2, 2, 3)"


def test_layouts_with_other_axes_are_refused():
    with pytest.raises(AgentError) as caught:
        relayout(np.zeros((1, 3, 2, 2)), "NCHW", "NTC", "input x")
    assert caught.value.what == "layout NCHW cannot become NTC"


@pytest.mark.parametrize(
    ("size", "wanted"), [((40, 30), (13, 9)), ((12, 9), (5, 14)), ((9, 7), (9, 3)), ((5, 5), (1, 1))]
)
def test_antialiased_resize_agrees_with_torch_and_with_pil(size: tuple[int, int], wanted: tuple[int, int]):
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, *size)).astype(np.float32)
    witness = torch.nn.functional.interpolate(
        torch.from_numpy(images), wanted, mode="bilinear", align_corners=False, antialias=True
    ).numpy()
    made = resize(images, "NCHW", *wanted, antialias=True)
    np.testing.assert_allclose(made, witness, rtol=1e-5, atol=1e-3)
    last = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(resize(last, "NHWC", *wanted, antialias=True), made.transpose(0, 2, 3, 1))
    image = pytest.importorskip("PIL.Image")
    pil = np.asarray(image.fromarray(images[0, 0]).resize(wanted[::-1], image.Resampling.BILINEAR))
    np.testing.assert_allclose(made[0, 0], pil, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("mode", "size", "given", "wanted"),
    [
        # as torchvision's Resize(12): the short side is 12, the long one int(12 * long / short)
        ("cover", (12, 12), (30, 41), (12, 16)),
        ("cover", (12, 12), (41, 30), (16, 12)),
        ("cover", (12, 24), (30, 30), (24, 24)),
        ("cover", (12, 24), (10, 70), (12, 84)),
        ("cover", (7, 5), (7, 5), (7, 5)),
    ],
)
def test_cover_keeps_the_shape_of_what_is_seen(mode, size, given, wanted):
    image = np.random.default_rng(0).uniform(0, 255, (1, *given, 1)).astype(np.float32)
    made = resize_to({"size": size, "mode": mode}, image, "NHWC")
    np.testing.assert_array_equal(made, resize(image, "NHWC", *wanted))


@pytest.mark.parametrize(
    ("size", "given", "inner", "corner"),
    [
        ((10, 20), (30, 30), (10, 10), (0, 5)),
        ((20, 10), (30, 40), (8, 10), (6, 0)),  # 7.5 goes up
        ((10, 20), (40, 30), (10, 8), (0, 6)),
        ((10, 10), (30, 41), (7, 10), (1, 0)),  # 7.3, and of three rows of border one is above
        ((10, 10), (1, 90), (1, 10), (4, 0)),  # one row is left at least
        ((10, 20), (5, 10), (10, 20), (0, 0)),
    ],
)
def test_letterbox_fits_inside_a_border(size, given, inner, corner):
    image = np.random.default_rng(0).uniform(1, 255, (1, 2, *given)).astype(np.float32)
    made = resize_to({"size": size, "mode": "letterbox", "pad": -7.0}, image, "NCHW")
    assert made.shape == (1, 2, *size)
    rows, columns = slice(corner[0], corner[0] + inner[0]), slice(corner[1], corner[1] + inner[1])
    np.testing.assert_array_equal(made[:, :, rows, columns], resize(image, "NCHW", *inner))
    made[:, :, rows, columns] = -7
    assert (made == -7).all()


def test_the_border_of_a_letterbox_is_a_raw_value_and_the_mode_goes_through_preprocess():
    raw = np.full((1, 2, 4, 3), 255, np.uint8)
    spec = Preprocess(resize=Resize(size=(4, 4), mode="letterbox", pad=51), factor=1 / 255)
    made = preprocess(spec.model_dump(), raw)
    np.testing.assert_allclose(made[0, 0, :, 0], [0.2, 1, 1, 0.2], rtol=1e-6)
    fine = np.tile(np.array([0, 255], np.uint8)[:, None], (1, 1, 8, 3, 1)).reshape(1, 8, 6, 1)
    spec = Preprocess(resize=Resize(size=(2, 2), antialias=True))
    assert np.ptp(preprocess(spec.model_dump(), fine)) < np.ptp(fine)


def test_colours_change_places_before_mean_and_std():
    raw = np.array([[[[1, 2, 3]]]], np.uint8)
    spec = Preprocess(reverse_channels=True, mean=(3, 0, 0))
    np.testing.assert_array_equal(preprocess(spec.model_dump(), raw).ravel(), [0, 2, 1])
    with pytest.raises(AgentError) as caught:
        preprocess(Preprocess(reverse_channels=True).model_dump(), raw[..., :1])
    assert caught.value.what == "samples of 1 channels"


def test_a_size_alone_stretches_and_what_a_loader_resized_is_not_resized_again():
    spec = Preprocess.model_validate({"resize": [2, 2], "raw_resize": [3, 3]})
    assert spec.resize == Resize(size=(2, 2))
    assert preprocess(spec.model_copy(update={"resize": None}).model_dump(), np.zeros((1, 4, 4, 3), np.uint8)).shape[
        2:
    ] == (4, 4)
    assert preprocess(spec.model_dump(), np.zeros((1, 4, 4, 3), np.uint8)).shape == (1, 3, 2, 2)
    for refused in ({"resize": [0, 2]}, {"resize": {"size": [2, 2], "mode": "fit"}}, {"std": [1, 0]}):
        with pytest.raises(ValidationError):
            Preprocess.model_validate(refused)
