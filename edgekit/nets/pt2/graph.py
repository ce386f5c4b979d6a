"""The graph of an exported program, from its JSON to records. Nothing of it is evaluated; names are checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from edgekit.errors import ModelError
from edgekit.nets.pt2.archive import dtype_of
from edgekit.nets.pt2.inline import inlined
from edgekit.nets.pt2.operators import changes_its_argument, find_operator

_PATH = re.compile(r"[A-Za-z_0-9]+(\.[A-Za-z_0-9]+)*")
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_KEYWORD = 2
_FIX = "export the network in eval mode, and with operators of PyTorch alone"


@dataclass(frozen=True)
class Value:
    """What another node gives, by its name, in the place of an argument."""

    name: str


@dataclass(frozen=True)
class Call:
    """One node: what is called with what, and the names of what comes out.

    Attributes:
        title: of the operator, as the file writes it.
        listed: it gives one list of all its outputs.
    """

    function: Callable[..., Any]
    title: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[str, ...]
    listed: bool


@dataclass(frozen=True)
class Stored:
    """A tensor that the program is given from its archive, by its name there.

    Attributes:
        kind: parameter, buffer, or tensor_constant, which is no part of the network's state.
        persistent: a buffer that is part of it.
    """

    path: str
    kind: str
    persistent: bool


@dataclass(frozen=True)
class Graph:
    """A program.

    Attributes:
        calls: in order, those alone that the outputs need.
        inputs: names of the values that the caller gives; None for one that is no tensor and not used.
        stored: every other value that is given, by its name.
        outputs: names of the values that it returns.
        output_names: keys of the dict that the network returned; empty where it returned none.
        sizes: of every value, as far as they are numbers: None for a size that the program leaves free.
        dtypes: of every value.
    """

    calls: tuple[Call, ...]
    inputs: tuple[str | None, ...]
    stored: Mapping[str, Stored]
    outputs: tuple[str, ...]
    output_names: tuple[str, ...]
    sizes: Mapping[str, tuple[int | None, ...]]
    dtypes: Mapping[str, torch.dtype]


def read_graph(program: Mapping[str, Any], where: str) -> Graph:
    """The graph that an archive's JSON describes.

    Raises:
        ModelError: it calls what is not on the list of operators, changes what it was given, or is damaged.
    """
    try:
        return _read(program, where)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as err:
        raise ModelError(f"the graph is damaged: {err!r}", where, "get the file again") from err


def _read(program: Mapping[str, Any], where: str) -> Graph:
    module = program["graph_module"]
    graph, signature = module["graph"], module["signature"]
    inputs: list[str | None] = []
    stored: dict[str, Stored] = {}
    for spec in signature["input_specs"]:
        ((kind, row),) = spec.items()
        if kind == "user_input":
            inputs.append(row["arg"].get("as_tensor", {}).get("name"))
        elif kind == "constant_input":
            inputs.append(None)
        elif kind in ("parameter", "buffer", "tensor_constant"):
            path = _path(row[f"{kind}_name"], where)
            stored[row["arg"]["name"]] = Stored(path, kind, row.get("persistent", kind == "parameter") is True)
        else:
            raise ModelError(f"the program is given a {kind}, which is no tensor", where, _FIX)
    for spec in signature["output_specs"]:
        ((kind, _),) = spec.items()
        if kind != "user_output":
            raise ModelError(f"the program changes what it was given: {kind}", where, _FIX)
    outputs = tuple(_output(spec["user_output"]["arg"], where) for spec in signature["output_specs"])
    known = {*stored, *(name for name in inputs if name is not None)}
    nodes, values = inlined(graph)
    calls = tuple(_live(nodes, set(outputs), known, where))
    sizes = {name: tuple(size.get("as_int") for size in meta["sizes"]) for name, meta in values.items()}
    dtypes = {name: dtype_of(graph["tensor_values"][name]["dtype"], where) for name in inputs if name is not None}
    return Graph(calls, tuple(inputs), stored, outputs, _output_names(module, len(outputs)), sizes, dtypes)


def _path(name: object, where: str) -> str:
    if not isinstance(name, str) or not _PATH.fullmatch(name) or "__" in name:
        raise ModelError(f"a tensor is called {str(name)[:80]!r}", where, "name tensors as PyTorch does")
    return name


def _output(arg: Mapping[str, Any], where: str) -> str:
    if "as_tensor" not in arg:
        raise ModelError(f"the program returns {next(iter(arg))[3:]}, no tensor", where, "return tensors alone")
    return str(arg["as_tensor"]["name"])


def _live(nodes: list[Any], wanted: set[str], known: set[str], where: str) -> Iterator[Call]:
    """Calls that the outputs need, in order. Checks of sizes and types are among those that nobody needs."""
    kept, returned = [], set(wanted)
    for node in reversed(nodes):
        names = [name for output in node["outputs"] for name in _names(output)]
        function = find_operator(node["target"])
        in_place = function is not None and changes_its_argument(function)
        if not (set(names) & wanted or in_place):
            continue
        if function is None:
            raise ModelError(
                f"the program calls {node['target']}", f"{where}, node {node.get('name') or names[0]}", _FIX
            )
        call = _call(node, function, tuple(names), where)
        wanted |= values_of(call)
        kept.append(call)
    made = set(known)
    for call in reversed(kept):
        absent = values_of(call) - made
        if absent:
            raise ValueError(f"{call.title} reads {sorted(absent)[0]} before it is made")
        made |= set(call.outputs)
        yield call
    if returned - made:
        raise ValueError(f"{sorted(returned - made)[0]} is returned and never made")


def _call(node: Mapping[str, Any], function: Callable[..., Any], names: tuple[str, ...], where: str) -> Call:
    args, kwargs = [], {}
    for given in node["inputs"]:
        value = _argument(given["arg"], where)
        if given.get("kind") == _KEYWORD:
            kwargs[str(given["name"])] = value
        else:
            args.append(value)
    listed = len(node["outputs"]) == 1 and "as_tensors" in node["outputs"][0]
    return Call(function, node["target"], tuple(args), kwargs, names, listed)


def _names(output: Mapping[str, Any]) -> list[str]:
    ((kind, value),) = output.items()
    if kind == "as_tensor":
        return [value["name"]]
    if kind == "as_tensors":
        return [tensor["name"] for tensor in value]
    return [value["as_name"]] if kind.startswith("as_sym") and "as_name" in value else []


def values_of(call: Call) -> set[str]:
    """Names of the values that a call reads."""
    return set(_used((call.args, tuple(call.kwargs.values()))))


def _used(value: Any) -> Iterator[str]:
    if isinstance(value, Value):
        yield value.name
    elif isinstance(value, tuple):
        for part in value:
            yield from _used(part)


def _argument(arg: Mapping[str, Any], where: str) -> Any:
    ((kind, value),) = arg.items()
    if kind in ("as_int", "as_float", "as_bool", "as_string"):
        return _scalar(value)
    if kind in ("as_ints", "as_floats", "as_bools"):
        return tuple(_scalar(part) for part in value)
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return Value(value["name"])
    if kind == "as_tensors":
        return tuple(Value(part["name"]) for part in value)
    if kind == "as_optional_tensors":
        return tuple(_argument(part, where) for part in value)
    if kind == "as_optional_tensor":
        return _argument(value, where)
    if kind in ("as_sym_int", "as_sym_float"):
        return _symbol(value)
    if kind in ("as_sym_ints", "as_sym_floats"):
        return tuple(_symbol(part) for part in value)
    if kind == "as_scalar_type":
        return dtype_of(value, where)
    if kind == "as_memory_format":
        return _MEMORY_FORMATS[value]
    if kind == "as_layout":
        return torch.strided
    if kind == "as_device":
        return torch.device("cpu")  # whatever it was exported on
    raise ModelError(f"an argument of a node is {kind[3:]}", where, _FIX)


def _scalar(value: Any) -> Any:
    if value in ("Infinity", "-Infinity", "NaN"):  # as the schema writes floats that JSON has no word for
        return float(value)
    if not isinstance(value, int | float | str):
        raise TypeError(f"{value!r} is no number or word")
    return value


def _symbol(value: Mapping[str, Any]) -> Any:
    return Value(value["as_name"]) if "as_name" in value else _scalar(next(iter(value.values())))


def _output_names(module: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Keys of the mapping that the network returned, from the description of its structure; it is not rebuilt."""
    for entry in module.get("module_call_graph", ()):
        if entry["fqn"] == "" and entry.get("signature"):
            _, spec = json.loads(entry["signature"]["out_spec"])
            keys = json.loads(spec["context"]) if isinstance(spec.get("context"), str) else None
            flat = all(child["type"] is None for child in spec["children_spec"])
            if flat and isinstance(keys, list) and len(keys) == count and all(isinstance(key, str) for key in keys):
                return tuple(keys)
    return ()
