"""Keys of everything that is cached: known from the recipe, the target and the files alone, before anything runs.

A step's input enters its key by the key of the step before it, so the whole chain of keys is known at plan time.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.agent.runtimes.table import RUNTIMES
from edgekit.errors import EdgekitError
from edgekit.nets.from_onnx.file import onnx_files
from edgekit.pipeline.choose import Variant
from edgekit.pipeline.sources import follow_loader, follow_modules, library_version, module_of
from edgekit.schema.base import Options
from edgekit.schema.load import LoadedCalibration
from edgekit.schema.metric import MetricSpec
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.postprocess import Postprocess
from edgekit.schema.prune import PruneOptions
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.target import Target
from edgekit.schema.train import TrainOptions
from edgekit.schema.weight_files import files_of, sha256_of
from edgekit.store.digests import file_sha256, json_sha256
from edgekit.store.steps import step_key

# What every step is stored with: its model on disk, its parameters, multiply-accumulates and bytes.
_MEASURED_BY = ("edgekit.nets.count", "edgekit.nets.saved")

Parts = Mapping[str, object]

# Raised when what a stored entry holds changes its form.
STORE_FORMAT = 3


@dataclass(frozen=True)
class Keyed:
    """A key and what it was made of."""

    key: str
    parts: Parts


@dataclass(frozen=True)
class Surroundings:
    """What every key of one build shares: parts for the data and for the metric, and the target.

    Attributes:
        device: name of the one that is measured on; None: nothing is measured.
    """

    data: Parts
    metric: Parts
    target: Target
    device: str | None = None


def keyed(parts: Parts) -> Keyed:
    """`parts` with the key that they make."""
    whole = {"format": STORE_FORMAT, **parts}
    return Keyed(step_key(whole), whole)


def model_key(source: ModelSource, seed: int, around: Surroundings) -> Keyed:
    """Key of a model as it is loaded and measured: the weights count by content, not by where they lie.

    So do files that the factory's arguments name: it may read weights itself. A checkpoint that is absent gives a key
    of its own; loading it is what raises.
    """
    described = source.without_places.model_dump(mode="json", exclude={"sha256"})
    checkpoint: dict[str, object] | None = None
    if source.checkpoint is not None:
        checkpoint = source.checkpoint.model_dump(mode="json", exclude={"path", "sha256"})
    own = [module_of(source.factory)] if source.factory else []
    named = (text for key, text in _texts(source.arguments) if key.rpartition(".")[2] == "factory")
    own += sorted({module_of(text) for text in named if ":" in text})  # of the networks that one is put together from
    own += ["edgekit.nets.from_onnx.build"] if source.onnx else []
    library = {source.key: library_version(source.key)} if source.key in ("timm", "transformers") else {}
    code = follow_modules(["edgekit.nets.load", *_MEASURED_BY, *own])
    return keyed(
        {
            "pass": "load",
            "source": described,
            "checkpoint": checkpoint,
            **({"library": library} if library else {}),
            "files": weights_digest(source) if source.files else None,
            "read by the factory": data_files(source.arguments),
            "seed": seed,
            "data": around.data,
            "metric": around.metric,
            **code.parts(),
        }
    )


def data_parts(name: str, calibration: LoadedCalibration | None, own: str | None = None) -> dict[str, object]:
    """What the samples depend on: the calibration set, every file that its arguments name, the source of what loads it.

    Args:
        name: `data:` of the recipe.
        calibration: None where `data:` names the user's own function.
        own: digest of what that function gave when it last ran; None: it never did.
    """
    if calibration is None:
        return {"function": name, "content": own, **follow_modules(["edgekit.data.splits", module_of(name)]).parts()}
    record = calibration.calibration
    modules = ["edgekit.data.splits", *([module_of(record.loader)] if ":" in record.loader else [])]
    return {"set": calibration.digest, "files": data_files(record.arguments), **follow_modules(modules).parts()}


def data_files(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the files and folders among a loader's arguments, by argument: paths, and names of files in `folder`.

    `folder` itself counts as a whole only where no other argument names a file in it.
    """
    folder = arguments.get("folder")
    base = Path(folder) if isinstance(folder, str) else Path()
    found = {}
    for key, text in _texts({key: value for key, value in arguments.items() if key != "folder"}):
        if text and ("/" in text or Path(text).suffix or (base / text).exists()):
            found[key] = path_digest(base / text)
    if isinstance(folder, str) and not found:
        found["folder"] = path_digest(base)
    return found


def metric_parts(metric: MetricSpec, steps: Sequence[Postprocess]) -> dict[str, object]:
    """What a metric and the steps before it say, and their source."""
    own = [module_of(metric.name)] if ":" in metric.name else []
    said = {"metric": metric.model_dump(mode="json"), "postprocess": [step.step for step in steps]}
    return {**said, **follow_modules(["edgekit.data.score", *own]).parts()}


def target_facts(options: Options, target: Target, device: str | None = None) -> dict[str, object]:
    """What a pass reads from the target and measures on the device. What is not listed here must not be read there."""
    first = target.formats[0]
    timed: dict[str, object] = {"device": device, "format": first.model_dump(mode="json"), "threads": target.threads}
    if isinstance(options, PruneOptions):
        widths = {"channel_multiple": target.channel_multiple.value} if options.multiple_of is None else {}
        return {**widths, **(timed if _times_prunings(options, device) else {})}
    if isinstance(options, QuantizeOptions):
        if options.mode == "auto":
            return {"convention": first.convention}
        if options.budget is not None and options.budget.name == "latency_ms":
            return timed
    return {}


def _times_prunings(options: PruneOptions, device: str | None) -> bool:
    """A search weighs damage with milliseconds wherever a device is named, whatever its budget is of."""
    measured = options.budget is not None and options.budget.measured
    return measured or (options.chosen_method == "search" and device is not None)


def _made_by(options: Options, target: Target, device: str | None) -> dict[str, object]:
    """Sources of what a pass asks for besides data: how the pipeline lowers and exports, and the user's own loss."""
    modules = []
    if isinstance(options, TrainOptions | PruneOptions) and ":" in options.loss:
        modules = [module_of(options.loss)]
    if isinstance(options, QuantizeOptions) and options.mode == "auto":
        modules = ["edgekit.formats.conventions.lowering"]
    timed = isinstance(options, QuantizeOptions) and options.budget is not None and options.budget.name == "latency_ms"
    if timed or (isinstance(options, PruneOptions) and _times_prunings(options, device)):
        modules += [f"edgekit.formats.{target.formats[0].format}.export", "edgekit.profiling.jobs"]
    return {"handed": follow_modules(modules).parts()} if modules else {}


def pass_key(
    name: str,
    options: Options,
    seed: int,
    source: str,
    teachers: Sequence[str],
    around: Surroundings,
    load: Callable[[], object],
) -> Keyed:
    """Key of one step.

    Args:
        source: key of the model that the step is given.
        teachers: key of each teacher as it will be; none for a pass that asks for none.
        load: the row's function that imports the pass.
    """
    return keyed(
        {
            "pass": name,
            "options": options.model_dump(mode="json"),
            "seed": seed,
            "input": source,
            "teacher": teachers[0] if len(teachers) == 1 else list(teachers) or None,
            "target": target_facts(options, around.target, around.device),
            **_made_by(options, around.target, around.device),
            "data": around.data,
            "metric": around.metric,
            "measured by": follow_modules(_MEASURED_BY).digest,
            **follow_loader(load).parts(),
        }
    )


def float_metric_key(network: str, around: Surroundings) -> Keyed:
    """Key of a network's metric on the test split, in PyTorch; `network` is its digest."""
    code = follow_modules(["edgekit.pipeline.evaluate"])
    return keyed({"pass": "evaluate", "network": network, "data": around.data, "metric": around.metric, **code.parts()})


def findings_key(used: tuple[int, ...] | None, around: Surroundings) -> Keyed:
    """Key of what the lint finds; `used` are the calibration samples that it looks at."""
    code = follow_modules(["edgekit.data.lint"])
    return keyed({"pass": "lint", "used": used, "data": around.data, **code.parts()})


def export_key(variant: Variant, source: str, options: Export, around: Surroundings) -> Keyed:
    """Key of an artifact with its parity samples."""
    modules = [f"edgekit.formats.{variant.format}.export", "edgekit.pipeline.parity"]
    halves = ["edgekit.passes.quantize.weight_only"] if variant.precision == "fp16" else []  # made when it is exported
    code = follow_modules([*modules, *halves])
    return keyed(
        {
            "pass": f"export {variant.title}",
            "stem": variant.stem,
            "options": options.model_dump(mode="json", exclude={"formats", "ship"}),
            "input": source,
            "data": around.data,
            **code.parts(),
        }
    )


def artifact_run_key(variant: Variant, artifact: str, codes: int, around: Surroundings) -> Keyed:
    """Key of an artifact's outputs in its runtime on this machine: parity and metric.

    Args:
        artifact: key of the export.
        codes: that parity tolerates.
    """
    runtime = follow_loader(RUNTIMES[variant.local_runtime])
    code = follow_modules(["edgekit.agent.main", "edgekit.profiling.inference", "edgekit.pipeline.evaluate"])
    return keyed(
        {
            "pass": f"run {variant.title}",
            "input": artifact,
            "machine": platform.machine(),
            "codes": codes,
            "data": around.data,
            "metric": around.metric,
            "runtime": {"name": variant.local_runtime, **runtime.parts()},
            **code.parts(),
        }
    )


def weights_digest(source: ModelSource) -> str:
    """Digest of the files that a model is made from; `absent` where one of them cannot be read."""
    try:
        if source.onnx is not None:
            return sha256_of(onnx_files(Path(source.onnx), source.where))
        return sha256_of([file for path in source.files for file in files_of(Path(path), source.key)])
    except EdgekitError:  # loading it is what raises
        return "absent"


def path_digest(path: Path) -> str:
    """Digest of a file's bytes, or of all files of a folder that are not hidden; `absent` where there is neither."""
    if path.is_file():
        return file_sha256(path)
    if path.is_dir():
        names = {entry.relative_to(path): entry for entry in path.rglob("*") if entry.is_file()}
        # the store itself lies in a hidden folder of the working directory, and no loader reads what is hidden
        seen = {name.as_posix(): entry for name, entry in names.items() if not any(p[0] == "." for p in name.parts)}
        return json_sha256({name: file_sha256(entry) for name, entry in sorted(seen.items())})
    return "absent"


def _texts(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Every string below `value` with its dotted key."""
    if isinstance(value, str):
        return [(name, value)]
    if isinstance(value, Mapping):
        return [found for key, below in value.items() for found in _texts(below, f"{name}.{key}".lstrip("."))]
    if isinstance(value, list | tuple):
        return [found for i, below in enumerate(value) for found in _texts(below, f"{name}.{i}".lstrip("."))]
    return []
