"""From a .pt2 file to a network with its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from edgekit.errors import ModelError
from edgekit.nets.pt2.archive import read_archive
from edgekit.nets.pt2.batch import free_batch
from edgekit.nets.pt2.graph import Graph, read_graph
from edgekit.nets.pt2.network import ExportedNetwork
from edgekit.schema.tensors import LAYOUT_BY_RANK, DType, InputSpec, Layout

_DTYPES: Mapping[torch.dtype, DType] = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.int8: "int8",
    torch.uint8: "uint8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
}


def read_exported(path: Path, where: str) -> ExportedNetwork:
    """The network of a .pt2 file, for any batch, in eval mode.

    Nothing of the file is unpickled or run but calls of known operators on tensors.

    Args:
        where: recipe key, for messages.

    Raises:
        ModelError: the file is none, holds something else, or is a program of one batch.
    """
    archive = read_archive(path, where)
    place = f"{where}: {path}"
    network = ExportedNetwork(read_graph(archive.program, place), archive, place)
    free_batch(network, place)
    return network


def declared_inputs(graph: Graph, where: str) -> tuple[InputSpec, ...]:
    """Inputs as the program says, at batch 1.

    Raises:
        ModelError: another dimension than the batch is free too, or an input has a dtype that no input can have.
    """
    specs = []
    for name in graph.inputs:
        if name is None:
            continue
        sizes = graph.sizes[name]
        if None in sizes[1:] or not sizes:
            raise ModelError(
                f"the input {name!r} has the shape {['free' if size is None else size for size in sizes]}",
                where,
                f"say which to build for: model.inputs: [{{name: {name}, shape: [1, ...]}}]",
            )
        if graph.dtypes[name] not in _DTYPES:
            raise ModelError(
                f"the input {name!r} is {graph.dtypes[name]}", where, f"give one of {set(_DTYPES.values())}"
            )
        shape = (1, *(size for size in sizes[1:] if size is not None))
        specs.append(InputSpec(name=name, shape=shape, dtype=_DTYPES[graph.dtypes[name]], layout=_layout(shape)))
    return tuple(specs)


def _layout(shape: tuple[int, ...]) -> Layout:
    """The usual one for so many dimensions; a recipe that means another declares its inputs."""
    return LAYOUT_BY_RANK.get(len(shape), "NCHW")
