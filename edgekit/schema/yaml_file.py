"""Reading YAML as data: no objects, no duplicate keys, no alias bombs, and YAML 1.2's idea of a number and a truth.

PyYAML follows YAML 1.1, where `no` is false, `1:30` is 90 and `1e-4` is a string. Class names and learning rates are
written in these files, so the scalars here are those of YAML 1.2's core schema: https://yaml.org/spec/1.2.2/#103-core-schema.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from edgekit.errors import SchemaError

MAX_BYTES = 1 << 20
MAX_NODES = 100_000

_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$")
_FLOAT = re.compile(
    r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_RESOLVERS: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {
    None: [
        ("tag:yaml.org,2002:null", _NULL),
        ("tag:yaml.org,2002:bool", _BOOL),
        ("tag:yaml.org,2002:int", _INT),
        ("tag:yaml.org,2002:float", _FLOAT),
        ("tag:yaml.org,2002:merge", re.compile(r"^<<$")),
    ]
}


_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map"))


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _RESOLVERS


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _RESOLVERS  # quotes exactly the strings that _Loader would read as something else

    def ignore_aliases(self, data: Any) -> bool:
        return True


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        SchemaError: the file cannot be read, is over 1 MiB, is not YAML, repeats a key, is not a mapping, has
            a key that is not a string, or unfolds through aliases to more than 100,000 nodes.
    """
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= MAX_BYTES else ""
    except OSError as err:
        raise SchemaError(f"cannot be read: {err.strerror}", str(path), "check the path and its permissions") from err
    except UnicodeDecodeError as err:
        raise SchemaError("is not UTF-8 text", str(path), "save it as UTF-8") from err
    if size > MAX_BYTES:
        raise SchemaError(
            f"{size} bytes of YAML", str(path), f"keep it under {MAX_BYTES} bytes; data belongs in other files"
        )
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise SchemaError(f"holds {found}, not a mapping", str(path), "write `key: value` lines")
    return content


def parse_yaml(text: str, where: str) -> Any:
    """The value that YAML text describes: dicts with string keys, lists, strings, numbers, booleans, None."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, where, {}, set())
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise SchemaError(f"not YAML: {err.problem or err.context}", place, "correct the line") from err
    except yaml.YAMLError as err:
        raise SchemaError(f"not YAML: {err}", where, "correct the file") from err
    except ValueError as err:  # a tag written out over what it does not fit, such as !!int x
        raise SchemaError(f"not YAML: {err}", where, "remove the tag") from err
    except RecursionError as err:
        raise SchemaError("nested too deeply", where, "flatten it") from err
    finally:
        loader.dispose()


def dump_yaml(content: Any) -> str:
    """YAML that reads back as `content`, keys in their order, no aliases."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def digest_of(content: Mapping[str, Any]) -> str:
    """sha256 over canonical JSON: comments, layout and the order of keys do not count, the order of lists does."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _check(node: yaml.Node, where: str, sizes: dict[int, int], open_nodes: set[int]) -> int:
    """Nodes that `node` unfolds to; a shared node is walked once, so a bomb is weighed without being set off."""
    if id(node) in sizes:
        return sizes[id(node)]
    place = f"{where}, line {node.start_mark.line + 1}"
    if id(node) in open_nodes:
        raise SchemaError("an alias refers to what contains it", place, "write the content out")
    if node.tag not in _TAGS:
        raise SchemaError(f"tag {node.tag!r}", place, "write plain text, numbers, lists and mappings")
    open_nodes.add(id(node))
    size = 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag.rsplit(":", 1)[-1] not in {"str", "merge"}:
                written = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise SchemaError(f"{written!r} is not a string, so no key", place, "put quotes around it")
            if key.value in seen:
                line = key.start_mark.line + 1
                raise SchemaError(f"key {key.value!r} is written twice", f"{where}, line {line}", "remove one of them")
            seen.add(key.value)
            size += 1 + _check(value, where, sizes, open_nodes)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check(item, where, sizes, open_nodes) for item in node.value)
    if size > MAX_NODES:
        raise SchemaError(f"unfolds to more than {MAX_NODES} nodes", place, "write it without nested aliases")
    open_nodes.discard(id(node))
    sizes[id(node)] = size
    return size
