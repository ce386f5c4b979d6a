"""What is known of a graph before it runs: stored tensors, shapes, and everything that is computed of them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.nets.from_onnx.network import PerSample
from edgekit.nets.from_onnx.untaken import UntakenError

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]

FEW = 64  # numbers; a stored tensor of more is a weight, and what a graph becomes must not depend on its numbers

_AS_INPUTS: dict[str, tuple[tuple[str, type], ...]] = {
    "Unsqueeze": (("axes", np.int64),),
    "Clip": (("min", np.float32), ("max", np.float32)),
}
_NOT_COMPUTED = frozenset(
    {"If", "Loop", "Scan", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"}
    | {"Multinomial", "Bernoulli", "Dropout"}
)


@dataclass(frozen=True)
class Known:
    """A value that needs no input of the network to be known, but perhaps the batch.

    Attributes:
        at: its value at two batches; one array twice where it is the same.
        origin: name of the initializer that it is, if it is one.
        plain: no large stored tensor went into it, so layers may be chosen by its numbers.
    """

    at: tuple[Array, Array]
    origin: str | None = None
    plain: bool = True

    @property
    def fixed(self) -> bool:
        """Whether it is the same at every batch."""
        return self.at[0] is self.at[1]

    @property
    def array(self) -> Array:
        """Its value at every batch."""
        if not self.fixed:
            raise UntakenError("a value that depends on the batch stands where only a fixed one is taken")
        return self.at[0]

    def counts(self, batches: tuple[int, int]) -> tuple[int | PerSample, ...]:
        """Integers, those that grow with the batch as such."""
        pairs = zip(self.at[0].reshape(-1).tolist(), self.at[1].reshape(-1).tolist(), strict=True)
        found: list[int | PerSample] = []
        for first, second in pairs:
            each = round(second - first)  # the two batches are one apart
            found.append(int(first) if each == 0 else PerSample(each, round(first) - each * batches[0]))
        return tuple(found)


def stored(array: Array, origin: str | None = None) -> Known:
    """A tensor of the file."""
    return Known((array, array), origin, plain=array.size <= FEW or array.dtype.kind != "f")


def computed(node: onnx.NodeProto, inputs: Sequence[Known | None], opset: int) -> tuple[Known, ...] | None:
    """What a node makes of known values; None where that has another shape at another batch, or is not computed here.

    Raises:
        UntakenError: onnx's own definition of the operator refuses these values.
    """
    if node.op_type in _NOT_COMPUTED:
        return None
    given = [value for value in inputs if value is not None]
    fixed = all(value.fixed for value in given)
    results = [
        _evaluate(node, [None if value is None else value.at[k] for value in inputs], opset)
        for k in ((0,) if fixed else (0, 1))
    ]
    if any(one.shape != other.shape for one, other in zip(results[0], results[-1], strict=True)):
        return None
    plain = all(value.plain for value in given)
    return tuple(
        Known((one, one if np.array_equal(one, other) else other), plain=plain)
        for one, other in zip(results[0], results[-1], strict=True)
    )


def _with_inputs(node: onnx.NodeProto, feeds: dict[str, Array]) -> onnx.NodeProto:
    """The same node as operator set 13 spells it, where onnx computes no older spelling: attributes are inputs."""
    import onnx

    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    names = list(node.input)
    for name, dtype in _AS_INPUTS[node.op_type]:
        names.append(f"{node.output[0]}:{name}" if name in given else "")
        if name in given:
            feeds[names[-1]] = np.asarray(given[name], dtype=dtype)
    while not names[-1]:
        names.pop()
    return onnx.helper.make_node(node.op_type, names, list(node.output))


def _evaluate(node: onnx.NodeProto, arrays: Sequence[Array | None], opset: int) -> list[Array]:
    from onnx.reference import ReferenceEvaluator

    feeds = {name: array for name, array in zip(node.input, arrays, strict=True) if array is not None}
    if node.op_type in _AS_INPUTS and len(node.input) == 1:
        node, opset = _with_inputs(node, feeds), 13
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(node, opsets={"": opset}).run(None, feeds)
    except Exception as err:  # onnx's reference implementation raises many kinds
        raise UntakenError(f"it cannot be computed from what is stored: {str(err).splitlines()[0][:200]}") from err
    return [np.asarray(array) for array in found]
