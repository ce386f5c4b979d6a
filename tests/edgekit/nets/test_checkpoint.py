import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgekit.errors import DataError, ModelError
from edgekit.nets.checkpoint import read_state
from edgekit.schema.recipe import Checkpoint

STATE = {"net.a": torch.arange(3.0), "net.b": torch.ones(2, 2)}


def refused(path, error=ModelError, **more):
    with pytest.raises(error) as caught:
        read_state(Checkpoint(path=str(path), **more))
    return caught.value


def write_index(folder, names):
    """An index and, for every name in it, a file of its tensors."""
    for file in set(names.values()):
        save_file({name: STATE[name] for name, own in names.items() if own == file}, folder / file)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return path


def test_shards_of_safetensors_are_read_through_their_index(tmp_path):
    index = write_index(tmp_path, {"net.a": "m-1.safetensors", "net.b": "m-2.safetensors"})
    found = read_state(Checkpoint(path=str(index), strip_prefix="net."))
    assert set(found) == {"a", "b"}
    assert torch.equal(found["a"], STATE["net.a"])
    (tmp_path / "m-2.safetensors").unlink()
    assert "1 of 2 shards are absent, such as m-2.safetensors" in refused(index, DataError).what


@pytest.mark.parametrize("written", ["{}", "[]", "no json", '{"weight_map": {"a": "../up.safetensors"}}'])
def test_a_json_file_that_is_no_index_of_this_folder_is_refused(tmp_path, written):
    path = tmp_path / "w.json"
    path.write_text(written)
    assert str(path) in refused(path).where


def test_the_entry_that_looks_like_a_state_dict_is_named(tmp_path):
    torch.save({"epoch": 3, "optimizer": {"state": {}}, "state_dict": STATE}, tmp_path / "w.pth")
    error = refused(tmp_path / "w.pth")
    assert error.what == "not a state dict; these are no tensors: epoch, optimizer, state_dict"
    assert error.fix == "set key: state_dict"


def test_a_prefix_that_no_name_has_is_refused_with_the_nearest(tmp_path):
    torch.save(STATE, tmp_path / "w.pth")
    error = refused(tmp_path / "w.pth", strip_prefix="nte.")
    assert error.what == "no name in the file begins with 'nte.'"
    assert "did you mean 'net.'" in error.fix


def test_a_prefix_that_makes_two_names_one_is_refused(tmp_path):
    torch.save({**STATE, "a": torch.zeros(3)}, tmp_path / "w.pth")
    assert "'net.a' and 'a'" in refused(tmp_path / "w.pth", strip_prefix="net.").what


def test_what_a_pickle_asks_for_is_told(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "w.pth")
    error = refused(tmp_path / "w.pth")
    assert "its pickle asks for torch.nn.modules.linear.Linear); it was not unpickled" in error.what
    assert "state_dict" in error.fix


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_archive_is_told_from_a_damaged_file(tmp_path):
    torch.jit.trace(nn.Linear(2, 2).eval(), torch.zeros(1, 2)).save(str(tmp_path / "w.pt"))
    assert "TorchScript" in refused(tmp_path / "w.pt").what


def test_an_exported_program_is_no_checkpoint(tmp_path):
    (tmp_path / "w.pt2").write_bytes(b"")
    assert "model.pt2" in refused(tmp_path / "w.pt2").fix
