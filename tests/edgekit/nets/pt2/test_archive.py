import json
import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

from edgekit.errors import ModelError
from edgekit.nets.pt2.archive import read_archive
from edgekit.nets.pt2.read import read_exported
from tests.edgekit.nets.pt2.conftest import rewrite

WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"


class Net(nn.Module):
    """One tensor of each kind that an archive stores: parameter, buffer, constant."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("shift", torch.tensor([1.0, -2.0]))

    def forward(self, x):
        return (self.linear(x) + self.shift) * torch.tensor([2.0, 3.0])


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def path(saved):
    return saved(Net(), torch.zeros(2, 3))


def refused(path):
    with pytest.raises(ModelError) as caught:
        read_exported(path, "model.pt2")
    assert caught.value.where.startswith(f"model.pt2: {path}")
    return caught.value


def pickled(folder):
    """A file of torch.save that runs what it should not."""
    torch.save({"x": Payload(folder)}, folder.with_name("payload.pt"))
    return folder.with_name("payload.pt").read_bytes()


def put(name):
    """Puts the payload in the place of a member."""
    return lambda members, folder: {**members, name: pickled(folder)}


def unpickled_tensor(config, member):
    """Says of a stored tensor that it is a pickle, and puts the payload there."""

    def change(members, folder):
        table = json.loads(members[config])
        row = next(row for row in table["config"].values() if row["path_name"] == member.rpartition("/")[2])
        row["use_pickle"] = True
        return {**members, config: json.dumps(table).encode(), member: pickled(folder)}

    return change


def opaque(members, folder):
    table = json.loads(members[CONSTANTS])
    row = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    table["config"]["extra"] = row
    config = json.dumps(table).encode()
    return {**members, CONSTANTS: config, "data/constants/opaque_obj_0": pickle.dumps(Payload(folder))}


def expression(members, folder):
    """The size of an input as an expression, which is evaluated as Python."""
    program = json.loads(members["models/model.json"])
    size = program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]
    size["as_expr"]["expr_str"] = f"__import__('os').mkdir({str(folder)!r})"
    return {**members, "models/model.json": json.dumps(program).encode()}


HOSTILE = {
    "sample inputs": put("data/sample_inputs/model.pt"),
    "a weight": unpickled_tensor(WEIGHTS, "data/weights/weight_0"),
    "a constant": unpickled_tensor(CONSTANTS, "data/constants/tensor_0"),
    "an opaque constant": opaque,
    "old weights": put("data/weights/model.pt"),
    "old constants": put("data/constants/model.pt"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.filterwarnings("ignore")  # torch says that it falls back to unpickling
def test_nothing_runs_that_torch_would_have_run(path, tmp_path, kind):
    folder = tmp_path / "ran"
    hostile = rewrite(path, lambda members: HOSTILE[kind](members, folder))
    assert not folder.exists()
    error = refused(hostile)
    assert not folder.exists()
    assert "member data/" in error.what
    assert "nothing of it was run" in error.what or "not unpickled" in error.what
    with pytest.raises(Exception, match=r".*"):
        torch.export.load(hostile).module()(torch.zeros(2, 3))
    assert folder.exists()


@pytest.mark.filterwarnings("ignore")
def test_expressions_in_the_graph_are_not_evaluated(path, tmp_path):
    folder = tmp_path / "ran"
    hostile = rewrite(path, lambda members: expression(members, folder))
    x = torch.randn(4, 3)
    torch.testing.assert_close(read_exported(hostile, "model.pt2")(x), torch.export.load(path).module()(x))
    assert not folder.exists()
    with pytest.raises(Exception, match=r".*"):
        torch.export.load(hostile)
    assert folder.exists()


def test_every_tensor_is_read_with_its_name(path):
    archive = read_archive(path, "model.pt2")
    net = torch.export.load(path)
    assert set(archive.weights) == {"linear.weight", "linear.bias", "shift"}
    for name, tensor in net.state_dict.items():
        assert torch.equal(archive.weights[name], tensor), name
    assert torch.equal(archive.constants["lifted_tensor_0"], torch.tensor([2.0, 3.0]))


@pytest.mark.filterwarnings("ignore:No complete tensor")
def test_slices_of_one_storage_and_tied_weights_are_told_apart(saved):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            both = torch.arange(12.0)
            self.register_buffer("first", both[:6].view(2, 3))
            self.register_buffer("turned", both[6:].view(3, 2).T)
            self.weight = nn.Parameter(torch.ones(3))
            self.again = self.weight

        def forward(self, x):
            return x * self.weight + self.first.sum() + self.turned[0, 1] + (x * self.again)

    weights = read_archive(saved(Shared(), torch.zeros(2, 3)), "model.pt2").weights
    assert weights["first"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert weights["turned"].tolist() == [[6, 8, 10], [7, 9, 11]]
    assert weights["weight"] is weights["again"]


CHANGES = {
    "of no known kind": lambda members: {**members, "data/other": b""},
    "compiled code": lambda members: {**members, "data/aotinductor/model/a.so": b""},
    "not an archive of torch.export.save": lambda members: {**members, "archive_format": b"other"},
    "2 programs": lambda members: {**members, "models/other.json": b"{}"},
    "big-endian": lambda members: {**members, "byteorder": b"big"},
    "absent or no JSON": lambda members: {**members, "models/model.json": b"{"},
    "schema is that of torch": lambda members: {**members, "models/model.json": b'{"schema_version": {"major": 7}}'},
    "which is absent": lambda members: {n: c for n, c in members.items() if n != "data/weights/weight_0"},
    "reaches beyond": lambda members: {**members, "data/weights/weight_0": b"\0" * 8},
    "is cut off": lambda members: {**members, "data/weights/weight_0": b"\0" * 7},
    "no JSON object": lambda members: {**members, WEIGHTS: b"[]"},
    "'config' is not": lambda members: {**members, WEIGHTS: b"{}"},
}


@pytest.mark.parametrize("said", CHANGES)
def test_what_is_not_as_torch_writes_it_is_refused(path, said):
    assert said in refused(rewrite(path, CHANGES[said])).what


def test_a_packed_member_is_refused(path):
    assert "compressed" in refused(rewrite(path, dict, zipfile.ZIP_DEFLATED)).what


def test_what_is_no_zip_is_refused(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "not an archive" in refused(path).what


def test_notes_of_the_users_are_let_be(saved, tmp_path):
    path = tmp_path / "noted.pt2"
    program = torch.export.export(Net().eval(), (torch.zeros(1, 3),))
    torch.export.save(program, path, extra_files={"notes.txt": "v1"})
    assert read_exported(path, "model.pt2")(torch.zeros(4, 3)).shape == (4, 2)
