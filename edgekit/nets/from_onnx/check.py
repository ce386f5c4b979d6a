"""A converted network against ONNX Runtime on the file, and against itself at another batch."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekit.errors import ModelError
from edgekit.nets.from_onnx.file import OnnxFile
from edgekit.nets.from_onnx.network import LayerList
from edgekit.schema.tensors import InputSpec

_log = logging.getLogger(__name__)

_SAME_RATIO = 1e-3  # of the largest output: far above float32 rounding, far below any wrong layer


def check(network: LayerList, file: OnnxFile, inputs: tuple[InputSpec, ...]) -> None:
    """Refuse a network that computes something else than the file, or whose samples depend on each other.

    Raises:
        ModelError: one of the two.
    """
    batch = inputs[0].shape[0]
    first, second = (_random(inputs, batch, seed) for seed in (0, 1))
    found = _run(network, first)
    _check_runtime(found, first, file, inputs)
    both = tuple(torch.cat(pair) for pair in zip(first, second, strict=True))
    try:
        together = _run(network, both)
    except Exception as err:  # whichever layer meets a shape that does not fit
        raise _one_batch(f"at batch {2 * batch}: {str(err).splitlines()[0][:200]}", file) from err
    apart = _run(network, second)
    if not file.one_batch:
        _check_runtime(together, both, file, inputs)
    for name, output in together.items():
        wanted = torch.cat([found[name], apart[name]]) if found[name].dim() else found[name]
        if wanted.shape != output.shape or _ratio(output.numpy(), wanted.numpy()) > _SAME_RATIO:
            raise _one_batch(f"output {name!r} of a sample depends on the other samples of its batch", file)


def _one_batch(reason: str, file: OnnxFile) -> ModelError:
    return ModelError(
        f"the batch is not free: {reason}",
        file.where,
        "export the network with a dynamic batch (torch.onnx.export: dynamic_shapes or dynamic_axes)",
    )


def _check_runtime(
    found: Mapping[str, Tensor], feeds: tuple[Tensor, ...], file: OnnxFile, inputs: tuple[InputSpec, ...]
) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        content = file.proto.SerializeToString()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        wanted = session.run(list(found), {spec.name: feed.numpy() for spec, feed in zip(inputs, feeds, strict=True)})
    except Exception as err:  # ONNX Runtime raises classes of its own; a graph of 2 GB cannot be handed over
        _log.warning("%s: not compared with ONNX Runtime, which refuses it: %s", file.where, str(err).splitlines()[0])
        return
    for (name, output), expected in zip(found.items(), wanted, strict=True):
        ratio = _ratio(output.numpy(), np.asarray(expected)) if output.shape == expected.shape else float("inf")
        if ratio > _SAME_RATIO:
            raise ModelError(
                f"output {name!r} differs from what ONNX Runtime makes of the file by {ratio:.1e} of its largest value",
                file.where,
                "report it with the file: a network that computes something else is not built",
            )


def _ratio(found: NDArray[np.generic], wanted: NDArray[np.generic]) -> float:
    first, second = found.astype(np.float64), wanted.astype(np.float64)
    same = np.isclose(first, second, rtol=0, atol=0, equal_nan=True)
    if same.all():
        return 0.0
    return float(np.max(np.abs(first - second)[~same]) / max(float(np.abs(second).max()), 1e-12))


def _run(network: LayerList, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    with torch.no_grad():
        found = network(*inputs)
    if isinstance(found, dict):
        return found
    return {next(iter(network.wiring.outputs)): found}


def _random(inputs: tuple[InputSpec, ...], batch: int, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn((batch, *spec.shape[1:]), generator=generator)
        if spec.dtype == "float32"
        # small, since they may be places in a table
        else torch.randint(0, 2, (batch, *spec.shape[1:]), generator=generator).to(getattr(torch, spec.dtype))
        for spec in inputs
    )
