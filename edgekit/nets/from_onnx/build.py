"""The door of this folder: a file, or the graph stored with a model, to a network."""

from __future__ import annotations

from pathlib import Path

import torch

from edgekit.nets.from_onnx.check import check
from edgekit.nets.from_onnx.convert import convert
from edgekit.nets.from_onnx.file import onnx_files, read_onnx
from edgekit.nets.from_onnx.inputs import describe_inputs
from edgekit.nets.from_onnx.network import LayerList
from edgekit.nets.from_onnx.stored import read_structure, structure_of
from edgekit.schema.recipe import ModelSource
from edgekit.schema.weight_files import check_sha256, sha256_of


def network_of_file(source: ModelSource) -> tuple[LayerList, ModelSource, bytes]:
    """The network of an .onnx file, checked against ONNX Runtime; its source with all inputs; its graph to be stored.

    Raises:
        DataError: it is another file than `sha256` says.
        ModelError: the file cannot be read, an operator is not taken, or the network computes something else.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    assert source.onnx is not None
    files = onnx_files(Path(source.onnx), source.where)
    check_sha256(files, source.sha256, "model.sha256")
    file = read_onnx(Path(source.onnx), source.where)
    inputs = describe_inputs(file.proto, source.inputs, source.where)
    structure = structure_of(file)
    with torch.random.fork_rng(devices=[]):
        network = convert(file, inputs, allow_float=source.allow_float)
    check(network, read_onnx(Path(source.onnx), source.where), inputs)  # read anew: a conversion fuses its graph
    digest = source.sha256 or sha256_of(files)
    return network, source.model_copy(update={"inputs": inputs, "sha256": digest}), structure


def network_of_structure(structure: bytes, source: ModelSource, where: str) -> LayerList:
    """The same network without its weights, from the graph that was stored with it.

    Raises:
        ModelError: the graph is damaged.
    """
    with torch.random.fork_rng(devices=[]):
        return convert(read_structure(structure, where), source.inputs, allow_float=source.allow_float)
