"""Every operator of the table with the spellings of its attributes that users bring."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from tests.edgekit.nets.from_onnx.graphs import Case, Running, case, flat, ints, numbers

N = numbers
IMAGE = (1, 4, 9, 8)


def _weights() -> list[Case]:
    return [
        case("Conv", IMAGE, N(6, 4, 3, 3), opset=7),
        case("Conv", IMAGE, N(6, 4, 3, 3), N(6, seed=1), pads=[1, 1, 1, 1], strides=[2, 2]),
        case("Conv", IMAGE, N(6, 4, 3, 3), pads=[0, 1, 1, 0]),
        case("Conv", IMAGE, N(8, 1, 3, 3), group=4, dilations=[2, 1], pads=[2, 1, 2, 1]),
        case("Conv", IMAGE, N(6, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
        case("Conv", IMAGE, N(6, 4, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2], opset=9),
        case("Conv", IMAGE, N(6, 4, 3, 3), auto_pad="VALID"),
        case("Conv", (1, 4, 11), N(6, 4, 3), N(6), pads=[0, 2]),
        case("Conv", (1, 2, 5, 6, 7), N(3, 2, 2, 3, 2), pads=[1, 1, 0, 1, 1, 0]),
        case("ConvTranspose", IMAGE, N(4, 3, 3, 3), opset=7),
        case("ConvTranspose", IMAGE, N(4, 3, 3, 3), N(3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        case("ConvTranspose", IMAGE, N(4, 3, 3, 3), strides=[2, 2], pads=[0, 0, 1, 1]),
        case("ConvTranspose", IMAGE, N(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
        case("ConvTranspose", IMAGE, N(4, 3, 2, 2), group=2, dilations=[2, 2]),
        case("ConvTranspose", (1, 4, 7), N(4, 2, 3), strides=[2], output_padding=[1]),
        case("Gemm", (1, 5), N(5, 3), opset=11),
        case("Gemm", (1, 5), N(3, 5), N(3), transB=1),
        case("Gemm", (1, 5), N(3, 5), N(1, 3), transB=1, alpha=0.5, beta=2.0),
        case("Gemm", (1, 5), N(5, 3), N(1), alpha=0.25),
        case("Gemm", (1, 5), N(5, 3), N(3), opset=7),
        case("MatMul", (1, 7, 5), N(5, 3), opset=7),
        case("MatMul", (1, 7, 5), N(5)),
        case("MatMul", (1, 7, 5), N(2, 1, 5, 4)),
        case("MatMul", (1, 3, 7, 5), (1, 3, 5, 6)),
        case("Einsum", (1, 3, 4), (1, 4, 5), equation="bij, bjk -> bik"),
        case("Einsum", (1, 3, 4), N(4, 6), equation="bij,jk->bik"),
        case("LSTM", (5, 1, 3), N(1, 16, 3), N(1, 16, 4, seed=1), N(1, 32, seed=2), hidden_size=4, outputs=3),
        case("LSTM", (5, 1, 3), N(1, 16, 3), N(1, 16, 4, seed=1), hidden_size=4, direction="reverse", opset=7),
        case(
            "LSTM",
            (5, 1, 3),
            N(2, 16, 3),
            N(2, 16, 4, seed=1),
            N(2, 32, seed=2),
            None,
            N(2, 1, 4, seed=3),
            N(2, 1, 4, seed=4),
            hidden_size=4,
            direction="bidirectional",
            outputs=3,
        ),
        case("GRU", (5, 1, 3), N(1, 12, 3), N(1, 12, 4, seed=1), N(1, 24), hidden_size=4, linear_before_reset=1),
        case(
            "GRU",
            (5, 1, 3),
            N(2, 12, 3),
            N(2, 12, 4, seed=1),
            N(2, 24, seed=2),
            ints(5).astype(np.int32),
            np.zeros((2, 1, 4), np.float32),
            hidden_size=4,
            linear_before_reset=1,
            direction="bidirectional",
            outputs=2,
            opset=7,
        ),
        case("RNN", (5, 1, 3), N(1, 4, 3), N(1, 4, 4, seed=1), N(1, 8, seed=2), hidden_size=4, outputs=2),
        case("RNN", (5, 1, 3), N(1, 4, 3), N(1, 4, 4, seed=1), hidden_size=4, activations=["Relu"]),
    ]


def _norms() -> list[Case]:
    statistics = (N(4, low=0.5, high=2), N(4, seed=1), N(4, seed=2), N(4, seed=3, low=0.5, high=2))
    return [
        case("BatchNormalization", IMAGE, *statistics, opset=7, epsilon=1e-3),
        case("BatchNormalization", IMAGE, *statistics, opset=9, momentum=0.8),
        case("BatchNormalization", IMAGE, *statistics, opset=15),
        case("BatchNormalization", (1, 4), *statistics),
        case("BatchNormalization", (1, 4, 7), *statistics),
        case("LayerNormalization", (1, 5, 6), N(6, low=0.5), N(6, seed=1), opset=17),
        case("LayerNormalization", (1, 5, 6), N(6, low=0.5), opset=17, epsilon=0.1),
        case("LayerNormalization", (1, 5, 6), N(5, 6, low=0.5), N(5, 6, seed=1), opset=17, axis=1),
        case("RMSNormalization", (1, 5, 6), N(6, low=0.5), opset=23, epsilon=1e-3),
        case("InstanceNormalization", IMAGE, N(4, low=0.5), N(4, seed=1), opset=7, epsilon=1e-2),
        case("GroupNormalization", IMAGE, N(4, low=0.5), N(4, seed=1), num_groups=2, opset=21, epsilon=1e-2),
        case("LRN", IMAGE, size=3, alpha=0.5, beta=0.6, bias=1.5, opset=7),
        case("LRN", IMAGE, size=5),
        case("LpNormalization", IMAGE, axis=1, p=2),
        case("LpNormalization", IMAGE, axis=-1, p=1),
        case("MeanVarianceNormalization", IMAGE, axes=[2, 3]),
    ]


def _pools() -> list[Case]:
    pool = {"kernel_shape": [3, 3], "strides": [2, 2]}
    return [
        case("MaxPool", IMAGE, kernel_shape=[2, 2], opset=7),
        case("MaxPool", IMAGE, **pool, pads=[1, 1, 1, 1]),
        case("MaxPool", IMAGE, **pool, pads=[0, 0, 1, 1]),
        case("MaxPool", IMAGE, **pool, pads=[1, 0, 0, 1]),
        case("MaxPool", IMAGE, **pool, ceil_mode=1, opset=10),
        case("MaxPool", IMAGE, **pool, auto_pad="SAME_UPPER"),
        case("MaxPool", IMAGE, **pool, auto_pad="SAME_LOWER"),
        case("MaxPool", IMAGE, kernel_shape=[2, 2], dilations=[2, 2], opset=10),
        case("MaxPool", (1, 4, 11), kernel_shape=[3], strides=[2], pads=[1, 1]),
        case("AveragePool", IMAGE, kernel_shape=[2, 2], opset=7),
        case("AveragePool", IMAGE, **pool, pads=[1, 1, 1, 1]),
        case("AveragePool", IMAGE, **pool, pads=[1, 1, 1, 1], count_include_pad=1),
        case("AveragePool", IMAGE, **pool, pads=[0, 1, 1, 0]),
        case("AveragePool", IMAGE, **pool, pads=[0, 1, 1, 0], count_include_pad=1),
        case("AveragePool", IMAGE, **pool, auto_pad="SAME_UPPER"),
        case("AveragePool", IMAGE, **pool, ceil_mode=1),
        case("AveragePool", IMAGE, **pool, ceil_mode=1, pads=[1, 1, 1, 1], count_include_pad=1, opset=19),
        case("AveragePool", (1, 4, 11), kernel_shape=[3]),
        case("LpPool", IMAGE, kernel_shape=[2, 3], strides=[1, 2], p=2),
        case("LpPool", IMAGE, kernel_shape=[2, 2], p=3, opset=11),
        case("GlobalAveragePool", IMAGE, opset=7),
        case("GlobalAveragePool", (1, 4, 7)),
        case("GlobalMaxPool", IMAGE, opset=7),
    ]


def _activations() -> list[Case]:
    plain = ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign")
    return [
        *(case(op, IMAGE, opset=opset) for op in plain for opset in (7, 18)),
        case("HardSwish", IMAGE),
        case("Mish", IMAGE),
        case("LeakyRelu", IMAGE, opset=7),
        case("LeakyRelu", IMAGE, alpha=0.2),
        case("PRelu", IMAGE, N(4, 1, 1), opset=9),
        case("PRelu", IMAGE, N(1, 4, 1, 1)),
        case("PRelu", IMAGE, N(1)),
        case("PRelu", IMAGE, N(1, 8)),
        case("PRelu", (1, 6), N(6)),
        case("ThresholdedRelu", IMAGE, alpha=0.7, opset=10),
        case("Clip", IMAGE, opset=7, min=0.0, max=6.0),
        case("Clip", IMAGE, opset=6 + 1, min=-0.5, max=1.0),
        case("Clip", IMAGE, flat(0.0), flat(6.0), opset=11),
        case("Clip", IMAGE, flat(-0.5), None),
        case("Clip", IMAGE, None, flat(0.5)),
        case("Clip", IMAGE, flat(0.0)),
        case("Clip", IMAGE),
        case("Elu", IMAGE, alpha=0.5, opset=7),
        case("Celu", IMAGE, alpha=2.0, opset=12),
        case("Selu", IMAGE, opset=7),
        case("Selu", IMAGE, alpha=1.5, gamma=2.0),
        case("Gelu", IMAGE, opset=20),
        case("Gelu", IMAGE, opset=20, approximate="tanh"),
        case("HardSigmoid", IMAGE, opset=7),
        case("HardSigmoid", IMAGE, alpha=1 / 6, beta=0.5),
        case("Swish", IMAGE, opset=24),
        case("Swish", IMAGE, opset=24, alpha=1.5),
        case("Softmax", (1, 3, 4), opset=7),
        case("Softmax", (1, 3, 4), opset=11, axis=2),
        case("Softmax", (1, 3, 4), opset=13),
        case("Softmax", (1, 3, 4), opset=13, axis=1),
        case("LogSoftmax", (1, 3, 4), opset=7),
        case("LogSoftmax", (1, 3, 4), opset=13, axis=1),
    ]


def _arithmetic() -> list[Case]:
    positive = Running(IMAGE, 0.1, 2.0)
    inside = Running(IMAGE, -0.9, 0.9)
    above = Running(IMAGE, 1.1, 3.0)
    whole = Running((1, 6), 1, 9, np.int64)
    two = ("Add", "Sub", "Mul", "Div")
    return [
        *(case(op, IMAGE, positive, opset=7) for op in two),
        *(case(op, IMAGE, N(4, 1, 1, low=0.5)) for op in two),
        *(case(op, flat(0.7), positive) for op in two),
        *(case(op, IMAGE, flat(0.7)) for op in two),
        case("Div", whole, ints(2)),
        case("Pow", positive, flat(2.0), opset=7),
        case("Pow", positive, flat(0.5)),
        case("Pow", positive, N(4, 1, 1)),
        case("Mod", whole, ints(4)),
        case("Mod", IMAGE, flat(0.7), fmod=1),
        case("Min", IMAGE, positive, opset=8),
        case("Min", IMAGE, flat(0.3)),
        case("Max", IMAGE, positive, N(4, 1, 1)),
        case("Max", IMAGE, flat(0.3)),
        case("Sum", IMAGE, positive, N(4, 1, 1)),
        case("Sum", IMAGE),
        case("Mean", IMAGE, positive),
        *(case(op, IMAGE) for op in ("Abs", "Neg", "Sign", "Exp", "Sin", "Cos", "Atan", "Sinh", "Cosh", "Asinh")),
        *(case(op, IMAGE) for op in ("Erf", "Floor", "Ceil", "Round")),
        *(case(op, positive, opset=13) for op in ("Reciprocal", "Sqrt", "Log")),
        *(case(op, inside) for op in ("Asin", "Acos", "Atanh", "Tan")),
        case("Acosh", above),
        case("CumSum", IMAGE, ints(1).reshape(())),
        case("CumSum", IMAGE, ints(-1).reshape(()), reverse=1, exclusive=1),
    ]


def _reductions() -> list[Case]:
    positive = Running(IMAGE, 0.5, 2.0)
    names = ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")
    old = [case(f"Reduce{name}", positive, opset=11, axes=[2, 3]) for name in names]
    new = [case(f"Reduce{name}", positive, ints(-1, 1), opset=18, keepdims=0) for name in names]
    return [
        *old,
        *new,
        case("ReduceSum", positive, ints(1), opset=13),
        case("ReduceSum", positive, opset=13, noop_with_empty_axes=1),
        case("ReduceMean", positive, opset=13, axes=[-1], keepdims=0),
        case("ArgMax", IMAGE, axis=1, opset=7),
        case("ArgMax", IMAGE, axis=-1, keepdims=0),
        case("ArgMin", IMAGE, axis=2),
        case("TopK", IMAGE, ints(3), outputs=2),
        case("TopK", IMAGE, ints(2), axis=1, largest=0, outputs=2),
        case("TopK", IMAGE, axis=1, k=2, opset=7, outputs=2),
    ]


def _comparisons() -> list[Case]:
    truth = Running((1, 6), dtype=np.bool_)
    names = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    return [
        *(case(op, Running((1, 6), 0, 3, np.int64), Running((1, 6), 0, 3, np.int64), opset=16) for op in names),
        *(case(op, (1, 6), flat(0.3), opset=16) for op in names),
        *(case(op, flat(0.3), (1, 6), opset=16) for op in names),
        *(case(op, truth, truth) for op in ("And", "Or", "Xor")),
        case("Not", truth),
        case("IsNaN", IMAGE),
        case("Where", truth, (1, 6), (1, 6), opset=9),
        case("Where", truth, (1, 6), flat(-1e9)),
        case("Where", truth, flat(1.0), (1, 6)),
        case("Where", truth, flat(1.0), flat(0.0)),
        case("Cast", IMAGE, to=7),
        case("Cast", Running((1, 6), 0, 9, np.int64), to=1, opset=9),
        case("Cast", IMAGE, to=9),
        case("CastLike", Running((1, 6), 0, 9, np.int64), flat(0.0)),
        case("Identity", IMAGE),
        case("Dropout", IMAGE, opset=7, ratio=0.4),
        case("Dropout", IMAGE, flat(0.4), opset=13),
    ]


def _movement() -> list[Case]:
    image = Running(IMAGE)
    half = [0, 0, 1, 1, 0, 0, 2, 0]
    index = Running((1, 5), 0, 7, np.int64)
    return [
        case("Reshape", image, ints(1, -1), opset=7),
        case("Reshape", image, ints(-1, 288)),
        case("Reshape", image, ints(0, 2, 2, -1)),
        case("Reshape", image, ints(1, 4, 72), allowzero=1),
        case("Flatten", image, opset=7),
        case("Flatten", image, axis=2),
        case("Flatten", image, axis=-1),
        case("Transpose", image, perm=[0, 2, 3, 1]),
        case("Squeeze", Running((1, 4, 1, 3)), opset=7, axes=[2]),
        case("Squeeze", Running((1, 4, 1, 3)), ints(-2), opset=13),
        case("Squeeze", Running((2, 4, 1, 3)), opset=13),
        case("Unsqueeze", image, opset=7, axes=[1, 3]),
        case("Unsqueeze", image, ints(-1, 1), opset=13),
        case("Concat", image, Running((1, 2, 9, 8)), axis=1, opset=7),
        case("Concat", Running((1, 5, 3)), N(1, 1, 3), axis=-2),
        case("Split", image, opset=7, axis=2, split=[2, 3, 4], outputs=3),
        case("Split", image, opset=11, axis=1, outputs=2),
        case("Split", image, ints(2, 3, 4), opset=13, axis=2, outputs=3),
        case("Split", image, opset=18, axis=2, num_outputs=2, outputs=2),
        case("Slice", image, opset=7, starts=[1, -3], ends=[100, -1], axes=[2, 3]),
        case("Slice", image, ints(1, 0), ints(9, 7), ints(2, 3), ints(2, 3), opset=10),
        case("Slice", image, ints(-1, 6), ints(-100, 1), ints(1, 3), ints(-1, -2)),
        case("Slice", image, ints(0, 1), ints(2**62, 3), opset=13),
        case("Gather", image, ints(2).reshape(()), axis=2, opset=7),
        case("Gather", image, ints(1, 2), axis=-1),
        case("Gather", image, ints(3, 0, -1), axis=2),
        case("Gather", image, np.array([[0, 2], [1, 1]], np.int64), axis=1),
        case("Gather", N(7, 4), index),
        case("Gather", N(7), index),
        case("GatherElements", Running((1, 5)), index := Running((1, 3), 0, 5, np.int64), axis=1),
        case("GatherND", Running((1, 5, 3)), np.array([[0, 1], [0, 4]], np.int64)),
        case("Expand", Running((1, 1, 4)), ints(1, 3, 4), opset=8),
        case("Expand", Running((1, 1, 4)), ints(3, 1)),
        case("Tile", image, ints(1, 2, 1, 3)),
        case("Pad", image, opset=7, pads=half, value=0.5),
        case("Pad", image, ints(*half), opset=11),
        case("Pad", image, ints(*half), flat(-1.0), opset=13),
        case("Pad", image, ints(0, 1, 0, 0, 0, 2, 0, 0), flat(1.0)),
        case("Pad", image, ints(1, 2), None, ints(-1), opset=18),
        case("Pad", image, ints(0, 0, -1, 0, 0, 0, -2, 1)),
        case("Pad", image, ints(*half), mode="reflect"),
        case("Pad", image, ints(*half), mode="edge"),
        case("Pad", image, ints(0, 0, 0, 0, 0, 0, 0, 0)),
        case("DepthToSpace", image, blocksize=2, opset=7),
        case("DepthToSpace", image, blocksize=2, mode="CRD"),
        case("SpaceToDepth", Running((1, 3, 4, 6)), blocksize=2),
        case("OneHot", Running((1, 5), 0, 7, np.int64), ints(7), np.array([0.0, 1.0], np.float32)),
        case("OneHot", Running((1, 5), 0, 7, np.int64), ints(7), np.array([-1.0, 2.0], np.float32), axis=1),
        case("Trilu", Running((1, 5, 5)), ints(1).reshape(()), upper=1),
        case("Trilu", Running((1, 5, 5)), upper=0),
        case("Shape", image),
        case("Size", image),
        case("ConstantOfShape", ints(1, 3), value=numpy_helper.from_array(np.array([2.0], np.float32))),
    ]


def _resizes() -> list[Case]:
    twice, odd = np.array([1, 1, 2, 2], np.float32), np.array([1, 1, 1.5, 0.75], np.float32)
    nothing = np.zeros(0, np.float32)
    sizes = ints(1, 4, 14, 5)
    places = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
    return [
        case("Upsample", IMAGE, opset=7, scales=[1.0, 1.0, 2.0, 2.0]),
        case("Upsample", IMAGE, twice, opset=9, mode="linear"),
        case("Resize", IMAGE, twice, opset=10),
        case("Resize", IMAGE, odd, opset=10, mode="linear"),
        *(
            case("Resize", IMAGE, nothing, nothing, sizes, mode=mode, coordinate_transformation_mode=place, opset=13)
            for mode in ("nearest", "linear", "cubic")
            for place in places
        ),
        *(
            case("Resize", IMAGE, None, odd, nearest_mode=how, coordinate_transformation_mode=place)
            for how in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
            for place in ("half_pixel", "asymmetric")
        ),
        case("Resize", IMAGE, None, np.array([2, 3], np.float32), axes=[2, 3], mode="linear"),
        case("Resize", IMAGE, None, None, ints(18, 16), axes=[2, 3], mode="nearest"),
        case("Resize", (1, 4, 9), None, np.array([1, 1, 2], np.float32), mode="linear"),
        case("Resize", IMAGE, None, np.array([1, 1, 1, 1], np.float32)),
        case("GridSample", IMAGE, Running((1, 3, 5, 2), -1.2, 1.2), opset=16, mode="bilinear"),
        case("GridSample", IMAGE, Running((1, 3, 5, 2), -1.2, 1.2), opset=20, padding_mode="border", align_corners=1),
        case(
            "GridSample", IMAGE, Running((1, 3, 5, 2), -1.2, 1.2), opset=16, mode="nearest", padding_mode="reflection"
        ),
    ]


CASES: tuple[Case, ...] = (
    *_weights(),
    *_norms(),
    *_pools(),
    *_activations(),
    *_arithmetic(),
    *_reductions(),
    *_comparisons(),
    *_movement(),
    *_resizes(),
)
