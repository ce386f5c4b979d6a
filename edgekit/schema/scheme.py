"""Quantisation schemes: which formats of weights and activations go together, and what an artifact of them is called.

Number formats themselves are of `numerics/number.py`; here stand their names only, so that a recipe is checked without
torch.
"""

import re
from typing import Literal

WEIGHTS = r"^(int[2-8]|fp16|bf16|fp8_e4m3fn|fp8_e5m2|e[1-6]m[0-6])$"
ACTIVATIONS = r"^(int([3-8]|16)|float|dynamic|fp16|e[1-6]m[0-6])$"
_MINIFLOAT = re.compile(r"e(\d)m(\d)")
SMALLEST_GROUP = 16  # of ONNX Runtime's MatMulNBits

ArtifactPrecision = Literal[
    "fp32",
    "int8",
    "fp16",
    "int8-dynamic",
    "int4-dynamic",
    "int8-weights",
    "int4-weights",
    "fp16-weights",
    "bf16-weights",
    "fp8-weights",
    "minifloat-weights",
]


def check_scheme(weights: str, activations: str, group_size: int | None) -> None:
    """Whether the formats go together.

    Raises:
        ValueError: they do not.
    """
    for name in (weights, activations):
        if (match := _MINIFLOAT.fullmatch(name)) and not 3 <= 1 + int(match[1]) + int(match[2]) <= 8:
            raise ValueError(f"{name} has {1 + int(match[1]) + int(match[2])} bits: a minifloat has 3 to 8")
    grouped = activations in ("float", "dynamic") and weights in ("int4", "int8")
    if activations == "float":
        fits = weights in ("int4", "int8") or not weights.startswith("int")
    elif activations == "dynamic":
        fits = grouped
    elif activations == "fp16":
        fits = weights == "fp16"
    elif is_minifloat(activations):
        fits = is_minifloat(weights)
    else:
        fits = weights.startswith("int")
    if not fits:
        raise ValueError(
            f"no scheme has weights {weights} with activations {activations}: integers go with integers; int4 and int8 "
            "weights with float or dynamic activations; fp16 with fp16 or float; any other float weights with float; "
            "minifloats with minifloats"
        )
    if group_size is not None and not grouped:
        raise ValueError("group_size is for int4 and int8 weights with float or dynamic activations alone")
    if group_size is not None and (group_size < SMALLEST_GROUP or group_size & (group_size - 1)):
        raise ValueError(f"group_size {group_size} is no power of two from {SMALLEST_GROUP} on, as kernels have it")


def is_minifloat(name: str) -> bool:
    """Whether `name` is of a minifloat without reserved codes, such as e4m3."""
    return _MINIFLOAT.fullmatch(name) is not None


def precision_of(weights: str, activations: str) -> ArtifactPrecision:
    """What an artifact with these formats is called: by its activations where they are narrow, else by its weights.

    Minifloat activations make no artifact: no runtime has them.
    """
    if activations == "fp16":
        return "fp16"
    if activations == "dynamic":
        return "int4-dynamic" if weights == "int4" else "int8-dynamic"
    if activations != "float":
        return "int8"
    if is_minifloat(weights):
        return "minifloat-weights"
    names: dict[str, ArtifactPrecision] = {
        "int4": "int4-weights",
        "int8": "int8-weights",
        "fp16": "fp16-weights",
        "bf16": "bf16-weights",
        "fp8_e4m3fn": "fp8-weights",
        "fp8_e5m2": "fp8-weights",
    }
    return names[weights]
