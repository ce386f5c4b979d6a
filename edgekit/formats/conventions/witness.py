"""The Q/DQ program as PyTorch runs it: what every runtime's integers are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

from edgekit.formats.conventions.convention import Convention
from edgekit.formats.conventions.weights import qd
from edgekit.nets.graph import aten, tensor_of
from edgekit.nets.operators import kind_of, unmoved

_BYTES = (torch.int8, torch.uint8)
_FUSED = frozenset({"relu", "clamp"})

_Grid: TypeAlias = tuple[Tensor, float]  # scale, float64 () or (C_out,), and zero point
_Round: TypeAlias = Callable[[Sequence[Any], Tensor], Tensor]


@dataclass(frozen=True)
class _Kernel:
    """An operator whose kernel rounds in a way of its own.

    Attributes:
        round: codes less their zero point, from the operator's operands and its exact output, float64.
        scale: of the grid that the codes lie on.
    """

    round: _Round
    scale: float


class Witness(nn.Module):
    """Runs a program in float64 and gives a tuple of float32 outputs.

    A runtime sums integer products exactly. float32 sums of the same products round, which flips codes that lie
    near the middle of two; in float64 the sums are exact, and what is left is the runtime's own rounding. Of that, what
    every kernel of the convention does alike is done here too: a sum of products is multiplied with one float32, and
    two tensors are added in float32.

    Args:
        convention: what `module` was lowered for; None: it has no integers.
    """

    def __init__(self, module: fx.GraphModule, convention: Convention | None = None) -> None:
        super().__init__()
        self.module = module
        self._interpreter = _Exact(module, {} if convention is None else dict(_kernels(module, convention)))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs for inputs of the program's own batch, float32 or integers."""
        with torch.no_grad():
            outputs = self._interpreter.run(*(x.double() if x.is_floating_point() else x for x in inputs))
        items = outputs if isinstance(outputs, tuple | list) else (outputs,)
        return tuple(item.float() for item in items)


class _Exact(fx.Interpreter):
    """Operators in float64; Q/DQ as in `numerics/quantise.py`, with codes kept as float64 integers.

    Args:
        kernels: of the operators that round by themselves.
    """

    def __init__(self, module: fx.GraphModule, kernels: Mapping[fx.Node, _Kernel]) -> None:
        super().__init__(module)
        self._kernels = kernels

    def run_node(self, n: fx.Node) -> Any:
        source = n.all_input_nodes[0] if n.all_input_nodes else n
        if source.target is aten.clamp.default:  # limits a value to fewer codes than its type has
            source = source.all_input_nodes[0]
        self._reads_input = source.op == "placeholder"
        made = super().run_node(n)
        kernel = self._kernels.get(n)
        if kernel is None:
            return made
        operands, _ = self.fetch_args_kwargs_from_env(n)
        return kernel.round(operands, made).double() * kernel.scale

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


def _kernels(module: fx.GraphModule, convention: Convention) -> Iterator[tuple[fx.Node, _Kernel]]:
    """The operators that make bytes of bytes in a way that is known."""
    for node in module.graph.nodes:
        kind = kind_of(node)
        sums = kind in ("conv", "linear", "matmul") and convention.scales_in_float32
        adds = kind == "add" and not node.kwargs and convention.adds_in_float32
        if not (sums or adds):
            continue
        codes = _only_reader(node)
        while codes is not None and kind_of(codes) in _FUSED:
            codes = _only_reader(codes)
        left, right = (_grid_of(module, arg) for arg in node.args[:2])
        if left is None or right is None or codes is None or codes.target is not qd.quantize_per_tensor.default:
            continue
        scale, zero_point, dtype = codes.args[1], codes.args[2], codes.args[5]
        if dtype in _BYTES:
            assert isinstance(scale, float)
            assert isinstance(zero_point, int)
            yield (
                node,
                _Kernel(_scaled(node, left, right, scale) if sums else _added(left, right, scale, zero_point), scale),
            )


def _scaled(node: fx.Node, left: _Grid, right: _Grid, scale: float) -> _Round:
    """Sums of products of codes, each multiplied with one float32."""
    unit, factor = left[0] * right[0], left[0].float() * right[0].float() / torch.tensor(scale)
    if unit.ndim == 1:
        shape = [1] * node.meta["val"].ndim
        shape[1 if kind_of(node) == "conv" else -1] = -1
        unit, factor = unit.reshape(shape), factor.reshape(shape)
    return lambda _, made: (made / unit).round().float().mul(factor).round()


def _added(left: _Grid, right: _Grid, scale: float, zero_point: int) -> _Round:
    """Codes of two tensors, each multiplied with a float32, added to what the zero points make; fused, right first."""
    one, other = (grid[0].float() / torch.tensor(scale) for grid in (left, right))
    start = zero_point - _fused(one, torch.tensor(left[1]), other * right[1])

    def codes(operands: Sequence[Any], _: Tensor) -> Tensor:
        first, second = (
            (values / own).round() + zero for values, (own, zero) in zip(operands, (left, right), strict=True)
        )
        sums = _fused(one, first, _fused(other, second, start))
        return sums.round() - zero_point  # the zero point is in what is rounded: a tie goes to the even code

    return codes


def _fused(ratio: Tensor, codes: Tensor, addend: Tensor) -> Tensor:
    """ratio * codes + addend, rounded to float32 once: in float64 the product of a float32 and a code is exact."""
    return (ratio.double() * codes + addend.double()).float()


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _grid_of(module: fx.GraphModule, node: fx.Node) -> _Grid | None:
    """The grid of the bytes that stand behind an operand; None if there are none."""
    node = unmoved(node)
    if node.target is qd.dequantize_per_channel.default:
        stored = node.args[1]
        assert isinstance(stored, fx.Node)
        return (tensor_of(module, stored).double(), 0.0) if node.args[6] in _BYTES else None
    if node.target is qd.dequantize_per_tensor.default and node.args[5] in _BYTES:
        _, scale, zero_point, *_ = node.args
        return torch.tensor(scale, dtype=torch.float64), float(zero_point)  # type: ignore[arg-type]
    return None
