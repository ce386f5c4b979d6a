"""The Q/DQ program as PyTorch runs it: what every runtime's integers are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekit.formats.conventions.convention import Convention
from edgekit.formats.conventions.weights import qd
from edgekit.nets.graph import aten, tensor_of
from edgekit.nets.operators import kind_of, unmoved

_BYTES = (torch.int8, torch.uint8)
_FUSED = frozenset({"relu", "clamp"})
_CHANNELS = {"conv": 1, "linear": -1}  # dimension of an output that holds them


@dataclass(frozen=True)
class _Requantised:
    """How a kernel makes codes of its sums of integer products.

    Attributes:
        unit: real value of a sum of 1, float64, (C_out, ...) or ().
        factor: what a sum is multiplied with in float32, of the same shape.
        codes: the node that makes them, behind the operator and the activations of its kernel.
        scale: of the grid that they lie on.
    """

    unit: Tensor
    factor: Tensor
    codes: fx.Node
    scale: float


class Witness(nn.Module):
    """Runs a program in float64 and gives a tuple of float32 outputs.

    A runtime sums integer products exactly. float32 sums of the same products round, which flips codes that lie
    near the middle of two; in float64 the sums are exact, and what is left is the runtime's own rounding. Of that, the
    one that every kernel of the convention does alike is done here too: it multiplies its sum with one float32.

    Args:
        convention: what `module` was lowered for; None: it has no integers.
    """

    def __init__(self, module: fx.GraphModule, convention: Convention | None = None) -> None:
        super().__init__()
        self.module = module
        scales = convention is not None and convention.scales_in_float32
        self._interpreter = _Exact(module, dict(_requantised(module)) if scales else {})

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs for inputs of the program's own batch, float32 or integers."""
        with torch.no_grad():
            outputs = self._interpreter.run(*(x.double() if x.is_floating_point() else x for x in inputs))
        items = outputs if isinstance(outputs, tuple | list) else (outputs,)
        return tuple(item.float() for item in items)


class _Exact(fx.Interpreter):
    """Operators in float64; Q/DQ as in `numerics/quantise.py`, with codes kept as float64 integers.

    Args:
        kernels: the operators whose kernels make codes of integer sums, and how.
    """

    def __init__(self, module: fx.GraphModule, kernels: Mapping[fx.Node, _Requantised]) -> None:
        super().__init__(module)
        self._kernels = kernels
        self._codes = {kernel.codes for kernel in kernels.values()}

    def run_node(self, n: fx.Node) -> Any:
        source = n.all_input_nodes[0] if n.all_input_nodes else n
        if source.target is aten.clamp.default:  # limits a value to fewer codes than its type has
            source = source.all_input_nodes[0]
        self._reads_input = source.op == "placeholder"
        self._reads_sums = n in self._codes
        made = super().run_node(n)
        kernel = self._kernels.get(n)
        if kernel is None:
            return made
        return (made / kernel.unit).round().float().mul(kernel.factor).double() * kernel.scale

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is qd.quantize_per_tensor.default:
            value, scale, zero_point, qmin, qmax, _ = args
            if self._reads_input:
                # every runtime divides a float32 input in float32, and pixels often lie just between two codes
                value = (value.float() / scale).double()
                return value.round().add(zero_point).clamp(qmin, qmax)
            ratio = value / scale
            # what was a float32 before it was multiplied with `scale` is that float32 again
            return (ratio.float().double() if self._reads_sums else ratio).round().add(zero_point).clamp(qmin, qmax)
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


def _requantised(module: fx.GraphModule) -> Iterator[tuple[fx.Node, _Requantised]]:
    """The operators that sum products of bytes into a byte, and how."""
    for node in module.graph.nodes:
        kind = kind_of(node)
        if kind not in ("conv", "linear", "matmul"):
            continue
        codes = _only_reader(node)
        while codes is not None and kind_of(codes) in _FUSED:
            codes = _only_reader(codes)
        left, right = (_scale_of(module, arg) for arg in node.args[:2])
        if codes is None or codes.target is not qd.quantize_per_tensor.default or codes.args[5] not in _BYTES:
            continue
        if left is None or right is None:
            continue
        scale = codes.args[1]
        assert isinstance(scale, float)
        unit, factor = left * right, left.float() * right.float() / torch.tensor(scale)
        if unit.ndim == 1:
            shape = [1] * node.meta["val"].ndim
            shape[_CHANNELS[kind]] = -1
            unit, factor = unit.reshape(shape), factor.reshape(shape)
        yield node, _Requantised(unit, factor, codes, scale)


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _scale_of(module: fx.GraphModule, node: fx.Node) -> Tensor | None:
    """Scale of the bytes that stand behind an operand, () or (C_out,) float64; None if it has none."""
    node = unmoved(node)
    if node.target is qd.dequantize_per_channel.default:
        stored = node.args[1]
        assert isinstance(stored, fx.Node)
        return tensor_of(module, stored).double() if node.args[6] in _BYTES else None
    if node.target is qd.dequantize_per_tensor.default and node.args[5] in _BYTES:
        return torch.tensor(node.args[1], dtype=torch.float64)
    return None
