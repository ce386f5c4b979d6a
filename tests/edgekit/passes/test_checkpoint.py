"""Two builds in one store may train the same step: the one that ends first clears its checkpoints away."""

import os
import shutil

import torch

from edgekit.passes import checkpoint
from edgekit.passes.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

MADE = Checkpoint(run="r", epochs=2, network={"w": torch.tensor([1.0, 2.0])}, optimizer={}, average=None)


def test_a_folder_that_goes_while_a_checkpoint_is_written_is_made_again(tmp_path, monkeypatch):
    folder, fsync, gone = tmp_path / "step", os.fsync, []

    def clear_once(file):
        fsync(file)
        if not gone:
            gone.append(True)
            shutil.rmtree(folder)

    monkeypatch.setattr(checkpoint.os, "fsync", clear_once)
    save_checkpoint(folder, MADE)
    found = load_checkpoint(folder)
    assert gone
    assert found is not None
    assert found.network["w"].tolist() == [1.0, 2.0]
    assert [path.name for path in folder.iterdir()] == ["training.safetensors"]


def test_a_checkpoint_that_goes_while_it_is_opened_is_none(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, MADE)

    def vanished(path, framework):
        path.unlink()
        raise RuntimeError(f"unable to open file <{path}>")

    monkeypatch.setattr(checkpoint, "safe_open", vanished)
    assert load_checkpoint(tmp_path) is None
