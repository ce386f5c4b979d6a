"""`package.module:function`: the one door for a user's own code."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.schema.find import suggest


def import_function(reference: str, where: str, error: type[EdgekitError]) -> Callable[..., Any]:
    """The function that `package.module:function` names. Modules of the working directory are found too.

    Args:
        where: recipe key that holds the reference, for the message.
        error: class of what is raised.

    Raises:
        error: the reference is not written so, or there is no such module or function, or importing it fails.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise error(f"{reference!r} is not package.module:function", where, "write it as package.module:function")
    try:
        with _working_directory_importable():
            importlib.invalidate_caches()
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as err:
        raise error(
            f"no module is called {err.name!r}", f"{where}: {reference}", "install it, or run where it can be imported"
        ) from err
    except Exception as err:  # a user's module may raise anything while it is imported
        raise error(
            f"importing it raised {err!r}", f"{where}: {reference}", f"make `import {module_name}` work"
        ) from err
    function = getattr(module, name, None)
    if not callable(function):
        offered = [
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_") and getattr(value, "__module__", None) == module_name
        ]
        raise error(
            f"module {module_name} has no function {name!r}",
            f"{where}: {reference}",
            suggest(name, sorted(offered), "functions"),
        )
    return function  # type: ignore[no-any-return]


def check_arguments(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    what: str,
    where: str,
    error: type[EdgekitError],
    *,
    before: int = 0,
) -> None:
    """Refuse arguments that a function does not take, and the lack of those that it needs, before it is called.

    Args:
        what: names the function in the message.
        before: how many arguments it is given by place, ahead of these.

    Raises:
        error: names the nearest argument.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C: calling it will tell
        return
    try:
        signature.bind(*[None] * before, **arguments)
    except TypeError as err:
        takes = [parameter.name for parameter in list(signature.parameters.values())[before:]]
        unknown = [key for key in arguments if key not in takes]
        fix = suggest(unknown[0], takes, "arguments") if unknown else f"arguments: {', '.join(takes) or 'none'}"
        raise error(f"{what} does not take these arguments: {err}", where, fix) from err


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    here = str(Path.cwd())
    before = list(sys.path)
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        yield
    finally:
        sys.path[:] = before
