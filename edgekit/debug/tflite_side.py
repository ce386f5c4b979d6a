"""A TFLite file as a side: every layer made an output, and where asked cut from its readers, in LiteRT.

LiteRT can also keep all tensors (`experimental_preserve_all_tensors`), but splits its delegate into one part for each
operator then, and gives no way to feed a layer with other values than those before it.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgekit.debug.layers import INPUT, Array, Layer, Run
from edgekit.debug.runtimes import opened
from edgekit.debug.tflite_layers import TfliteLayers
from edgekit.errors import FormatError

_GIVEN, _TAP = "given:", "tap:"
_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


class TfliteSide:
    """A TFLite file. Tensors of four axes are taken for channels-last, as its image operators have them.

    Raises:
        FormatError: it is no TFLite file.
    """

    runtimes: tuple[str, ...] = ("litert", "litert-unfused")

    def __init__(self, path: Path, title: str) -> None:
        self.title = title
        self._path = path
        self._content = path.read_bytes()
        self._found = self._read()
        self.layers: tuple[Layer, ...] = self._found.layers
        self._inputs = {f"input:{self._found.name(t)}": int(t) for t in self._found.sub.inputs}
        self.batch: int | None = max(layer.shape[0] for layer in self.layers if layer.kind == INPUT)

    def notes(self) -> tuple[str, ...]:
        """None: outputs more do not change what the delegate takes, it stays one part."""
        return ()

    @contextmanager
    def session(self, runtime: str, cut: frozenset[str]) -> Iterator[Run]:
        """See `Side.session`."""
        content, outputs, inputs = self._tapped(cut)
        grids = {layer.name: layer.grid for layer in self.layers}
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            path = Path(folder) / self._path.name
            path.write_bytes(content)
            with opened(runtime, path) as loaded:

                def run(given: Mapping[str, Array]) -> dict[str, Array]:
                    feeds = {inputs[name]: self._fed(name, values) for name, values in given.items() if name in inputs}
                    found = loaded.infer(feeds)
                    results = {name: _to_torch(found[tensor]) for name, tensor in outputs.items()}
                    real: dict[str, Array] = {}
                    for layer in self.layers:
                        grid = grids[layer.name]
                        if layer.name in results:
                            values = results[layer.name]
                            real[layer.name] = values.astype(np.float32) if grid is None else grid.decode(values)
                        else:
                            values = given[layer.name]
                            real[layer.name] = values if grid is None else grid.decode(grid.encode(values))
                    return real

                yield run

    def _read(self) -> TfliteLayers:
        try:
            return TfliteLayers(schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(self._content, 0)))
        except (struct.error, IndexError, TypeError, AttributeError) as err:
            raise FormatError(
                f"is no TFLite file: {err}", str(self._path), "name a file that a converter wrote"
            ) from err

    def _fed(self, name: str, values: Array) -> NDArray[Any]:
        """Values as the file takes them: channels-last, and in codes where it wants those."""
        tensor = self._inputs[name] if name in self._inputs else self._found.ends[name]
        fed = values.transpose(_TO_NHWC) if values.ndim == 4 else values
        grid = self._found.grid(tensor)
        return np.ascontiguousarray((fed if grid is None else grid.encode(fed)).astype(self._found.numpy_type(tensor)))

    def _tapped(self, cut: frozenset[str]) -> tuple[bytes, dict[str, str], dict[str, str]]:
        """Content of a copy that gives every layer; the output tensor of each, and the input of each that is fed."""
        found = self._read()
        graph, sub = found.graph, found.sub
        graph.model.signatureDefs = []
        network_inputs = [int(tensor) for tensor in sub.inputs]
        inputs = {f"input:{found.name(tensor)}": f"input:{i}" for i, tensor in enumerate(network_inputs)}
        for i, tensor in enumerate(network_inputs):
            sub.tensors[tensor].name = f"input:{i}".encode()
        outputs: dict[str, str] = {}
        ends = []
        for layer in found.layers:
            end = found.ends[layer.name]
            if end in network_inputs:
                continue
            if layer.name in cut and graph.readers(end):
                shape = graph.shape(end)
                given = graph.add_tensor(end, f"{_GIVEN}{len(inputs)}".encode(), shape=shape)
                for reader in graph.readers(end):
                    reader.inputs = [given if int(tensor) == end else int(tensor) for tensor in reader.inputs]
                sub.inputs = [*map(int, sub.inputs), given]
                inputs[layer.name] = f"{_GIVEN}{len(inputs)}"
            ends.append(end)
            outputs[layer.name] = f"{_TAP}{len(ends)}"
            sub.tensors[end].name = outputs[layer.name].encode()
        sub.outputs = ends
        builder = flatbuffers.Builder(len(self._content))
        builder.Finish(graph.model.Pack(builder), b"TFL3")
        return bytes(builder.Output()), outputs, inputs


def _to_torch(values: NDArray[Any]) -> NDArray[Any]:
    return values.transpose(_TO_NCHW) if values.ndim == 4 else values
