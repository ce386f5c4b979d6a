"""An ONNX file as a side: every layer made an output, and where asked cut from its readers, in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekit.debug.layers import INPUT, Array, Grid, Layer, Run
from edgekit.debug.onnx_layers import OnnxLayers
from edgekit.debug.runtimes import opened
from edgekit.errors import FormatError
from edgekit.formats.onnx.fused import optimised_graph

_GIVEN, _CODES = "given:", "codes:"
_FREE = frozenset(
    {"Transpose", "Reshape", "QuantizeLinear", "DequantizeLinear", "Squeeze", "Unsqueeze", "Identity"}
    | {"ReorderInput", "ReorderOutput"}
)


class OnnxSide:
    """An ONNX file.

    Attributes:
        fuses: whether it ships with ONNX Runtime. A file for TensorRT is run operator by operator only.

    Raises:
        FormatError: it is no ONNX file, or not one whose layers can be run one by one.
    """

    def __init__(self, path: Path, title: str, *, fuses: bool = True) -> None:
        try:
            self._model = onnx.load(path)
        except Exception as err:  # protobuf raises a class of its own
            raise FormatError(f"is no ONNX file: {err}", str(path), "name a file that an exporter wrote") from err
        self.title = title
        self._path = path
        self._found = OnnxLayers(self._model.graph, path.name)
        self.layers: tuple[Layer, ...] = self._found.layers
        self.runtimes: tuple[str, ...] = ("onnxruntime", "onnxruntime-unfused") if fuses else ("onnxruntime-unfused",)
        self._inputs = {layer.name for layer in self.layers if layer.kind == INPUT}
        self.batch = max((layer.shape[0] for layer in self.layers if layer.shape), default=0) or None

    @contextmanager
    def session(self, runtime: str, cut: frozenset[str]) -> Iterator[Run]:
        """See `Side.session`."""
        model, outputs = self._tapped(cut)
        grids = {layer.name: layer.grid if layer.name in self._found.pairs else None for layer in self.layers}
        types = {v.name: onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in model.graph.input}
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            path = Path(folder) / self._path.name
            onnx.save(model, path)
            with opened(runtime, path) as loaded:

                def run(given: Mapping[str, Array]) -> dict[str, Array]:
                    feeds: dict[str, NDArray[Any]] = {}
                    for name, values in given.items():
                        tensor = name.removeprefix("input:") if name in self._inputs else f"{_GIVEN}{name}"
                        if tensor in types:
                            feeds[tensor] = np.ascontiguousarray(values.astype(types[tensor]))
                    found = loaded.infer(feeds)
                    return {name: _real(found[tensor], grids[name]) for name, tensor in outputs.items()} | {
                        name: given[name] for name in self._inputs if name not in outputs
                    }

                yield run

    def notes(self) -> tuple[str, ...]:
        """Says what making every layer an output changed in what the runtime fuses, where it did."""
        if len(self.runtimes) == 1:
            return ()
        model, _ = self._tapped(frozenset())
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            path = Path(folder) / "tapped.onnx"
            onnx.save(model, path)
            before, after = (_computing(optimised_graph(item)[0]) for item in (self._path, path))
        if before == after:
            return ()
        changed = [f"{op} {before[op]} -> {after[op]}" for op in sorted(before | after) if before[op] != after[op]]
        return (f"with every layer an output the runtime fuses otherwise: {', '.join(changed)}",)

    def _tapped(self, cut: frozenset[str]) -> tuple[onnx.ModelProto, dict[str, str]]:
        """A copy of the model that gives every layer, and the output tensor of each."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        own = {value.name for value in graph.output}
        outputs: dict[str, str] = {}
        made: list[onnx.NodeProto] = []
        for layer in self.layers:
            tensor, pair = self._found.ends[layer.name], self._found.pairs.get(layer.name)
            if layer.name in self._inputs and pair is None:
                continue  # a float input is what is given
            wanted = pair.output[0] if pair is not None else tensor
            if layer.name in cut:
                given = f"{_GIVEN}{layer.name}"
                for node in graph.node:
                    node.input[:] = [given if name == tensor else name for name in node.input]
                graph.input.append(onnx.helper.make_tensor_value_info(given, _type_of(layer), None))
                if pair is not None:
                    wanted = f"{_CODES}{layer.name}"
                    made.append(onnx.helper.make_node("QuantizeLinear", [tensor, *pair.input[1:]], [wanted]))
                    made[-1].attribute.extend(pair.attribute)
            outputs[layer.name] = wanted
            if wanted not in own:
                own.add(wanted)
                graph.output.append(onnx.ValueInfoProto(name=wanted))
        graph.node.extend(made)
        return model, outputs


def _type_of(layer: Layer) -> int:
    names = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}
    return int(names.get(layer.dtype, onnx.TensorProto.FLOAT))


def _real(values: NDArray[Any], grid: Grid | None) -> Array:
    return values.astype(np.float32) if grid is None else grid.decode(values)


def _computing(counts: Mapping[str, int]) -> Counter[str]:
    return Counter({op: count for op, count in counts.items() if op not in _FREE})
