"""The Q/DQ program as PyTorch runs it: what every runtime's integers are compared with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekit.formats.conventions.weights import qd
from edgekit.nets.graph import aten


class Witness(nn.Module):
    """Runs a program in float64 and gives a tuple of float32 outputs.

    A runtime sums integer products exactly. float32 sums of the same products round, which flips codes that lie
    near the middle of two; in float64 the sums are exact, and what is left is the runtime's own rounding.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__()
        self.module = module
        self._interpreter = _Exact(module)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs for inputs of the program's own batch, float32 or integers."""
        with torch.no_grad():
            outputs = self._interpreter.run(*(x.double() if x.is_floating_point() else x for x in inputs))
        items = outputs if isinstance(outputs, tuple | list) else (outputs,)
        return tuple(item.float() for item in items)


class _Exact(fx.Interpreter):
    """Operators in float64; Q/DQ as in `numerics/quantise.py`, with codes kept as float64 integers."""

    def run_node(self, n: fx.Node) -> Any:
        source = n.all_input_nodes[0] if n.all_input_nodes else n
        if source.target is aten.clamp.default:  # limits a value to fewer codes than its type has
            source = source.all_input_nodes[0]
        self._reads_input = source.op == "placeholder"
        return super().run_node(n)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is qd.quantize_per_tensor.default:
            value, scale, zero_point, qmin, qmax, _ = args
            if self._reads_input:
                # every runtime divides a float32 input in float32, and pixels often lie just between two codes
                value = (value.float() / scale).double()
                return value.round().add(zero_point).clamp(qmin, qmax)
            return (value / scale).round().add(zero_point).clamp(qmin, qmax)
        if target is qd.dequantize_per_tensor.default:
            codes, scale, zero_point, *_ = args
            return (codes.double() - zero_point) * scale
        if target in (qd.quantize_per_channel.default, qd.dequantize_per_channel.default):
            value, scale, _, axis, qmin, qmax, _ = args
            shape = [1] * value.dim()
            shape[axis] = -1
            scale = scale.double().reshape(shape)
            if target is qd.dequantize_per_channel.default:
                return value.double() * scale
            return (value.double() / scale).round().clamp(qmin, qmax)
        made = super().call_function(target, args, kwargs)
        # zeros and ones that the program makes itself are float32, and some operators mix no widths
        return made.double() if isinstance(made, Tensor) and made.dtype == torch.float32 else made

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = super().get_attr(target, args, kwargs)
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
