"""One word for an operator, whatever the format calls it. What is not listed is called by its own name."""

from __future__ import annotations

_WORDS = {
    "conv1d": "conv",
    "conv2d": "conv",
    "depthwiseconv2d": "conv",
    "convinteger": "conv",
    "gemm": "linear",
    "matmulinteger": "linear",
    "matmulnbits": "linear",
    "fullyconnected": "linear",
    "addmm": "linear",
    "globalaveragepool": "averagepool",
    "adaptiveavgpool2d": "averagepool",
    "avgpool2d": "averagepool",
    "averagepool2d": "averagepool",
    "mean": "averagepool",  # over the whole image: what a format makes of it depends on the window
    "reducemean": "averagepool",
    "globalmaxpool": "maxpool",
    "maxpool2d": "maxpool",
    "cat": "concat",
    "concatenation": "concat",
    "relu6": "clamp",
    "relun1to1": "clamp",
    "relu0to1": "clamp",
    "hardtanh": "clamp",
    "clip": "clamp",
    "logistic": "sigmoid",
    "batchmatmul": "matmul",
    "bmm": "matmul",
    "mm": "matmul",
    "batchnormalization": "batchnorm",
    "layernormalization": "layernorm",
    "nativelayernorm": "layernorm",
}
_MOVES = frozenset(
    {
        "broadcastto", "cast", "chunk", "clone", "constantpadnd", "contiguous", "depthtospace", "dequantize",
        "expand", "expanddims", "flatten", "gather", "getitem", "identity", "index", "indexselect", "move", "pack",
        "pad", "padv2", "permute", "quantize", "reshape", "select", "slice", "spacetodepth", "split", "splitv",
        "squeeze", "stridedslice", "tile", "tocopy", "transpose", "unpack", "unsqueeze", "view",
    }
)  # fmt: skip
_ARITHMETIC = frozenset({"add", "sub", "mul", "div"})
WEIGHTED = frozenset({"conv", "linear"})
TAKES_ACTIVATION = WEIGHTED | {"add"}
ACTIVATIONS = frozenset({"relu", "clamp"})
MOVE = "move"


def kind_named(name: str, operands: int = 2) -> str:
    """The word for an operator that a format calls `name`, such as `Conv`, `CONV_2D` or `conv2d`; `move` for data
    movement, and for Q and DQ, which are part of the layer before them.

    Args:
        operands: activations that it reads. With one of them `add`, `mul` and the like have a constant beside it.
    """
    plain = name.lower().replace("_", "")
    word = _WORDS.get(plain, plain)
    if word in _MOVES:
        return MOVE
    return f"{word} constant" if word in _ARITHMETIC and operands == 1 else word
