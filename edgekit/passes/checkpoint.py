"""The state of an unfinished training on disk: one safetensors file, its scalars as JSON in the header. No pickle."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgekit.errors import PassError

Scalar: TypeAlias = bool | int | float | None
OptimizerState: TypeAlias = dict[int, dict[str, Tensor | Scalar]]

_FILE = "training.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next epoch depends on, besides what the recipe says.

    Attributes:
        run: digest of what was being trained on what, and how; another run's checkpoint is not gone on from.
        epochs: epochs that are done.
        parts: what the loss trains beside the network.
        optimizer: state of each parameter, in the optimizer's order.
        average: the moving average and the number of its updates, if one is kept.
        masks: which weights are held at zero, if any are.
    """

    run: str
    epochs: int
    network: dict[str, Tensor]
    optimizer: OptimizerState
    average: dict[str, Tensor] | None = None
    average_step: int = 0
    masks: dict[str, Tensor] | None = None
    parts: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of a step in place of its last one; a kill leaves one of the two whole."""
    tensors = {f"network.{name}": tensor for name, tensor in checkpoint.network.items()}
    tensors.update({f"parts.{name}": tensor for name, tensor in checkpoint.parts.items()})
    tensors.update({f"average.{name}": tensor for name, tensor in (checkpoint.average or {}).items()})
    tensors.update({f"masks.{name}": tensor for name, tensor in (checkpoint.masks or {}).items()})
    scalars: dict[str, dict[str, Scalar]] = {}
    for index, state in checkpoint.optimizer.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                scalars.setdefault(str(index), {})[key] = value
    header = {
        "run": checkpoint.run,
        "epochs": checkpoint.epochs,
        "average": checkpoint.average is not None,
        "average_step": checkpoint.average_step,
        "masks": checkpoint.masks is not None,
        "optimizer": scalars,
    }
    # clones: safetensors refuses tensors that share memory, as tied weights do
    whole = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    content = save(whole, {"training": json.dumps(header)})
    try:
        _write(folder, content)
    except FileNotFoundError:  # another build in the same store finished the step, and cleared the folder away
        _write(folder, content)


def _write(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{_FILE}.{os.getpid()}"
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / _FILE)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where there is none.

    Raises:
        PassError: the file is not one that `save_checkpoint` wrote.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _parse(header, tensors)
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as err:
        if not path.is_file():  # another build in the same store finished the step meanwhile
            return None
        raise PassError(
            what=f"the checkpoint cannot be read: {err}", where=str(path), fix="delete it; the step then starts again"
        ) from err


def _parse(header: dict[str, object], tensors: dict[str, Tensor]) -> Checkpoint:
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "parts": {}, "average": {}, "masks": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, rest = name.split(".", 1)
        parts[part][rest] = tensor
    optimizer: OptimizerState = {}
    scalars = header["optimizer"]
    if not isinstance(scalars, dict):
        raise TypeError("no scalars of the optimizer")
    for index, values in scalars.items():
        optimizer.setdefault(int(index), {}).update(values)
    for name, tensor in parts["optimizer"].items():
        index, key = name.split(".", 1)
        optimizer.setdefault(int(index), {})[key] = tensor
    return Checkpoint(
        run=str(header["run"]),
        epochs=int(str(header["epochs"])),
        network=parts["network"],
        optimizer=optimizer,
        average=parts["average"] if header["average"] else None,
        average_step=int(str(header["average_step"])),
        masks=parts["masks"] if header["masks"] else None,
        parts=parts["parts"],
    )


def restore_optimizer(optimizer: torch.optim.Optimizer, state: OptimizerState) -> None:
    """Go on from a saved state; the groups and their settings stay the optimizer's own."""
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
