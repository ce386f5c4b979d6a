"""Losses: from a batch's outputs, inputs and labels to one number, smaller is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.errors import PassError
from edgekit.schema.reference import import_function

Inputs: TypeAlias = tuple[Tensor, ...]
LossFunction: TypeAlias = Callable[[Any, Inputs, Tensor], Tensor]
"""(outputs as the network returns them, inputs as augmented, labels) of one batch -> mean over its samples."""

_LEFT_OUT = -1  # label of a place that is passed over, a sentence's padding; so it is by the metric `perplexity`
_OWN = "write a loss of your own: `loss: package.module:function` of (outputs, inputs, labels)"


def find_loss(name: str, where: str, label_smoothing: float = 0.0) -> LossFunction:
    """The loss called `name`, or the user's own of `package.module:function`.

    The user's function is called with what the network returns, with the input (a tuple where the network has several)
    and with the labels.

    Args:
        where: the step, for errors.

    Raises:
        PassError: the function cannot be imported. Later, by the loss: the outputs or labels of a batch do not fit it,
            or the user's function fails or gives no single number.
    """
    place = f"{where}, loss {name}"
    if ":" in name:
        return partial(_own, import_function(name, f"{where}, loss", PassError), place)
    if name == "cross_entropy":
        return partial(_cross_entropy, place, label_smoothing)
    return partial(_LOSSES[name], place)


def only_output(outputs: Any, where: str) -> Tensor:
    """The one tensor that a network returns, float32.

    Raises:
        PassError: it returns several.
    """
    values = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
    if isinstance(values, Sequence) and len(values) == 1:
        values = values[0]
    if not isinstance(values, Tensor):
        raise PassError(f"the network has {len(values)} outputs, and this loss takes one", where, _OWN)
    return values.float()


def _cross_entropy(where: str, label_smoothing: float, outputs: Any, _inputs: Inputs, labels: Tensor) -> Tensor:
    """Logits (N, C), or (N, T, C) for sequences, against class indices (N,) or (N, T), of which -1 is passed over."""
    logits = only_output(outputs, where)
    if labels.is_floating_point():
        raise PassError(
            f"labels are {_described(labels)}, and cross_entropy counts classes",
            where,
            "set `loss: mse` to learn numbers, `loss: bce` for shares in [0, 1]; or give class indices as integers",
        )
    if logits.dim() < 2 or labels.shape != logits.shape[:-1]:
        raise PassError(
            f"labels of shape {tuple(labels.shape)} for outputs of {tuple(logits.shape)}",
            where,
            "give one class index for each row of outputs: (N,) for (N, C), (N, T) for (N, T, C)",
        )
    counted = labels if labels.dim() == 1 else labels[labels != _LEFT_OUT]  # every sample has a class, not every place
    if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < logits.shape[-1]:
        raise PassError(
            f"labels from {int(counted.min())} to {int(counted.max())} for {logits.shape[-1]} classes",
            where,
            f"count classes from 0 to {logits.shape[-1] - 1}, or give the network an output for every class",
        )
    return F.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), ignore_index=_LEFT_OUT, label_smoothing=label_smoothing
    )


def _mse(where: str, outputs: Any, _inputs: Inputs, labels: Tensor) -> Tensor:
    """Mean squared difference between outputs and labels, both (N, D); (N,) counts as (N, 1)."""
    values = only_output(outputs, where)
    return F.mse_loss(values, _like(values, labels, where))


def _bce(where: str, outputs: Any, _inputs: Inputs, labels: Tensor) -> Tensor:
    """Binary cross-entropy of logits against shares in [0, 1], both (N, D); (N,) counts as (N, 1)."""
    logits = only_output(outputs, where)
    shares = _like(logits, labels, where)
    low, high = float(shares.min()), float(shares.max())
    if not 0 <= low <= high <= 1:
        raise PassError(
            f"labels from {low:g} to {high:g}, and bce takes shares in [0, 1]",
            where,
            "set `loss: mse` to learn numbers, or give labels of 0, 1 and what lies between",
        )
    return F.binary_cross_entropy_with_logits(logits, shares)


def _reconstruction(where: str, outputs: Any, inputs: Inputs, _labels: Tensor) -> Tensor:
    """Mean squared difference between the output and the input; labels are not looked at."""
    values = only_output(outputs, where)
    if len(inputs) != 1 or inputs[0].shape != values.shape:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise PassError(
            f"an output of shape {tuple(values.shape)} for inputs of {shapes}",
            where,
            "reconstruction wants one input and an output of its shape; else " + _OWN,
        )
    return F.mse_loss(values, inputs[0].float())


_LOSSES: Mapping[str, Callable[[str, Any, Inputs, Tensor], Tensor]] = {
    "mse": _mse,
    "bce": _bce,
    "reconstruction": _reconstruction,
}


def _own(function: Callable[..., Any], where: str, outputs: Any, inputs: Inputs, labels: Tensor) -> Tensor:
    try:
        value = function(outputs, inputs[0] if len(inputs) == 1 else inputs, labels)
    except Exception as err:  # the user's code may raise anything
        raise PassError(
            f"the loss raised {err!r}",
            where,
            f"make it take outputs {_shapes(outputs)}, inputs {_shapes(inputs)} and labels {_described(labels)}",
        ) from err
    if not isinstance(value, Tensor) or value.numel() != 1 or not (value.requires_grad or not torch.is_grad_enabled()):
        given = _described(value) if isinstance(value, Tensor) else repr(value)
        raise PassError(
            f"the loss gave {given}", where, "return one number as a tensor that was computed from the outputs"
        )
    return value.reshape(())


def _like(values: Tensor, labels: Tensor, where: str) -> Tensor:
    """Labels as floats in the shape of `values`."""
    if labels.shape != values.shape and {labels.shape, values.shape} != {values.shape[:1], (*values.shape[:1], 1)}:
        raise PassError(
            f"labels are {_described(labels)}, for outputs of shape {tuple(values.shape)}",
            where,
            "give labels in the shape of the outputs; where they are class indices, set `loss: cross_entropy`",
        )
    return labels.to(values.dtype).reshape(values.shape)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def _shapes(values: Any) -> str:
    if isinstance(values, Tensor):
        return str(tuple(values.shape))
    if isinstance(values, Mapping):
        return ", ".join(f"{name} {_shapes(value)}" for name, value in values.items())
    if isinstance(values, Sequence):
        return ", ".join(_shapes(value) for value in values)
    return type(values).__name__
