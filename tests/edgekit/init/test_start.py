import pytest

from edgekit.errors import ModelError, SchemaError
from edgekit.init.start import Place, parameters, parse_shape

MODULE = """
from torchvision import known
import torch

def make(width, depth=2, *, norm, bias=True): ...
def plain(): ...

class Net(torch.nn.Module):
    def __init__(self, classes, width=8): ...

class Bare(torch.nn.Module): ...

made = Net
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "some_net.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("make", (("width", "norm"), ("depth", "bias"))),
        ("plain", ((), ())),
        ("Net", (("classes",), ("width",))),
        ("Bare", ((), ())),
        ("known", ((), ())),
        ("made", ((), ())),
    ],
)
def test_a_signature_is_read_without_importing(name, expected):
    assert parameters(f"some_net:{name}") == expected


@pytest.mark.usefixtures("module")
def test_what_is_no_factory_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no function 'mak'") as caught:
        parameters("some_net:mak")
    assert "did you mean 'make'?" in caught.value.fix
    with pytest.raises(ModelError, match=r"no package.module:function"):
        parameters("some_net")
    (tmp_path / "broken_net.py").write_text("def make(:\n")
    with pytest.raises(ModelError) as caught:
        parameters("broken_net:make")
    assert caught.value.where.endswith("broken_net.py, line 1")


def test_a_name_is_made_of_the_folders(tmp_path, monkeypatch):
    folder = tmp_path / "My Own, Net!"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert Place().own_name == "my-own-net"
    assert Place(name="x").own_name == "x"


def test_shapes():
    assert parse_shape("1x3x32x32") == (1, 3, 32, 32)
    for text in ("3", "1x0", "1,3", "x3"):
        with pytest.raises(SchemaError):
            parse_shape(text)
