"""What a network takes on the device: layers once each, in a table, for a search; the whole network for what is said.

The time of a layer alone holds the call of the runtime, and a runtime fuses what follows a layer into it. So the sum of
a table says which cut saves more; what a network takes is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.outputs import tensors_of
from edgekit.schema.profile import Profile
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec

Measure = Callable[[Model], Profile | None]


def measure_ms(measure: Measure, model: Model) -> float:
    """p50 of a whole model on the device.

    Raises:
        PassError: there is no device.
    """
    profile = measure(model)
    if profile is None:
        raise PassError(
            "a budget of latency is measured, and no device is named",
            "step prune: budget",
            "build with --device NAME, or set a budget of macs_ratio, params_ratio or size_ratio",
        )
    return profile.summary.p50_ms


@dataclass
class LatencyTable:
    """p50 in ms of single layers at batch 1, each measured when it is first asked for.

    Attributes:
        measure: of the context.
        times: what is known, by what a layer's time depends on.
    """

    measure: Measure
    times: dict[Hashable, float] = field(default_factory=dict)

    def total(self, model: Model) -> float:
        """The sum over the calls of all innermost modules with parameters, but for norms."""
        return sum(self.layer_ms(layer, *given) for layer, given, _ in _calls(model))

    def layer_ms(self, layer: nn.Module, *given: Tensor) -> float:
        """One layer on inputs (1, ...); layers that torch shows alike, on inputs of the same shapes, are one."""
        shapes = tuple(tuple(parameter.shape) for parameter in layer.parameters())
        key = (repr(layer), shapes, tuple(tuple(tensor.shape) for tensor in given))
        if key not in self.times:
            self.times[key] = measure_ms(self.measure, alone(layer, *given))
        return self.times[key]


def timed_layers(model: Model) -> list[tuple[nn.Module, Tensor]]:
    """Those of the innermost modules that take and give one tensor, with the input of each call."""
    return [(layer, given[0]) for layer, given, made in _calls(model) if len(given) == 1 and isinstance(made, Tensor)]


def alone(layer: nn.Module, *given: Tensor) -> Model:
    """A layer as a network of its own, with inputs of these shapes."""
    network = _Alone(layer).eval()
    with torch.no_grad():
        made = network(*given)
    inputs = tuple(InputSpec(name=f"input_{i}", shape=tuple(tensor.shape)) for i, tensor in enumerate(given))
    outputs = tuple(OutputSpec(name=f"output_{i}", shape=tuple(tensor.shape)) for i, tensor in enumerate(made))
    return Model(network, ModelSource(factory="edgekit.passes.prune.latency:alone", inputs=inputs), outputs)


class _Alone(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors_of(self.layer(*given)))


def _calls(model: Model) -> list[tuple[nn.Module, tuple[Tensor, ...], Any]]:
    """Every call of an innermost module with parameters whose arguments are tensors of floats: what went in and out."""
    found: list[tuple[nn.Module, tuple[Tensor, ...], Any]] = []

    def see(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and all(isinstance(given, Tensor) and given.is_floating_point() for given in args):
            found.append((layer, args, output))

    handles = [layer.register_forward_hook(see) for layer in model.network.modules() if _counts(layer)]
    try:
        with torch.no_grad():
            model.network(*model.example())
    finally:
        for handle in handles:
            handle.remove()
    return found


def _counts(layer: nn.Module) -> bool:
    """Whether a module is an innermost one that a runtime spends time on; norms are folded into what is before them."""
    own = next(layer.parameters(recurse=False), None) is not None
    inner = next(layer.children(), None) is None
    return own and inner and "Norm" not in type(layer).__name__
