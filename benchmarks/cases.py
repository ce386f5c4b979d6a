"""The cases of the quantisation benchmark: which network, in which numbers and format, beside whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# as in a recipe: pass -> its options
Steps = tuple[Mapping[str, Mapping[str, Any]], ...]

EDGEKIT = "edgekit"
NEAREST = "edgekit, min-max and nearest"
PUBLISHED = "MLPerf Tiny published"
ONNX_PEERS = ("ONNX Runtime min-max", "ONNX Runtime entropy", "NNCF", "torchao PT2E")
TFLITE_PEERS = ("ai-edge-quantizer",)

# plain range and rounding: what the methods are worth beside it
PLAIN = {
    "observer": "min-max",
    "weight_observer": "min-max",
    "rounding": "nearest",
    "bias_correction": "none",
    "mode": "fixed",
    "max_drop": None,
}


@dataclass(frozen=True)
class Case:
    """One network in one precision and format.

    Attributes:
        steps: what edgekit runs, as in a recipe; the recipe's own where there are none.
        peers: other systems that are given the float network and the calibration samples.
        nearest: whether a second edgekit row rounds to nearest within min-max ranges.
        published: file of EDGEKIT_DATA/weights that is compared as it is.
        samples: calibration samples that every system gets; none: the recipe's whole calibration split.
        bound: largest loss of top-1 that is asked for.
        note: what a reader must know to compare fairly.
    """

    name: str
    recipe: str
    format: str
    bound: float
    steps: Steps = ()
    peers: tuple[str, ...] = ()
    nearest: bool = False
    published: str | None = None
    samples: int | None = None
    note: str = ""


_SOFTMAX = "the published file ends in a softmax of its own, which is in its size and latency; ours gives logits."
_RELATIVE = "the images are probably training images of the network: int8 beside float, not an accuracy."
_TRAINED = "trained here by the recipe, on 14,000 images: as good as it gets in a quarter of an hour on one core."
_W4A8: Steps = ({"quantize": {"weights": "int4", "weight_observer": "mse", "rounding": "adaround"}},)
# nine weights of a depthwise filter leave little to choose from: the guard raises some layers
_W4A8_GUARDED: Steps = ({"quantize": {**_W4A8[0]["quantize"], "mode": "auto", "max_drop": 0.01}},)
# on ViT d6 the whole test split loses 0.0003 with it; rounded to nearest, its first 2,000 images lose 0.0110
_W4A8_GPTQ: Steps = ({"quantize": {"weights": "int4", "weight_observer": "mse", "rounding": "gptq"}},)
# the input's weights, less than a tenth of all, are rows of ten numbers that meet MFCC of very different reach: 4 bits
# lose too much of them, and the guard raises them to 8
_RECURRENT_W4A8: Steps = ({"quantize": {"weights": "int4", "rounding": "gptq", "mode": "auto"}},)
_UNROLLED = (
    "every system quantises and runs the unrolled graph: none of the peers calibrates one step over a sequence. "
    "torchao is left out, since it would trace every step of the PyTorch network."
)
_RAISED = f"{_UNROLLED} Weights that 4 bits lose too much of are in 8, chosen by the guard on the selection split."


def _network(
    name: str,
    recipe: str,
    w8a8: float,
    w4a8: float,
    note: str = "",
    published: str | None = None,
    four_bits: Steps = _W4A8,
) -> list[Case]:
    return [
        Case(f"{name} w8a8", recipe, "onnx", w8a8, peers=ONNX_PEERS, note=note),
        Case(f"{name} w8a8 tflite", recipe, "tflite", w8a8, peers=TFLITE_PEERS, published=published, note=note),
        Case(f"{name} w4a8", recipe, "onnx", w4a8, steps=four_bits, nearest=True, note=note),
    ]


def _recurrent(name: str, recipe: str) -> list[Case]:
    return [
        Case(f"{name} w8a8", recipe, "onnx", 0.002, peers=ONNX_PEERS[:3], note=_UNROLLED),
        Case(f"{name} w8a8 tflite", recipe, "tflite", 0.002, peers=TFLITE_PEERS, note=_UNROLLED),
        Case(f"{name} w4a8", recipe, "onnx", 0.01, steps=_RECURRENT_W4A8, nearest=True, note=_RAISED),
    ]


CASES = (
    *_network("resnet-20", "resnet20-cifar10", 0.0005, 0.005),
    *_network("resnet-56", "resnet56-cifar10", 0.0005, 0.005),
    *_network("mobilenet-v1-0.25", "mobilenet-v1-imagenet", 0.005, 0.02, _RELATIVE, four_bits=_W4A8_GUARDED),
    Case(
        "mobilenet-v1-0.25 w8a8 from 64",
        "mobilenet-v1-imagenet",
        "onnx",
        0.005,
        peers=ONNX_PEERS,
        samples=64,
        note=_RELATIVE,
    ),
    *_network("mobilenet-v2-1.0", "mobilenet-v2-imagenet", 0.005, 0.02, _RELATIVE, four_bits=_W4A8_GUARDED),
    Case(
        "mobilenet-v2-1.0 w8a8 from 64",
        "mobilenet-v2-imagenet",
        "onnx",
        0.005,
        peers=ONNX_PEERS,
        samples=64,
        note=_RELATIVE,
    ),
    *_network("vit-d6", "vit-cifar10", 0.003, 0.01, four_bits=_W4A8_GPTQ),
    *_network("vit-gelu", "vit-gelu-cifar10", 0.003, 0.01, _TRAINED, four_bits=_W4A8_GPTQ),
    *_network("resnet-8", "resnet8-mlperf", 0.002, 0.01, _SOFTMAX, "mlperf_ic_resnet8_int8.tflite"),
    *_network("ds-cnn", "ds-cnn-mlperf", 0.002, 0.01, _SOFTMAX, "mlperf_kws_dscnn_int8.tflite"),
    *_recurrent("lstm", "kws-lstm"),
    *_recurrent("gru", "kws-gru"),
)
