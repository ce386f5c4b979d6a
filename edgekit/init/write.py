"""A proposal as files: the recipe and its calibration set in YAML, each line with what it is for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import SchemaError
from edgekit.init.facts import FILE_KEYS
from edgekit.init.propose import Proposal
from edgekit.schema.calibration import CalibrationSet
from edgekit.schema.gallery import Preset
from edgekit.schema.json_schema import json_schema
from edgekit.schema.recipe import METRIC_NAMES, Recipe
from edgekit.schema.validate import validate
from edgekit.schema.yaml_file import parse_yaml

_PLAIN = re.compile(r"[A-Za-z_./][\w./:+-]*(?<!:)")
_NO_STRINGS = frozenset({"true", "false", "null", "~", "yes", "no", "on", "off"})
_SPLITS = {
    "train": "what steps learn from",
    "calibration": "what ranges of integers are decided on; may share samples with train",
    "selection": "what steps are compared on; shares no sample with train or test",
    "test": "read once, at the end",
}
RECIPE_SCHEMA, DATA_SCHEMA = "recipe", "calibration-set"


def recipe_text(proposal: Proposal, name: str, data: str, schema: str) -> str:
    """edgekit.yaml.

    Args:
        data: name of the calibration set, or the user's function.
        schema: path of the JSON Schema, from the file's own folder.

    Raises:
        SchemaError: what was given makes no recipe, such as a name that cannot be one.
    """
    text = "\n".join(_recipe_lines(proposal, name, data, schema)) + "\n"
    validate(Recipe, parse_yaml(text, "recipe"), "the recipe to be written")
    return text


def _recipe_lines(proposal: Proposal, name: str, data: str, schema: str) -> Iterator[str]:
    question, network = proposal.question, proposal.network
    yield from _head(schema, "What edgekit builds: edgekit build --target NAME. Keys: edgekit schema recipe.")
    yield f"name: {flow(name)} # of the bundle's folder, with the target's name behind it"
    yield "model:"
    if question.file is not None:
        yield f"  {FILE_KEYS[Path(question.file).suffix]}: {flow(question.file)} # its weights are in it"
    else:
        yield f"  factory: {flow(question.factory)} # module:function, found in the folder that edgekit is run in"
        more = f"; it may be given {', '.join(proposal.optional)}" if proposal.optional else ""
        if question.factory_arguments or proposal.optional:
            yield f"  arguments: {flow(question.factory_arguments)} # what it is called with{more}"
        yield "  inputs: # batch first; edgekit ran the network so"
        for spec in network.inputs:
            shown: dict[str, Any] = {"name": spec.name, "shape": list(spec.shape)}
            shown |= {"dtype": spec.dtype} if spec.dtype != "float32" else {}
            shown |= {"layout": spec.layout} if spec.layout != "NCHW" else {}
            yield f"    - {flow(shown)}"
        if network.checkpoint is not None:
            given = network.checkpoint.model_dump(exclude_defaults=True, mode="json")
            yield f"  checkpoint: {flow(given)} # weights; nothing is unpickled"
        else:
            yield "  # checkpoint: {path: weights.pth} # weights to begin with; nothing is unpickled"
    place = f"calib/{data}.yaml: where samples come from and how they are split" if ":" not in data else "your function"
    yield f"data: {flow(data)} # {place}"
    yield f"metric: {flow(proposal.metric)} # {', '.join(METRIC_NAMES)}, or module:function of (outputs, labels)"
    yield "seed: 0 # decides initial weights, order of samples and augmentation"
    yield "steps: # in order; `edgekit passes list` has them all, `edgekit passes show NAME` their options"
    if proposal.trains:
        options: dict[str, Any] = {"epochs": proposal.epochs, "batch_size": proposal.batch_size}
        options |= {"optimizer": "adamw", "learning_rate": 0.001} | ({"loss": proposal.loss} if proposal.loss else {})
        yield f"  - train: {flow(options)}"
        yield "  # - prune: {budget: {macs_ratio: 0.6}, recover: {epochs: 10}} # keeps that share of the work,"
        yield "  #   and learns back what it lost from the network before it"
    if question.file is None:
        yield "  - reparam # merges norms and parallel branches into convolutions; the function stays"
    yield "  - quantize # to int8; {mode: auto, max_drop: 0.005} raises single layers until that holds"
    if proposal.metric in ("top1", "top5"):
        yield "gates: # a build that misses one ends with exit code 3"
        yield "  metric_drop: {at_most: 0.01} # float network's share less the artifact's"
    else:
        yield "# gates: # a build that misses one ends with exit code 3"
    yield "  # size_bytes: {at_most: 500000}"
    yield "  # latency_p50_ms: {at_most: 10} # with --device NAME"


def data_text(proposal: Proposal, name: str, schema: str) -> str:
    """calib/<name>.yaml.

    Raises:
        SchemaError: what was given makes no calibration set.
    """
    text = "\n".join(_data_lines(proposal, name, schema)) + "\n"
    validate(CalibrationSet, parse_yaml(text, "calibration set"), "the calibration set to be written")
    return text


def _data_lines(proposal: Proposal, name: str, schema: str) -> Iterator[str]:
    question = proposal.question
    yield from _head(schema, "Where samples come from, how they are preprocessed and split.")
    yield f"name: {flow(name)}"
    yield 'description: "" # say what the samples are'
    yield f"loader: {flow(question.loader)}"
    yield "arguments: # of the loader; paths are from the folder that edgekit is run in"
    for key, value in question.arguments.items():
        yield f"  {key}: {flow(value)}"
    yield "preprocess: # carried out alike in training, in calibration, in testing and on the board"
    for key, value in proposal.preprocess.items():
        comment = " # so that values end at 1; check it against how the network was trained" if key == "factor" else ""
        yield f"  {key}: {flow(value)}{comment}"
    if proposal.preprocess["raw_layout"] != "N":
        yield "  # mean: [0.5] # per channel, subtracted after the factor; std: [0.25] divides after that"
    if proposal.order != "stored":
        yield f"order: {proposal.order} # before splits are cut; stratified: every run of samples has all classes"
    for split, options in proposal.splits.items():
        yield f"{split}: {flow(options)} # {_SPLITS[split]}"
    yield 'licence: "" # of the data; it goes into the bill of materials'


def preset_text(preset: Preset, name: str, schema: str) -> str:
    """edgekit.yaml that extends a recipe of the gallery, with what it says as comments.

    Raises:
        SchemaError: the name cannot be one.
    """
    steps = [step.name for step in preset.recipe.steps]
    single = "a list takes the place of the whole list; for one option: --set steps.0.NAME.OPTION=VALUE"
    lines = [
        *_head(schema, f"{preset.name}, changed. What is written here is laid over it, mappings key by key."),
        f"extends: {flow(preset.name)} # edgekit recipes show {preset.name}",
        f"name: {flow(name)} # of the bundle's folder, with the target's name behind it",
        f"# seed: {preset.recipe.seed}",
        f"# data: {preset.recipe.data} # another calibration set of the same shape",
        f"# steps: [{', '.join(steps)}] # {single}" if steps else "# steps: [quantize]",
        "# gates:",
        "#   size_bytes: {at_most: 500000}",
        "#   latency_p50_ms: {at_most: 10} # with --device NAME",
    ]
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise SchemaError(f"{name!r} cannot be a name", "--name", "use a-z, 0-9, '.', '_' and '-'")
    return "\n".join(lines) + "\n"


def write_files(texts: Mapping[Path, str], schemas: Path, *, force: bool) -> None:
    """Write every file or none; and the JSON Schemas that their first lines name.

    Raises:
        SchemaError: a file is there already, and `force` is not set.
    """
    for path in texts:
        check_free(path, force=force)
    for name in (RECIPE_SCHEMA, DATA_SCHEMA):
        schemas.mkdir(parents=True, exist_ok=True)
        (schemas / f"{name}.json").write_text(json.dumps(json_schema(name), indent=1) + "\n", encoding="utf-8")
    beside = {path: path.with_name(f".{path.name}.new") for path in texts}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            beside[path].write_text(text, encoding="utf-8")
        for path, new in beside.items():
            os.replace(new, path)
    finally:
        for new in beside.values():
            new.unlink(missing_ok=True)


def check_free(path: Path, *, force: bool) -> None:
    """Refuse a file that is there already.

    Raises:
        SchemaError: it is, and `force` is not set.
    """
    if path.exists() and not force:
        raise SchemaError("the file is there already", str(path), "--force replaces it; --out and --name say others")


def flow(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NO_STRINGS:
        return value
    return json.dumps(value, ensure_ascii=False)


def _head(schema: str, line: str) -> Iterator[str]:
    yield f"# yaml-language-server: $schema={schema}"
    yield f"# {line}"
