"""Writing devices.yaml: one board is added, and everything else in the file stays as its owner wrote it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import yaml

from edgekit.errors import DeviceError, SchemaError
from edgekit.schema.device import Device
from edgekit.schema.load import load_devices
from edgekit.schema.yaml_file import dump_yaml

_NEW = """# Boards that edgekit may use. None is contacted unless --device names it.
devices:
  - name: local
    target: {target}
    transport: local
"""


def add_device(device: Device, path: Path, local_target: str = "cpu-x86-64") -> None:
    """Add a board to a devices.yaml, which is made where there is none.

    Args:
        device: not in the file yet.
        path: the file.
        local_target: target of the machine itself, for a new file.

    Raises:
        DeviceError: the file has a board of that name.
        SchemaError: the file is no devices.yaml, or its list is written in a way that cannot be added to.
    """
    if path.exists():
        text = path.read_text(encoding="utf-8")
        if any(other.name == device.name for other in load_devices(path).devices.devices):
            raise DeviceError(f"there is a device called {device.name!r}", str(path), "choose another name, or edit it")
    else:
        text = _NEW.format(target=local_target)
    made = _with(text, device, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as stream:
            stream.write(made)
            stream.flush()
            os.fsync(stream.fileno())
        load_devices(Path(temporary))  # what is not understood does not take the place of what was
        if path.exists():
            Path(temporary).chmod(path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _with(text: str, device: Device, path: Path) -> str:
    """The text with one item more at the end of its list."""
    lines = dump_yaml(device.model_dump(mode="json", exclude_defaults=True)).splitlines()
    root = yaml.compose(text)
    found = [value for key, value in getattr(root, "value", []) if key.value == "devices"]
    if not found or found[0].tag == "tag:yaml.org,2002:null":
        raise SchemaError("there is no list of devices", str(path), "write `devices:` with one `- name: ...` below it")
    (items,) = found
    if not isinstance(items, yaml.SequenceNode) or items.flow_style or not items.value:
        raise SchemaError(
            "its list of devices is written in brackets, or is empty",
            str(path),
            "write each one below the other: - name: ...",
        )
    indent = " " * items.start_mark.column
    end = _end(items)
    kept = text[: text.find("\n", end)] if "\n" in text[end:] else text
    rest = text[len(kept) :] or "\n"
    block = "\n".join(f"{indent}{'- ' if i == 0 else '  '}{line}" for i, line in enumerate(lines))
    return f"{kept}\n{block}{rest}"


def _end(node: yaml.Node) -> int:
    """Where what is written of a node ends. A block's own mark would be behind the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)
