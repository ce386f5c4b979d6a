"""Q/DQ or float program -> bytes of a TFLite model, by litert-torch, without its chatter."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from edgekit.errors import MissingExtraError
from edgekit.formats.refusal import refusal
from edgekit.formats.tflite.spell import spell
from edgekit.nets.model import Model
from edgekit.schema.tensors import Layout

CHANNELS_LAST: dict[Layout, Layout] = {"NCHW": "NHWC"}


def convert(module: fx.GraphModule, model: Model, batch: int, *, integer: bool) -> bytes:
    """The TFLite flatbuffer of a program; image inputs and outputs become channels-last.

    Operators that TFLite has not are spelled in others, in `module` itself: its function stays the same.

    Raises:
        MissingExtraError: litert-torch is not installed.
        FormatError: the converter has no form for an operator; its own words are passed on.
    """
    litert = _import()
    spell(module)
    images = [index for index, spec in enumerate(model.inputs) if spec.layout in CHANNELS_LAST]
    maps = [index for index, spec in enumerate(model.outputs) if len(spec.shape) == 4]
    examples = [
        tensor.permute(0, 2, 3, 1).contiguous() if index in images else tensor
        for index, tensor in enumerate(model.example(batch))
    ]
    wrapped: Any = module
    if images or maps:
        wrapped = litert.to_channel_last_io(module, args=images, outputs=maps).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        try:
            with quiet():
                quantised = {"quant_config": _static_quantisation()} if integer else {}
                litert.convert(wrapped, tuple(examples), **quantised).export(str(path))
        except Exception as err:  # the converter raises many kinds; all mean that an operator is not expressible
            raise refusal(module, model, "tflite", _alone, err) from err
        return path.read_bytes()


def _alone(module: fx.GraphModule, examples: tuple[Tensor, ...]) -> None:
    with quiet():
        _import().convert(module, examples)


def _import() -> Any:
    try:
        with quiet():
            import litert_torch
    except ImportError as err:
        raise MissingExtraError(
            f"litert-torch is not installed: {err}", "format tflite", "pip install 'edgekit[tflite]'"
        ) from err
    return litert_torch


def _static_quantisation() -> Any:
    """Tells the converter to turn Q/DQ into integer kernels. What is quantised, and how, the program has decided."""
    from litert_torch.quantize import pt2e_quantizer, quant_config

    config = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    return quant_config.QuantConfig(pt2e_quantizer=pt2e_quantizer.PT2EQuantizer().set_global(config))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The converter, the delegate and their C++ parts report progress on both streams; a user can act on none of it."""
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(tempfile.TemporaryFile("w"))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        # libraries under it hang a handler of theirs on the root logger, bound to the stream that is about to close
        stack.callback(logging.root.handlers.__setitem__, slice(None), list(logging.root.handlers))
        sys.stdout.flush()
        sys.stderr.flush()
        for stream in (1, 2):
            copy = os.dup(stream)
            os.dup2(sink.fileno(), stream)
            stack.callback(os.close, copy)
            stack.callback(os.dup2, copy, stream)
        stack.enter_context(contextlib.redirect_stdout(sink))
        stack.enter_context(contextlib.redirect_stderr(sink))
        yield
