"""The peers of the post-training benchmark: other quantisers on the same float network, and files published as int8.

Each gives a file and what edgekit's own runner must know of it, so that all are run and timed by the same code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import python_of
from memory import Memory
from numpy.typing import NDArray

from edgekit.formats.conventions.convention import find_convention
from edgekit.formats.tflite.convert import quiet
from edgekit.nets.load import build
from edgekit.schema.load import load_recipe
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.tensors import ArtifactTensor, Layout


@dataclass(frozen=True)
class Quantised:
    """A file by a peer: what the runner must know of it, and what quantising took.

    Attributes:
        seconds: from samples to the file; the library's import is not in it.
        peak_rss_mb: what the process grew by.
    """

    row: ArtifactRow
    seconds: float
    peak_rss_mb: float


# (float file, its row, recipe, calibration samples (N, ...) as the network takes them, folder) -> the new file
Quantiser = Callable[[Path, ArtifactRow, str, NDArray[np.float32], Path], Quantised]

ENVIRONMENTS = Path(".edgekit/benchmarks/environments")


def onnxruntime_min_max(
    source: Path, row: ArtifactRow, recipe: str, samples: NDArray[np.float32], folder: Path
) -> Quantised:
    """`quantize_static` with min-max ranges."""
    from onnxruntime.quantization import CalibrationMethod

    return _onnxruntime(source, row, samples, folder, CalibrationMethod.MinMax, {})


def onnxruntime_entropy(
    source: Path, row: ArtifactRow, recipe: str, samples: NDArray[np.float32], folder: Path
) -> Quantised:
    """`quantize_static` with entropy ranges: as it is set up by default, whose 128 bins leave one candidate.

    It keeps every activation of every sample in memory, so it is given samples in strides, as its documentation says.
    """
    from onnxruntime.quantization import CalibrationMethod

    return _onnxruntime(source, row, samples, folder, CalibrationMethod.Entropy, {"CalibMaxIntermediateOutputs": 32})


def _onnxruntime(
    source: Path, row: ArtifactRow, samples: NDArray[np.float32], folder: Path, method: Any, extra: dict[str, Any]
) -> Quantised:
    """ONNX Runtime's `quantize_static` after its `quant_pre_process`: Q/DQ, int8 weights per channel.

    Set up as its documentation advises for the processor: activations unsigned on x86 and signed on Arm, weights of
    7 bits on an x86 without 8-bit dot products.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    convention = find_convention(row.convention)
    prepared, path = folder / "prepared.onnx", folder / "model.onnx"
    started, memory = time.perf_counter(), Memory()
    with _silent():
        quant_pre_process(str(source), str(prepared))
        quantize_static(
            str(prepared),
            str(path),
            _reader(row.inputs[0].name, samples),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8 if convention.signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=convention.weight_max < 127,
            calibrate_method=method,
            extra_options=extra,
        )
    return Quantised(_described(row, path, "QDQ, by quantize_static"), time.perf_counter() - started, memory.grown_mb())


def nncf(source: Path, row: ArtifactRow, recipe: str, samples: NDArray[np.float32], folder: Path) -> Quantised:
    """NNCF's `quantize` on the ONNX file, its defaults, all samples; in an environment of its own."""
    path, data = folder / "model.onnx", folder / "samples.npy"
    np.save(data, samples)
    python = python_of("nncf", ENVIRONMENTS)
    script = Path(__file__).with_name("nncf_onnx.py")
    command = [str(python), str(script), str(source), str(data), str(path), row.inputs[0].name]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = json.loads(told.splitlines()[-1])
    return Quantised(_described(row, path, "by NNCF"), spent["seconds"], spent["peak_rss_mb"])


def torchao_pt2e(source: Path, row: ArtifactRow, recipe: str, samples: NDArray[np.float32], folder: Path) -> Quantised:
    """torchao's PT2E with its quantiser for x86 and defaults, exported by torch.onnx; batches of 32."""
    import torch
    import torch._dynamo  # torch.export imports it at its first call
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    loaded = load_recipe(recipe).recipe
    model = build(loaded.model, loaded.seed)
    batches = torch.from_numpy(samples).split(32)
    shapes = ({0: torch.export.Dim("batch")},)
    quantiser = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    path = folder / "model.onnx"
    started, memory = time.perf_counter(), Memory()
    with _silent(), torch.no_grad():
        traced = torch.export.export(model.network.eval(), (batches[0],), dynamic_shapes=shapes).module()
        prepared = prepare_pt2e(traced, quantiser)
        for batch in batches:
            prepared(batch)
        converted = convert_pt2e(prepared)
        spent = time.perf_counter() - started, memory.grown_mb()
        program = torch.onnx.export(
            converted,
            (batches[0][:1],),
            dynamo=True,
            opset_version=18,
            external_data=False,
            verbose=False,
            input_names=[row.inputs[0].name],
            output_names=[row.outputs[0].name],
        )
        program.save(str(path))
    return Quantised(_described(row, path, "by torchao"), *spent)


def ai_edge_quantizer(
    source: Path, row: ArtifactRow, recipe: str, samples: NDArray[np.float32], folder: Path
) -> Quantised:
    """Google's ai-edge-quantizer with its recipe `static_wi8_ai8` on our float .tflite."""
    with quiet():
        from ai_edge_quantizer import quantizer
        from ai_edge_quantizer import recipe as recipes
    tensor, path = row.inputs[0], folder / "model.tflite"
    nhwc = _as_runtime(samples, tensor.layout)
    started, memory = time.perf_counter(), Memory()
    with quiet():
        work = quantizer.Quantizer(str(source), recipes.static_wi8_ai8())
        feeds = [{tensor.name: nhwc[index : index + 1]} for index in range(len(nhwc))]
        ranges = work.calibrate({"serving_default": feeds}, num_threads=1)
        work.quantize(ranges, enable_progress_report=False).export_model(str(path), overwrite=True)
    spent = time.perf_counter() - started, memory.grown_mb()
    return Quantised(tflite_row(path, tensor.network_name, row.outputs[0].network_name), *spent)


PEERS: Mapping[str, Quantiser] = {
    "ONNX Runtime min-max": onnxruntime_min_max,
    "ONNX Runtime entropy": onnxruntime_entropy,
    "NNCF": nncf,
    "torchao PT2E": torchao_pt2e,
    "ai-edge-quantizer": ai_edge_quantizer,
}


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
