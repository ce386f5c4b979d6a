"""The peers of the post-training benchmark: other quantisers on the same float network, and files published as int8.

Each gives a file and what edgekit's own runner must know of it, so that all are run and timed by the same code.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.formats.artifact import Artifact
from edgekit.formats.conventions.convention import find_convention
from edgekit.formats.tflite.convert import quiet
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.tensors import ArtifactTensor, Layout


@dataclass(frozen=True)
class File:
    """A file that can be run and timed."""

    path: Path
    row: ArtifactRow


# (the float artifact of the same network, calibration samples (N, ...) as the network takes them, where to write)
Quantiser = Callable[[Artifact, NDArray[np.float32], Path], File]


def onnxruntime_static(reference: Artifact, samples: NDArray[np.float32], path: Path) -> File:
    """ONNX Runtime's `quantize_static` after its `quant_pre_process`: Q/DQ, min-max, int8 weights per channel.

    Set up as its documentation advises for the processor: activations unsigned on x86 and signed on Arm, weights of
    7 bits on an x86 without 8-bit dot products.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    convention = find_convention(reference.row.convention)
    prepared = path.with_name(f"{path.stem}.prepared.onnx")
    with _silent():
        quant_pre_process(str(reference.path), str(prepared))
        quantize_static(
            str(prepared),
            str(path),
            _reader(reference.row.inputs[0].name, samples),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8 if convention.signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=convention.weight_max < 127,
            calibrate_method=CalibrationMethod.MinMax,
        )
    return File(path, _described(reference.row, path, "QDQ, by quantize_static"))


def ai_edge_quantizer(reference: Artifact, samples: NDArray[np.float32], path: Path) -> File:
    """Google's ai-edge-quantizer with its recipe `static_wi8_ai8` on our float .tflite."""
    with quiet():
        from ai_edge_quantizer import quantizer, recipe
    tensor = reference.row.inputs[0]
    nhwc = _as_runtime(samples, tensor.layout)
    with quiet():
        work = quantizer.Quantizer(str(reference.path), recipe.static_wi8_ai8())
        feeds = [{tensor.name: nhwc[index : index + 1]} for index in range(len(nhwc))]
        ranges = work.calibrate({"serving_default": feeds}, num_threads=1)
        work.quantize(ranges, enable_progress_report=False).export_model(str(path), overwrite=True)
    return File(path, tflite_row(path, tensor.network_name, reference.row.outputs[0].network_name))


def tflite_row(path: Path, input_name: str, output_name: str) -> ArtifactRow:
    """What the runner must know of anyone's .tflite with one input and one output; images are channels-last.

    Args:
        input_name: the network's name of the input.
        output_name: the network's name of the output.
    """
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    content = path.read_bytes()
    return ArtifactRow(
        format="tflite",
        convention="foreign",
        path=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        precision="int8",
        inputs=(_tensor(given, input_name),),
        outputs=(_tensor(made, output_name),),
    )


def _tensor(detail: dict[str, Any], network_name: str) -> ArtifactTensor:
    layouts: dict[int, Layout] = {2: "NC", 4: "NHWC"}
    scale, zero_point = detail["quantization"]
    quantised = np.issubdtype(detail["dtype"], np.integer)
    return ArtifactTensor(
        name=detail["name"],
        network_name=network_name,
        shape=tuple(int(size) for size in detail["shape"]),
        dtype=np.dtype(detail["dtype"]).name,
        layout=layouts[len(detail["shape"])],
        scale=float(scale) if quantised else None,
        zero_point=int(zero_point) if quantised else None,
    )


def _described(reference: ArtifactRow, path: Path, convention: str) -> ArtifactRow:
    content = path.read_bytes()
    return reference.model_copy(
        update={
            "convention": convention,
            "path": path.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content),
            "precision": "int8",
        }
    )


def _as_runtime(samples: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    return np.ascontiguousarray(samples.transpose(0, 2, 3, 1)) if layout == "NHWC" else samples


def _reader(name: str, samples: NDArray[np.float32]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """One sample at a time, as the artifact takes them."""

        def __init__(self) -> None:
            self._feeds: Iterator[dict[str, NDArray[np.float32]]] = (
                {name: samples[index : index + 1]} for index in range(len(samples))
            )

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            """The next feed; None at the end."""
            return next(self._feeds, None)

    return Reader()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The tool logs advice, also advice that it has just been given, and warnings that a user cannot act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
