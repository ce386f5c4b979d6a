"""A convention as data: how one runtime wants its integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from edgekit.errors import FormatError


@dataclass(frozen=True)
class Convention:
    """Where a runtime wants Q/DQ, and on which grids.

    Attributes:
        signed: activations are int8, else uint8. The grids are the same real numbers, shifted by 128.
        symmetric: activations have zero point 0.
        weight_max: codes of weights lie in [-weight_max, weight_max]; 64 where two 8-bit products are summed in
            16 bits.
        integer: kinds of operator that run in integers.
        shares_grid: kinds whose output has the grid of its inputs.
        fuses: kind -> kinds of activation that are computed in the same kernel when they follow it.
        outputs: Q/DQ also on the output of integer operators, not only on their inputs.
        skip_only: an addition gets Q/DQ on its skip input only, so that it fuses into the convolution before it.
        bias: how biases are stored: 'int32' codes of scale s_input * s_weight, 'rounded' floats on that grid (the
            converter makes the integers), or 'float'.
        weights: 'codes' stored as int8, or 'fake' floats on the grid with Q/DQ behind them, for a converter that
            wants to see both.
        fuses_pad: whether a convolution's kernel does a zero pad before it.
        source: where the rules are written down.
        fixed: kind -> scale and zero point, of signed codes, that its output must have.
        gives_float: kinds whose integer kernel can also give floats: no Q stands behind them if nobody wants integers.
        follows: kinds that are computed in float where no reader wants integers and one of their inputs is float
            anyway, or where codes would need as many conversions: an integer kernel would only round for nothing.
        carries_codes: the converter computes kinds that share a grid on codes wherever all their inputs are codes or
            stored, so they are not kept in float there.
        least_macs: kind -> multiply-accumulates of one matrix product below which its float kernel is no slower.
        activations: bits of an activation's codes -> how they are computed: in 'integer' kernels; 'simulated', as 8-bit
            codes limited to fewer, by float kernels; or in 'float' kernels between Q and DQ. Others are refused.
        integer_inputs: an input of the network that any kernel reads as codes is given as codes to all of its readers.
        takes_up_floats: the runtime makes an integer kernel by itself of what stands between DQ and Q, a layer with a
            float weight or any other operator, so what is kept in float is spelled in a way that it does not take up.
        scales_in_float32: a kernel makes a code of its 32-bit sum by one float32, s_input * s_weight / s_output, with
            products and quotient rounded in this order.
        adds_in_float32: the kernel of an addition multiplies the codes of either tensor with a float32, its scale /
            s_output, and adds to z_output - sum of ratio * zero point, the second first, rounding to float32 once each.
    """

    name: str
    signed: bool
    symmetric: bool
    weight_max: int
    integer: frozenset[str]
    shares_grid: frozenset[str]
    outputs: bool
    skip_only: bool
    bias: Literal["int32", "rounded", "float"]
    weights: Literal["codes", "fake"]
    fuses_pad: bool
    source: str
    fuses: Mapping[str, frozenset[str]] = field(
        default_factory=lambda: {
            "conv": frozenset({"relu", "clamp"}),
            "linear": frozenset({"relu", "clamp"}),
            "add": frozenset({"relu", "clamp"}),
        }
    )
    fixed: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    gives_float: frozenset[str] = frozenset()
    follows: frozenset[str] = frozenset({"add", "sub", "mul", "concat"})
    carries_codes: bool = False
    least_macs: Mapping[str, int] = field(default_factory=dict)
    activations: Mapping[int, Literal["integer", "simulated", "float"]] = field(default_factory=lambda: {8: "integer"})
    integer_inputs: bool = False
    takes_up_floats: bool = False
    scales_in_float32: bool = False
    adds_in_float32: bool = False

    @property
    def qmin(self) -> int:
        """Smallest activation code."""
        return -128 if self.signed else 0

    @property
    def qmax(self) -> int:
        """Largest activation code."""
        return 127 if self.signed else 255


_CNN = frozenset({"conv", "linear", "add", "mean", "average_pool", "max_pool", "concat", "relu", "clamp", "move"})
_ORT = (
    "ONNX Runtime 1.31: quantisation tooling; optimizer/qdq_transformer/selectors_actions for what fuses, "
    "weight_bias_quantization.cc; papers: Jacob et al., arXiv:1712.05877"
)

ONNXRUNTIME_X86_VNNI = Convention(
    name="onnxruntime-x86-vnni",
    signed=False,
    symmetric=False,
    weight_max=127,
    # QLinearSoftmax looks exponentials up one by one: slower than the float kernel at every size that was measured
    integer=_CNN | {"matmul", "mul", "sigmoid"},
    shares_grid=frozenset({"move", "max_pool", "concat"}),
    outputs=True,
    skip_only=False,
    bias="int32",
    weights="codes",
    fuses_pad=True,
    source=_ORT,
    gives_float=frozenset({"linear", "matmul"}),  # QGemm, MatMulIntegerToFloat
    # three layers of attention: of 65 x 64 x 65 MACs 0.21 ms in float, 0.22 in integers; of 197 x 64 x 197 1.55, 1.43
    least_macs={"matmul": 1 << 20},
    activations={8: "integer", 16: "float", **dict.fromkeys(range(4, 8), "simulated")},
    takes_up_floats=True,
    scales_in_float32=True,  # core/mlas/lib/quantize.cpp, MlasRequantizeOutput
    adds_in_float32=True,  # as measured of core/mlas/lib/qladd.cpp with AVX2; with NEON it is integers of 22 bits
)

CONVENTIONS: Mapping[str, Convention] = {
    row.name: row
    for row in (
        ONNXRUNTIME_X86_VNNI,
        # without VNNI two u8 x s8 products are added in saturating int16: 2 * 255 * 127 > 32767, 2 * 255 * 64 is not
        replace(ONNXRUNTIME_X86_VNNI, name="onnxruntime-x86", weight_max=64),
        replace(ONNXRUNTIME_X86_VNNI, name="onnxruntime-arm", signed=True, adds_in_float32=False),
        Convention(
            name="litert",
            signed=True,
            symmetric=False,
            weight_max=127,
            # XNNPACK has no integer BATCH_MATMUL: TFLite's own takes 6 times the float one's time at 65 x 16 x 65 x 8
            integer=_CNN | {"mul", "sub", "sigmoid", "tanh", "softmax", "gelu", "reduce_mean"},
            shares_grid=frozenset({"move", "max_pool", "concat", "average_pool"}),
            outputs=True,
            skip_only=False,
            bias="rounded",
            weights="fake",
            fuses_pad=False,
            source="LiteRT 8-bit quantisation specification",
            integer_inputs=True,
            carries_codes=True,
            follows=frozenset({"add", "sub", "mul", "concat", "softmax"}),
            activations={8: "integer", 16: "integer"},
            scales_in_float32=True,  # XNNPACK, src/operators/convolution-nhwc.c: fp32 requantisation
            fixed={"softmax": (1 / 256, -128), "sigmoid": (1 / 256, -128), "tanh": (1 / 128, 0)},
        ),
        Convention(
            name="tensorrt",
            signed=True,
            symmetric=True,
            weight_max=127,
            integer=frozenset({"conv", "linear", "matmul", "add", "mean", "average_pool"}),
            shares_grid=frozenset(),
            outputs=False,
            skip_only=True,
            bias="float",
            weights="codes",
            fuses_pad=True,
            source="TensorRT developer guide, working with quantised types, explicit quantisation",
            gives_float=frozenset({"conv", "linear", "matmul", "add", "mean", "average_pool"}),
        ),
    )
}


def find_convention(name: str, conventions: Mapping[str, Convention] = CONVENTIONS) -> Convention:
    """The convention called `name`.

    Raises:
        FormatError: there is none.
    """
    if name not in conventions:
        raise FormatError(
            f"no convention is called {name!r}", "target: formats", f"conventions: {', '.join(sorted(conventions))}"
        )
    return conventions[name]
