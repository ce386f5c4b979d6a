"""Parts of a program that were traced without gradients: their nodes go where the part is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WITHOUT_GRADIENTS = "torch.ops.higher_order.wrap_with_set_grad_enabled"
_NAMES = ("name", "as_name")  # of values; `as_name` is a size


def inlined(graph: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Nodes of a graph in its JSON, with those of its parts among them, and what is known of every value.

    Values of a part have the names that the caller gives and takes; the others get the caller's before theirs.
    """
    nodes: list[Any] = []
    values = dict(graph["tensor_values"])
    for node in graph["nodes"]:
        if node["target"] != _WITHOUT_GRADIENTS:
            nodes.append(node)
            continue
        _, part, *given = (entry["arg"] for entry in node["inputs"])
        inner = part["as_graph"]["graph"]
        names = {_name(own): _name(arg) for own, arg in zip(inner["inputs"], given, strict=True)}
        names |= {_name(own): _name(out) for own, out in zip(inner["outputs"], node["outputs"], strict=True)}
        inside, known = inlined(inner)
        title = node.get("name") or next(iter(names.values()))
        for own in inside:
            for output in own["outputs"]:
                names |= {made: f"{title}.{made}" for made in _made(output) if made not in names}
            inputs = [{**entry, "arg": _renamed(entry["arg"], names)} for entry in own["inputs"]]
            outputs = [_renamed(output, names) for output in own["outputs"]]
            nodes.append({**own, "inputs": inputs, "outputs": outputs})
        values |= {names.get(name, name): meta for name, meta in known.items() if names.get(name, name) not in values}
    return nodes, values


def _name(arg: Mapping[str, Any]) -> str:
    ((_, value),) = arg.items()
    return str(value["name"] if "name" in value else value["as_name"])


def _made(output: Mapping[str, Any]) -> list[str]:
    ((_, value),) = output.items()
    entries = value if isinstance(value, list) else [value]
    return [str(entry.get("name", entry.get("as_name"))) for entry in entries if isinstance(entry, dict)]


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(part, names) for part in value]
    if isinstance(value, dict):
        return {
            key: _renamed(part, names) if key not in _NAMES else names.get(part, part) for key, part in value.items()
        }
    return value
