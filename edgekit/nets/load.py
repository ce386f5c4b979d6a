"""From what a recipe says of a network to a Model: make it, load the weights, see what comes out."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from edgekit.errors import ModelError
from edgekit.nets.checkpoint import read_state
from edgekit.nets.fit import check_finite, load_state
from edgekit.nets.libraries import ByNames, load_transformers, make_timm, make_transformers
from edgekit.nets.model import Model
from edgekit.nets.pt2.network import ExportedNetwork
from edgekit.nets.pt2.read import declared_inputs, read_exported
from edgekit.nets.steps import check_states
from edgekit.schema.recipe import ModelSource
from edgekit.schema.reference import import_function
from edgekit.schema.tensors import DType, OutputSpec
from edgekit.schema.weight_files import check_sha256, files_of, sha256_of

_DTYPES: Mapping[torch.dtype, DType] = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.int8: "int8",
    torch.uint8: "uint8",
    torch.int32: "int32",
    torch.int64: "int64",
}

Maker: TypeAlias = Callable[[ModelSource], nn.Module]


def build(source: ModelSource, seed: int = 0) -> Model:
    """The network that `source` describes, in eval mode, with its outputs found by running it.

    Args:
        seed: decides the initial weights of a network, or part of one, that no checkpoint fills.

    Raises:
        DataError: the checkpoint is absent or another file than declared.
        ModelError: the factory fails, the weights do not fit or are not finite, or the network does not take the
            declared inputs.
    """
    structure: bytes | None = None
    if source.onnx is not None:
        network, source, structure = _from_onnx().network_of_file(source)
    else:
        whole = source.transformers is not None and source.checkpoint is None
        network = construct(source, seed, load_transformers if whole else None)
        if source.file is not None and source.sha256 is None:
            files = files_of(Path(source.file), f"model.{source.key}")
            source = source.model_copy(update={"sha256": sha256_of(files)})
    if not source.inputs and isinstance(network, ExportedNetwork):
        source = source.model_copy(update={"inputs": declared_inputs(network.graph, source.where)})
    if source.checkpoint is not None:
        inner = network.model if isinstance(network, ByNames) else network
        load_state(inner, read_state(source.checkpoint), source.checkpoint)
    check_finite(network, f"model.checkpoint: {source.checkpoint.path}" if source.checkpoint else source.where)
    outputs = find_outputs(network, source)
    check_states(source.inputs, outputs)
    return Model(network, source, outputs, structure=structure)


def reconstruct(source: ModelSource, structure: bytes | None, where: str) -> nn.Module:
    """The network of a model that was saved, without its weights.

    Args:
        structure: `Model.structure` as it was saved.
        where: the place of `structure`, for messages.
    """
    if structure is None:
        return construct(source)
    network: nn.Module = _from_onnx().network_of_structure(structure, source, where)
    return network


def _from_onnx() -> Any:
    # by name, so that keys of steps of networks that come from no .onnx file do not depend on what reads one
    return importlib.import_module("edgekit.nets.from_onnx.build")


def construct(source: ModelSource, seed: int = 0, make: Maker | None = None) -> nn.Module:
    """The network in eval mode, without its checkpoint; the global random state is left as it was.

    Args:
        make: called in place of what makes networks of this source.

    Raises:
        DataError: a file is absent, or another one than its sha256 says.
        MissingExtraError: the library that knows the network is not installed.
        ModelError: the factory fails, or the file is refused.
    """
    if source.file is not None:
        check_sha256(files_of(Path(source.file), f"model.{source.key}"), source.sha256, "model.sha256")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = (make or _MAKERS[source.key])(source).eval()
    for tensor in (*network.parameters(), *network.buffers()):
        if not is_lazy(tensor) and tensor.stride() != torch.empty(tensor.shape, device="meta").stride():
            # kernels round by the order of numbers in memory: channels last or not, one network gives one artifact
            tensor.data = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.data)
    return network


def _call_factory(source: ModelSource) -> nn.Module:
    assert source.factory is not None
    factory = import_function(source.factory, "model.factory", ModelError)
    try:
        network = factory(**source.arguments)
    except Exception as err:  # a user's factory may raise anything
        raise ModelError(
            f"the factory raised {err!r}", source.where, "check model.arguments against the function"
        ) from err
    if not isinstance(network, nn.Module):
        raise ModelError(f"the factory returned {type(network).__name__}", source.where, "return a torch.nn.Module")
    return network


_MAKERS: Mapping[str, Maker] = {
    "factory": _call_factory,
    "pt2": lambda source: read_exported(Path(source.reference), "model.pt2"),
    "timm": make_timm,
    "transformers": make_transformers,
}


def input_names(network: nn.Module, count: int) -> list[str]:
    """What `forward` calls its first `count` inputs; numbered, where it names fewer."""
    own = list(inspect.signature(network.forward).parameters)
    return own[:count] if len(own) >= count else [f"input{i}" for i in range(count)]


def find_outputs(network: nn.Module, source: ModelSource) -> tuple[OutputSpec, ...]:
    """Names, shapes and dtypes of the outputs, seen at batch 1 and 2. One output is `output`; several are numbered.

    A network that returns a dict names its outputs itself.

    Raises:
        ModelError: the network refuses the declared inputs, or the first dimension of an output is not the batch.
    """
    model = Model(network, source, ())
    once, twice = (_run(network, model.example(batch), source) for batch in (1, 2))
    outputs = []
    for name, first in once.items():
        second = twice[name]
        if first.shape[:1] != (1,) or second.shape != (2, *first.shape[1:]):
            raise ModelError(
                f"output {name!r} is {tuple(first.shape)} at batch 1 and {tuple(second.shape)} at batch 2",
                source.where,
                "every output must have the batch as its first dimension",
            )
        if first.dtype not in _DTYPES:
            raise ModelError(
                f"output {name!r} is {first.dtype}",
                source.where,
                f"give one of {set(_DTYPES.values())}",
            )
        outputs.append(OutputSpec(name=name, shape=tuple(first.shape), dtype=_DTYPES[first.dtype]))
    return tuple(outputs)


def _run(network: nn.Module, inputs: tuple[Tensor, ...], source: ModelSource) -> dict[str, Tensor]:
    try:
        with torch.no_grad():
            result = network(*inputs)
    except Exception as err:  # shapes are checked by whichever layer meets them first
        shapes = ", ".join(
            f"{spec.name} {tuple(tensor.shape)}" for spec, tensor in zip(source.inputs, inputs, strict=True)
        )
        raise ModelError(
            f"the network does not take {shapes}: {err}", "model.inputs", "declare the shapes that the network takes"
        ) from err
    named: Mapping[str, object]
    if isinstance(result, Mapping):
        named = {str(name): value for name, value in result.items()}
    elif isinstance(result, Sequence):
        named = {f"output{i}": value for i, value in enumerate(result)} if len(result) != 1 else {"output": result[0]}
    else:
        named = {"output": result}
    others = [f"{name}: {type(value).__name__}" for name, value in named.items() if not isinstance(value, Tensor)]
    if others or not named:
        raise ModelError(
            f"the network returns {', '.join(others) or 'nothing'}",
            source.where,
            "return a tensor, or a tuple or dict of tensors",
        )
    return cast(dict[str, Tensor], dict(named))
