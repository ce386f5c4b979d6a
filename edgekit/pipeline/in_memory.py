"""A network in memory, quantised and exported: no recipe, no store, no bundle. For notebooks and other programs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.data.samples import Samples, Splits
from edgekit.data.score import Score
from edgekit.errors import DataError, FormatError, PassError
from edgekit.formats.artifact import Artifact
from edgekit.formats.conventions.convention import find_convention
from edgekit.formats.conventions.lowering import lower
from edgekit.formats.table import export
from edgekit.nets.in_memory import model_in_memory
from edgekit.nets.model import Model
from edgekit.nets.steps import named_inputs
from edgekit.passes.context import Context
from edgekit.passes.table import run_pass
from edgekit.pipeline.artifacts import HERE
from edgekit.pipeline.choose import Variant, choose_variants
from edgekit.pipeline.parity import SAMPLES, expect, judge_parity, output_edges
from edgekit.profiling.inference import infer
from edgekit.schema.base import Record
from edgekit.schema.manifest import ParityRow
from edgekit.schema.metric import MetricSpec
from edgekit.schema.passes import QuantizeOptions, ReparamOptions
from edgekit.schema.recipe import Export, FormatName
from edgekit.schema.scheme import is_minifloat, precision_of
from edgekit.schema.target import Target
from edgekit.schema.validate import validate

Given = Tensor | NDArray[Any]


@dataclass(frozen=True)
class QuantisedFile:
    """One exported file, tested.

    Attributes:
        artifact: how it is quantised, and the PyTorch program that it agrees with.
        parity: how far its answers in `runtime` are from those of the program; None: not run.
    """

    path: Path
    artifact: Artifact
    runtime: str
    parity: ParityRow | None


@dataclass(frozen=True)
class Quantised:
    """A quantised network in memory.

    Attributes:
        model: the network, its scales and its integer codes.
        records: what the pass tells of its work, such as which samples it used.
    """

    model: Model
    target: Target
    options: QuantizeOptions
    samples: tuple[Tensor, ...]
    records: tuple[Record, ...] = field(default=())

    def program(self, batch: int = 1) -> nn.Module:
        """What the target's first artifact computes, in PyTorch; takes `batch` samples at a time."""
        return _lower(self.target, self.model, batch)

    def export(
        self, folder: str | Path, *, formats: Sequence[FormatName] | None = None, batch: int = 1, check: bool = True
    ) -> tuple[QuantisedFile, ...]:
        """Write the files that the target runs into `folder`: model.onnx, model.tflite, model.tensorrt.onnx.

        Every file is run on up to 16 of the samples, in a runtime of this machine, and compared with its PyTorch
        program. Nothing appears in `folder` before all of them have passed; files of the same names are replaced.

        Args:
            formats: of the target's; None: all of them.
            batch: samples that the file takes at a time.
            check: False: do not run the files.

        Raises:
            FormatError: the network cannot be expressed in a format, or a file does not answer as it should.
            MissingExtraError: the library that writes a format is not installed.
            DeviceError: a file does not run.
        """
        options = Export(formats=None if formats is None else tuple(formats), batch=batch)
        variants = choose_variants(self.target, options, quantised=True, precision=_precision(self.options))
        place = Path(folder)
        with tempfile.TemporaryDirectory(prefix="edgekit-") as built:
            made = [self._export(variant, Path(built), options, check=check) for variant in variants]
            place.mkdir(parents=True, exist_ok=True)
            for path in sorted(Path(built).iterdir()):
                _move(path, place / path.name)
        return tuple(
            replace(one, path=place / one.path.name, artifact=replace(one.artifact, folder=place)) for one in made
        )

    def _export(self, variant: Variant, folder: Path, options: Export, *, check: bool) -> QuantisedFile:
        model = self.model if not variant.not_int8 else replace(self.model, table=None)
        artifact = export(model, variant.format, variant.convention, folder, variant.stem, options)
        found = QuantisedFile(artifact.path, artifact, variant.local_runtime, None)
        if not check:
            return found
        expected = expect(artifact, tuple(own[:SAMPLES] for own in self.samples), output_edges(self.model))
        named = named_inputs(self.model.inputs, expected.inputs)
        layouts = {spec.name: spec.layout for spec in self.model.inputs}
        given = infer(HERE, artifact.path, artifact.row, variant.local_runtime, named, layouts)
        parity = judge_parity(artifact.row, expected, given.outputs)
        if not parity.passed:
            error, tolerance = parity.max_abs_error, parity.tolerance
            raise FormatError(
                f"its answers are {error:.3g} from its PyTorch program's, and {tolerance:.3g} is tolerated",
                f"{artifact.row.path} in {given.runtime} {given.runtime_version}",
                "this is a fault of the exporter or the runtime: report it, or leave the format out",
            )
        return replace(found, runtime=f"{given.runtime} {given.runtime_version}", parity=parity)


def quantise_network(
    network: nn.Module, samples: Given | Sequence[Given], target: Target, options: Mapping[str, Any]
) -> Quantised:
    """Merge norms and branches of a copy of `network`, and quantise it with ranges seen on `samples`.

    Args:
        samples: (N, ...) as the network takes them; for several inputs one of these for each.
        options: of the pass quantize.

    Raises:
        SchemaError: an option is unknown or has a wrong value.
        DataError: too few samples, or not one count for all inputs.
        ModelError: the network does not take the samples, or cannot be traced.
        PassError: an option needs labels, a device or a recipe.
    """
    checked = validate(QuantizeOptions, dict(options), "quantize")
    _refuse_what_needs_a_recipe(checked)
    inputs = _tensors(samples)
    model = model_in_memory(network, inputs)
    records: list[Record] = []
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        context = Context(
            target=target,
            splits=Splits(None, Samples(inputs, torch.zeros(len(inputs[0]), dtype=torch.int64)), None, digest=""),
            score=Score.of(MetricSpec(name="top1")),
            teachers=_no_teacher,
            measure=lambda model: None,
            lower=lambda model, batch: _lower(target, model, batch),
            seed=0,
            progress=lambda done, total, note="": None,
            folder=Path(folder),
            record=records.append,
        )
        merged = run_pass("reparam", model, ReparamOptions(), context)
        quantised = run_pass("quantize", merged, checked, context)
    return Quantised(quantised, target, checked, inputs, tuple(records))


def _lower(target: Target, model: Model, batch: int) -> nn.Module:
    return lower(model, find_convention(target.formats[0].convention), batch).module


def _refuse_what_needs_a_recipe(options: QuantizeOptions) -> None:
    fix = "write a recipe: edgekit.build, or `edgekit init`"
    if options.mode == "auto":
        raise PassError("mode auto judges by a metric on labelled samples, and there are none", "quantize: mode", fix)
    if options.budget is not None and options.budget.latency_ms is not None:
        raise PassError("a budget of latency_ms is measured on a device, and none is named", "quantize: budget", fix)
    if options.choose is not None:
        raise PassError("samples are given, so none are chosen", "quantize: choose", "give those that should be used")


def _precision(options: QuantizeOptions) -> Any:
    if is_minifloat(options.activations):
        raise PassError(
            f"no runtime computes with {options.activations} activations",
            "quantize: activations",
            "use `program()`, which simulates them in PyTorch, or `activations='float'`",
        )
    return precision_of(options.weights, options.activations)


def _tensors(samples: Given | Sequence[Given]) -> tuple[Tensor, ...]:
    given = samples if isinstance(samples, tuple | list) else (cast(Given, samples),)
    tensors = tuple(torch.as_tensor(np.asarray(own) if not isinstance(own, Tensor) else own).detach() for own in given)
    counts = {len(own) if own.ndim else 0 for own in tensors}
    if len(counts) != 1 or counts <= {0}:
        shapes = ", ".join(str(tuple(own.shape)) for own in tensors) or "nothing"
        raise DataError(f"samples are {shapes}", "samples", "give (N, ...) for each input, of one N")
    tensors = tuple(own.cpu().float() if own.dtype == torch.float64 else own.cpu() for own in tensors)
    for own in tensors:
        if own.is_floating_point() and not torch.isfinite(own).all():
            raise DataError("a sample is NaN or infinite", "samples", "remove it, or correct it")
    return tensors


def _move(source: Path, place: Path) -> None:
    """Rename, by way of a copy beside the place where that is another disk."""
    beside = place.with_name(f".{place.name}.new")
    try:
        beside.write_bytes(source.read_bytes())
        os.replace(beside, place)
    finally:
        beside.unlink(missing_ok=True)


def _no_teacher() -> NoReturn:
    raise PassError("there is no teacher", "quantize", "write a recipe with a teacher")
