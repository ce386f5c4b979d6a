"""A network that was handed over in memory, not named: it can be compressed and exported, and not be built again."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from torch import Tensor, nn

from edgekit.errors import ModelError
from edgekit.nets.fit import check_finite
from edgekit.nets.load import find_outputs, input_names
from edgekit.nets.model import Model
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import LAYOUT_BY_RANK, DType, InputSpec

_DTYPES: Mapping[torch.dtype, DType] = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.int32: "int32",
    torch.int64: "int64",
}


def model_in_memory(network: nn.Module, samples: Sequence[Tensor]) -> Model:
    """A copy of `network` as a Model, in eval mode on the CPU; `network` is left as it is.

    Args:
        samples: for each input of the network, in its order, (N, ...) as it takes them.

    Raises:
        ModelError: a weight is not finite, the network does not take the samples, or what it gives is no batch.
    """
    kind = type(network).__name__
    own = copy.deepcopy(network).cpu().eval()
    names = input_names(own, len(samples))
    inputs = tuple(_spec(name, given) for name, given in zip(names, samples, strict=True))
    source = ModelSource(factory=f"{__name__}:network_in_memory", arguments={"kind": kind}, inputs=inputs)
    check_finite(own, f"network {kind}")
    return Model(own, source, find_outputs(own, source))


def network_in_memory(kind: str) -> NoReturn:
    """Stands where a factory would, and says that there is none.

    Raises:
        ModelError: always.
    """
    raise ModelError(
        f"the network was handed over in memory as a {kind}: nothing says how to make it again",
        "model.factory",
        "write a function that returns it, and name it in a recipe: `edgekit init --model module:function`",
    )


def _spec(name: str, given: Tensor) -> InputSpec:
    if given.dtype not in _DTYPES:
        known = ", ".join(_DTYPES.values())
        raise ModelError(f"samples of input {name!r} are {given.dtype}", "samples", f"give one of {known}")
    shape = (1, *given.shape[1:])
    return InputSpec(name=name, shape=shape, dtype=_DTYPES[given.dtype], layout=LAYOUT_BY_RANK.get(len(shape), "N"))
