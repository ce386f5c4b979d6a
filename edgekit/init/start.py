"""From what the user gives to the files of a recipe: what the command `init` calls."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit.errors import ModelError, SchemaError
from edgekit.init.ask import ask
from edgekit.init.facts import FILE_KEYS, Question
from edgekit.init.propose import Proposal, propose
from edgekit.init.sources import find_data_source
from edgekit.init.write import DATA_SCHEMA, RECIPE_SCHEMA, check_free, data_text, preset_text, recipe_text, write_files
from edgekit.pipeline.sources import find_source
from edgekit.schema.find import suggest
from edgekit.schema.gallery import read_preset
from edgekit.store.place import default_home


@dataclass(frozen=True)
class Place:
    """Where the files go.

    Attributes:
        name: of the recipe and its calibration set; None: the folder's.
        home: folder of the store; the JSON Schemas that editors read go into it.
    """

    out: Path = Path("edgekit.yaml")
    name: str | None = None
    force: bool = False
    home: Path = field(default_factory=default_home)

    @property
    def own_name(self) -> str:
        """The name, or one made of the working directory's."""
        if self.name is not None:
            return self.name
        made = re.sub(r"[^a-z0-9._-]+", "-", Path.cwd().name.lower()).strip("-._")
        return made or "own"

    def check(self) -> None:
        """Refuse now what would be refused after the model and the data were looked at.

        Raises:
            SchemaError: the file is there already.
        """
        check_free(self.out, force=self.force)

    def schema(self, name: str, beside: Path) -> str:
        """Path of a JSON Schema from the folder of a file."""
        return Path(os.path.relpath(self.home / "schema" / f"{name}.json", beside.parent)).as_posix()


def make_proposal(
    model: str,
    data: str,
    *,
    arguments: Mapping[str, Any],
    checkpoint: str | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
    shapes: Sequence[Sequence[int]] = (),
    metric: str | None = None,
    loss: str | None = None,
) -> Proposal:
    """Look at the model and the data, and propose a recipe. Runs the user's code in a process of its own.

    Args:
        model: package.module:function, or an .onnx or .pt2 file.
        data: package.module:function, or what a loader reads.

    Raises:
        EdgekitError: one of them cannot be read, or they do not fit each other.
    """
    source = find_data_source(data, parts, shapes[0] if shapes else ())
    file = is_file(model)
    if file and not Path(model).is_file():
        raise ModelError("there is no such file", model, "name an .onnx or .pt2 file, or package.module:function")
    optional: tuple[str, ...] = ()
    if not file:
        required, optional = parameters(model)
        missing = [name for name in required if name not in arguments]
        if missing:
            told = " ".join(f"--argument {name}=VALUE" for name in missing)
            raise ModelError(f"the factory needs {', '.join(missing)}", f"model.factory: {model}", f"add {told}")
    question = Question(
        data=source.function,
        loader=source.loader,
        arguments=dict(source.arguments),
        factory=None if file else model,
        factory_arguments=dict(arguments),
        file=model if file else None,
        checkpoint=checkpoint,
        shapes=tuple(tuple(shape) for shape in shapes),
    )
    proposal = propose(question, ask(question), metric, loss)
    return replace(proposal, optional=tuple(name for name in optional if name not in arguments))


def is_file(model: str) -> bool:
    """Whether a model is named by its file, not by a function."""
    return Path(model).suffix in FILE_KEYS


def write_proposal(proposal: Proposal, place: Place) -> tuple[Path, ...]:
    """The recipe, and its calibration set where the data come from a loader.

    Raises:
        SchemaError: a file is there already, or the name cannot be one.
    """
    own = place.out.parent / "calib" / f"{place.own_name}.yaml"
    data = proposal.question.data or place.own_name
    texts = {place.out: recipe_text(proposal, place.own_name, data, place.schema(RECIPE_SCHEMA, place.out))}
    if proposal.question.data is None:
        texts[own] = data_text(proposal, place.own_name, place.schema(DATA_SCHEMA, own))
    write_files(texts, place.home / "schema", force=place.force)
    return tuple(texts)


def write_extension(preset: str, place: Place) -> tuple[Path, ...]:
    """A recipe that extends one of the gallery.

    Raises:
        SchemaError: there is no such recipe, or the file is there already.
    """
    found = read_preset(preset)
    name = place.name or f"my-{found.recipe.name}"
    texts = {place.out: preset_text(found, name, place.schema(RECIPE_SCHEMA, place.out))}
    write_files(texts, place.home / "schema", force=place.force)
    return tuple(texts)


def parameters(reference: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names that a factory must be given, and that it may be given. Its source is read; nothing is imported.

    Raises:
        ModelError: not package.module:function, no such module, or no such function in it.
    """
    module, colon, name = reference.partition(":")
    where = f"model.factory: {reference}"
    if not colon or not module or not name:
        raise ModelError(f"{reference!r} is no package.module:function", "model.factory", "write net:make_network")
    path = find_source(module)
    if path is None:
        return (), ()  # built in, or compiled: calling it will tell
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as err:
        raise ModelError(f"not Python: {err.msg}", f"{path}, line {err.lineno}", "correct the line") from err
    kinds = (ast.FunctionDef, ast.ClassDef)
    offered = {node.name: node for node in tree.body if isinstance(node, kinds)}
    found = offered.get(name)
    if found is None:
        if name in _bound(tree):
            return (), ()
        known = [one for one in offered if not one.startswith("_")]
        raise ModelError(f"module {module} has no function {name!r}", where, suggest(name, known, "functions"))
    if isinstance(found, ast.ClassDef):
        made = next((n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        return ((), ()) if made is None else _parameters(made.args, skip=1)
    return _parameters(found.args, skip=0)


def _parameters(args: ast.arguments, skip: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    named = [arg.arg for arg in (*args.posonlyargs, *args.args)][skip:]
    required = named[: len(named) - len(args.defaults)] if args.defaults else named
    optional = named[len(required) :]
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        (required if default is None else optional).append(arg.arg)
    return tuple(required), tuple(optional)


def _bound(tree: ast.Module) -> set[str]:
    """Names that a module has without defining them: imported or assigned."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def parse_shape(text: str) -> tuple[int, ...]:
    """`1x3x32x32`, the batch first.

    Raises:
        SchemaError: it is no shape.
    """
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)+", text):
        raise SchemaError(f"{text!r} is no shape", "--input", "write 1x3x32x32, the batch first")
    return tuple(int(size) for size in text.split("x"))
