"""From what a user names to what is compared: bundles, recipes, files; and the samples that go in."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from edgekit.data.samples import Samples
from edgekit.data.splits import find_data
from edgekit.debug.compare import DebugSamples
from edgekit.debug.layers import Array, Side, inputs_of
from edgekit.debug.network import NetworkSide
from edgekit.errors import DataError, ModelError, SchemaError
from edgekit.nets.model import Model
from edgekit.pipeline.plan import Plan
from edgekit.pipeline.progress import Reporter
from edgekit.pipeline.request import BuildRequest, plan_build
from edgekit.pipeline.run import Stage, Workshop, run_steps
from edgekit.release.bundle import read_manifest
from edgekit.release.parity import read_parity
from edgekit.release.verify import MANIFEST, PARITY
from edgekit.schema.manifest import ArtifactRow, Manifest
from edgekit.store.steps import StepStore

COUNT = 16
DEFAULT_TARGET = "cpu-x86-64"
_SEED = 0


@dataclass(frozen=True)
class ArtifactFile:
    """An ONNX or TFLite file, and its row in the manifest beside it where there is one."""

    path: Path
    row: ArtifactRow | None = None

    @cached_property
    def side(self) -> Side:
        """The file, read.

        Raises:
            FormatError: it cannot be.
        """
        if self.path.suffix == ".tflite":
            from edgekit.debug.tflite_side import TfliteSide  # LiteRT is an extra

            return TfliteSide(self.path, str(self.path))
        from edgekit.debug.onnx_side import OnnxSide  # so is ONNX

        tensorrt = self.row is not None and self.row.format == "tensorrt"
        title = f"{self.path} (ONNX Runtime stands in for TensorRT)" if tensorrt else str(self.path)
        return OnnxSide(self.path, title, fuses=not tensorrt)

    @property
    def declared(self) -> dict[str, tuple[int, int | None]]:
        """Bits and group of its integer weights, as its row says."""
        rows = self.row.quantisation if self.row is not None else ()
        found = (item for item in rows if item.role == "weight" and item.dtype.startswith("int"))
        return {item.tensor: (item.bits, item.group) for item in found}


@dataclass(frozen=True)
class FloatNetwork:
    """The network of a recipe after its last step, in float: what an artifact should compute.

    Attributes:
        bundle: the manifest that the recipe was taken from; None: the user named the recipe.
    """

    plan: Plan
    reporter: Reporter
    home: Path
    bundle: Manifest | None = None

    @cached_property
    def workshop(self) -> Workshop:
        """What runs the recipe."""
        return Workshop(self.plan, StepStore(self.home / "steps"), self.reporter)

    @cached_property
    def model(self) -> Model:
        """The very network that a bundle was made of, where the store still has it; else the recipe is run."""
        return self._stored or replace(run_steps(self.workshop).model[-1].model, table=None)

    @cached_property
    def _stored(self) -> Model | None:
        """What the step that made the network of the bundle left in the store, if this edgekit can read it."""
        rows = [row for row in self.bundle.steps if row.model == "model"] if self.bundle is not None else []
        folder = self.workshop.store.find(rows[-1].key) if rows else None
        if folder is None:
            return None
        try:
            return replace(Stage(rows[-1].key, rows[-1], folder).model, table=None)
        except ModelError:  # written by an edgekit of another time
            return None

    @property
    def title(self) -> str:
        """For people."""
        return f"float network of {self.plan.recipe.recipe.name}"

    def side(self, batch: int) -> Side:
        """It at a fixed batch."""
        return NetworkSide(self.model, self.title, batch)

    @property
    def note(self) -> str:
        """Why the network may not be the one that the bundle was made of; empty where it is."""
        if self.bundle is None or self._stored is not None:
            return ""
        if self.plan.steps[-1].key.key in {row.key for row in self.bundle.steps}:
            return ""
        return (
            "the float network was made anew by the bundle's recipe, and its source, data or libraries have changed "
            "since: it may differ from the one that was shipped"
        )


def open_source(text: str, target: str | None, reporter: Reporter) -> tuple[FloatNetwork | None, list[ArtifactFile]]:
    """What an argument names: the float network and artifacts of a bundle, the network of a recipe, or one file.

    Args:
        target: that a recipe is planned for.

    Raises:
        EdgekitError: it names nothing.
    """
    path = Path(text)
    if path.suffix in (".onnx", ".tflite"):
        if not path.is_file():
            raise SchemaError("there is no such file", text, "name an .onnx or a .tflite file that exists")
        return None, [ArtifactFile(path, _row_of(path))]
    if (path / MANIFEST).is_file():
        manifest = read_manifest(path)
        network = _network_of(manifest, reporter)
        rows = [row for row in manifest.artifacts if Path(row.path).suffix in (".onnx", ".tflite")]
        return network, [ArtifactFile(path / row.path, row) for row in rows]
    if path.is_dir():
        raise SchemaError("this is no bundle: no manifest.json in it", text, "name the folder that `build` printed")
    request = BuildRequest(text, target or DEFAULT_TARGET, allow_override=True)
    return FloatNetwork(plan_build(request, StepStore(request.home / "steps")), reporter, request.home), []


def _row_of(path: Path) -> ArtifactRow | None:
    """What the manifest in the same folder says of a file."""
    if not (path.parent / MANIFEST).is_file():
        return None
    return next((row for row in read_manifest(path.parent).artifacts if row.path == path.name), None)


def _network_of(manifest: Manifest, reporter: Reporter) -> FloatNetwork:
    """The float network of a bundle, by the recipe in its manifest."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / f"{manifest.recipe.name}.yaml"
        path.write_text(manifest.recipe.text, encoding="utf-8")
        request = BuildRequest(path, manifest.target.name, allow_override=True)
        plan = plan_build(request, StepStore(request.home / "steps"))
    return FloatNetwork(plan, reporter, request.home, manifest)


def find_samples(
    named: str | None, count: int, network: FloatNetwork | None, files: Sequence[ArtifactFile], inputs: Sequence[str]
) -> DebugSamples:
    """What goes in: what the user named, else a bundle's parity samples, else the recipe's data, else random numbers.

    Args:
        named: an .npz, or a calibration set as a recipe's `data:` names it.
        inputs: names of the reference's inputs.

    Raises:
        DataError: they are absent, or do not fit.
    """
    if named is not None:
        return _npz(Path(named), count, inputs) if named.endswith(".npz") else _data_set(named, count, inputs)
    for file in files:
        bundled = file.path.parent / PARITY
        if file.row is not None and bundled.is_file():
            found = read_parity(bundled)
            arrays = [np.asarray(values[:count], np.float32) for values in found.inputs.values()]
            kind = "synthetic parity samples" if found.synthetic else "parity samples"
            return DebugSamples(dict(zip(inputs, arrays, strict=True)), f"{kind} of {bundled.parent}")
    if network is not None:
        splits = network.workshop.data.splits
        name = network.plan.recipe.recipe.data
        return _named(splits.calibration.head(count), f"calibration samples of {name}", inputs)
    return _random([file.side for file in files], count)


def _named(samples: Samples, source: str, inputs: Sequence[str]) -> DebugSamples:
    if len(inputs) != len(samples.inputs):
        raise DataError(
            f"the network takes {len(inputs)} inputs, and {source} have {len(samples.inputs)}",
            "--samples",
            f"give an .npz with the arrays {', '.join(inputs)}",
        )
    return DebugSamples({name: tensor.numpy() for name, tensor in zip(inputs, samples.inputs, strict=True)}, source)


def _single(values: Array, source: str, inputs: Sequence[str]) -> DebugSamples:
    if len(inputs) != 1:
        raise DataError(
            f"the network takes {len(inputs)} inputs, and {source} are for one",
            "--samples",
            f"give an .npz with the arrays {', '.join(inputs)}",
        )
    return DebugSamples({inputs[0]: np.ascontiguousarray(values, np.float32)}, source)


def _data_set(named: str, count: int, inputs: Sequence[str]) -> DebugSamples:
    splits = find_data(named).splits
    return _named(splits.calibration.head(count), f"calibration samples of {named}", inputs)


def _npz(path: Path, count: int, inputs: Sequence[str]) -> DebugSamples:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as err:
        raise DataError(f"cannot be read: {err}", str(path), "give an .npz of arrays (samples, ...)") from err
    if all(name in arrays for name in inputs):
        return DebugSamples({name: arrays[name][:count].astype(np.float32) for name in inputs}, str(path))
    if len(arrays) != 1:
        raise DataError(
            f"holds {', '.join(arrays)}, and the network takes {', '.join(inputs)}",
            str(path),
            "name the arrays as the network's inputs are named",
        )
    return _single(next(iter(arrays.values()))[:count], str(path), inputs)


def _random(sides: Sequence[Side], count: int) -> DebugSamples:
    """Numbers over the range that a file's grid of the input has, else standard normal: better than nothing."""
    generator = np.random.default_rng(_SEED)
    side = sides[0]
    inputs = {}
    for i, layer in enumerate(inputs_of(side)):
        if not all(layer.shape[1:]):
            raise DataError(
                f"input {layer.tensor!r} has free sizes {layer.shape}", side.title, "give samples: --samples FILE.npz"
            )
        size = (count, *layer.shape[1:])
        grids = [found[i].grid for found in map(inputs_of, sides) if i < len(found)]
        grid = next((grid for grid in grids if grid is not None), None)
        values = generator.normal(size=size) if grid is None else generator.uniform(grid.low, grid.high, size)
        inputs[layer.tensor] = values.astype(np.float32)
    return DebugSamples(inputs, "random numbers, which say nothing of ranges: see --samples", random=True)
