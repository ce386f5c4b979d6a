"""Networks that a library knows by name: timm's and those of transformers. Files of this machine alone, no network."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from edgekit.errors import DataError, MissingExtraError, ModelError
from edgekit.nets.fit import tell_differences
from edgekit.schema.find import suggest
from edgekit.schema.recipe import ModelSource

_CONFIG = "config.json"
_log = logging.getLogger(__name__)


def make_timm(source: ModelSource) -> nn.Module:
    """`timm.create_model(name, **arguments)` without weights: they come from a checkpoint of this machine.

    Raises:
        MissingExtraError: timm is not installed.
        ModelError: timm has no such model, or refuses the arguments.
    """
    timm = _library("timm", source)
    name = source.reference
    if not timm.is_model(name):
        near = cast(list[str], timm.list_models(f"*{name[:4]}*")) or cast(list[str], timm.list_models())
        raise ModelError(f"timm has no model called {name!r}", source.where, suggest(name, near, "models")[:400])
    try:
        return cast(nn.Module, timm.create_model(name, pretrained=False, **source.arguments))
    except Exception as err:  # each of its hundreds of models checks its own arguments
        raise ModelError(
            f"timm.create_model raised {err!r}", source.where, "check model.arguments against timm.create_model"
        ) from err


def make_transformers(source: ModelSource) -> nn.Module:
    """The network that a folder's config.json describes, with its initial weights.

    Its class is the first of `architectures`; `arguments` are laid over the config. Sums and products of attention are
    operators of their own, so that they can be quantised.

    Raises:
        DataError: there is no such config.
        MissingExtraError: transformers is not installed.
        ModelError: the config is none, asks for code of its own, or names a class that there is not.
    """
    library = _library("transformers", source)
    with _quiet(library):
        config = _config(library, source)
        kind = _class(library, config, source)
        try:
            made = kind(config)
        except Exception as err:  # each of its models checks its own config
            raise ModelError(
                f"{kind.__name__} raised {err!r}", source.where, "correct config.json or arguments"
            ) from err
    return _by_names(cast(nn.Module, made), [spec.name for spec in source.inputs], source.where)


def load_transformers(source: ModelSource) -> nn.Module:
    """The same with the weights that lie beside config.json, if `source` names the folder and not the config alone.

    Raises:
        DataError, MissingExtraError: as `make_transformers`.
        ModelError: as `make_transformers`; or the folder has no safetensors, or they do not fit.
    """
    library, folder = _library("transformers", source), Path(source.reference)
    if not folder.is_dir():
        return make_transformers(source)
    with _quiet(library):
        config = _config(library, source)
        kind = _class(library, config, source)
        try:
            made, found = kind.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, with their names
            )
        except Exception as err:  # OSError, ValueError, SafetensorError and whatever its readers raise
            raise ModelError(
                f"transformers could not load its weights: {_first_line(err)}",
                source.where,
                "save the network there with save_pretrained, or name config.json for initial weights",
            ) from err
    other = {name: (tuple(given), tuple(own)) for name, given, own in found["mismatched_keys"]}
    shapes = [f"{name} {other[name][0]} instead of {other[name][1]}" for name in made.state_dict() if name in other]
    if shapes or found["missing_keys"]:
        raise ModelError(
            tell_differences(shapes, sorted(found["missing_keys"]), sorted(found["unexpected_keys"])),
            source.where,
            "correct architectures and sizes of the config to those that the weights are of",
        )
    if found["unexpected_keys"]:
        _log.info("%s: %d tensors of other heads are not used", source.where, len(found["unexpected_keys"]))
    for tensor in (*made.parameters(), *made.buffers()):
        tensor.data = tensor.data.clone()  # it lies where the file has it, and kernels round by where a tensor lies
    return _by_names(made, [spec.name for spec in source.inputs], source.where)


class ByNames(nn.Module):
    """Takes by position what a network takes by name."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, *inputs: Tensor) -> object:
        """What the network gives for inputs in the order of `names`."""
        return self.model(**dict(zip(self.names, inputs, strict=True)))


def _by_names(network: nn.Module, names: list[str], where: str) -> nn.Module:
    """The network itself where `names` are the first that its forward takes, else one that calls it by name."""
    known = list(inspect.signature(network.forward).parameters)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ModelError(
            f"{type(network).__name__} takes no input called {unknown[0]!r}",
            f"model.inputs, {where}",
            suggest(unknown[0], known, "inputs")[:400],
        )
    return network if known[: len(names)] == names else ByNames(network, names).eval()


def _library(name: str, source: ModelSource) -> ModuleType:
    try:
        # by name: what a step's key follows are the imports of this file, and these libraries are vast
        return importlib.import_module(name)
    except ImportError as err:
        raise MissingExtraError(
            f"{name} is not installed: {err}", source.where, f"pip install 'edgekit[{name}]'"
        ) from err


def _config(library: Any, source: ModelSource) -> Any:
    place = Path(source.reference)
    path = place / _CONFIG if place.is_dir() else place
    if not path.is_file():
        raise DataError(
            f"there is no {path.name}", source.where, "name a folder that save_pretrained wrote; nothing is downloaded"
        )
    try:
        config, unknown = library.AutoConfig.from_pretrained(
            path,
            local_files_only=True,
            trust_remote_code=False,
            return_unused_kwargs=True,
            attn_implementation="eager",
            **source.arguments,
        )
    except Exception as err:  # OSError, ValueError, KeyError: whatever reading and checking it meets first
        raise ModelError(
            f"not a config of transformers: {_first_line(err)}", source.where, "name a config that needs no other code"
        ) from err
    if unknown:
        name = next(iter(unknown))
        raise ModelError(
            f"the config has no {name!r}",
            f"model.arguments.{name}",
            suggest(name, sorted(config.to_dict()), "keys")[:400],
        )
    config.use_cache = config.output_attentions = config.output_hidden_states = False  # outputs are tensors
    config.return_dict = True  # which names them
    return config


def _class(library: Any, config: Any, source: ModelSource) -> Any:
    names = config.architectures or []
    kind = getattr(library, names[0], None) if names else None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and hasattr(kind, "from_pretrained")):
        raise ModelError(
            f"transformers has no class {names[0]!r}" if names else "the config names no class",
            source.where,
            "write it into model.arguments: {architectures: [BertForSequenceClassification]}",
        )
    return kind


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without progress bars and reports: what they say is in the errors."""
    told = library.utils.logging
    level, bars = told.get_verbosity(), told.is_progress_bar_enabled()
    told.set_verbosity(logging.CRITICAL)
    told.disable_progress_bar()
    try:
        yield
    finally:
        told.set_verbosity(level)
        if bars:
            told.enable_progress_bar()


def _first_line(err: Exception) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0]
