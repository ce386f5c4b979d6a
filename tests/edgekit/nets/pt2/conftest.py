"""Archives of exported programs, as torch writes them and otherwise."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

Rewrite = Callable[[Mapping[str, bytes]], Mapping[str, bytes]]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Exports a network to a file of its own name; `dynamic` leaves the batch of every input free."""

    def save(network: nn.Module, *example: torch.Tensor, name: str = "net", dynamic: bool = True) -> Path:
        path = tmp_path / f"{name}.pt2"
        shapes: Any = tuple({0: torch.export.Dim("batch")} for _ in example) if dynamic else None
        torch.export.save(torch.export.export(network.eval(), example, dynamic_shapes=shapes), path)
        return path

    return save


def rewrite(path: Path, change: Rewrite, compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive beside it whose members, by name without the root folder, are what `change` makes of them."""
    with zipfile.ZipFile(path) as file:
        root = file.namelist()[0].partition("/")[0]
        members = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    made = path.with_name("made.pt2")
    with zipfile.ZipFile(made, "w", compression) as file:
        for name, content in change(members).items():
            file.writestr(f"{root}/{name}", content)
    return made
