"""The cases of the post-training benchmark: which network in which format, beside whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from peers import Quantiser, ai_edge_quantizer, onnxruntime_static


@dataclass(frozen=True)
class Case:
    """One network in one format.

    Attributes:
        quantisers: peers that are given the float network and the calibration samples.
        published: file of EDGEKIT_DATA/weights that is compared as it is.
        note: what a reader must know to compare fairly.
    """

    name: str
    recipe: str
    format: str
    quantisers: Mapping[str, Quantiser] = field(default_factory=dict)
    published: str | None = None
    note: str = ""


_SOFTMAX = "the published file ends in a softmax of its own, which is in its size and latency; ours gives logits."
_RELATIVE = "the images are probably training images of the network: int8 beside float, not an accuracy."
CASES = (
    Case("resnet-20 int8 onnx", "resnet20-cifar10", "onnx", {"ONNX Runtime quantize_static": onnxruntime_static}),
    Case("resnet-20 int8 tflite", "resnet20-cifar10", "tflite", {"ai-edge-quantizer": ai_edge_quantizer}),
    Case(
        "resnet-8 int8 tflite",
        "resnet8-mlperf",
        "tflite",
        {"ai-edge-quantizer": ai_edge_quantizer},
        published="mlperf_ic_resnet8_int8.tflite",
        note=_SOFTMAX,
    ),
    Case(
        "ds-cnn int8 tflite",
        "ds-cnn-mlperf",
        "tflite",
        {"ai-edge-quantizer": ai_edge_quantizer},
        published="mlperf_kws_dscnn_int8.tflite",
        note=_SOFTMAX,
    ),
    Case(
        "mobilenet-v1-0.25 int8 onnx",
        "mobilenet-v1-imagenet",
        "onnx",
        {"ONNX Runtime quantize_static": onnxruntime_static},
        note=_RELATIVE,
    ),
    Case(
        "mobilenet-v1-0.25 int8 tflite",
        "mobilenet-v1-imagenet",
        "tflite",
        {"ai-edge-quantizer": ai_edge_quantizer},
        note=_RELATIVE,
    ),
)
