"""Networks that a format cannot hold."""

import importlib.util

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="exports to ONNX")

NETWORKS = """

class Odd(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def around(function):
    inside = nn.Sequential(nn.ReLU(), Odd(function))
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), inside, nn.Flatten(), nn.Linear(64, 2))


def bessel():
    return around(torch.special.bessel_j0)


def selection():
    return around(lambda x: x + x[x > 0].sum())


def branch():
    return around(lambda x: x if x.sum() > 0 else -x)
"""


@pytest.fixture
def refused_network(refused, folder):
    """Builds a network of NETWORKS, which must be refused."""
    with (folder / "own_code.py").open("a") as code:
        code.write(NETWORKS)

    def run(name, format_name="onnx"):
        return refused(
            over={"model": {"factory": f"own_code:{name}"}, "steps": [], "export": {"formats": [format_name]}}
        )

    return run


@pytest.mark.parametrize(("format_name", "title"), [("onnx", "ONNX"), ("tflite", "TFLite")])
def test_an_operator_that_a_format_has_not(refused_network, format_name, title):
    if format_name == "tflite":
        pytest.importorskip("litert_torch")
    error = refused_network("bessel", format_name)
    assert error.kind == "FormatError"
    assert error.what == f"{title} has no form of the operator special_bessel_j0"
    assert error.where.startswith(f"layer 1.1, format {format_name}")
    assert "own_code:bessel" in error.where
    assert f"drop {format_name} from export.formats" in error.fix


def test_a_size_that_depends_on_values(refused_network):
    error = refused_network("selection")
    assert error.kind == "ModelError"
    assert "size that depends on the values" in error.what
    assert error.where.startswith("layer 1.1; ")
    assert "topk or a mask" in error.fix


def test_a_branch_that_depends_on_values(refused_network):
    error = refused_network("branch")
    assert "cannot be traced" in error.what
    assert error.where.startswith("layer 1.1; ")
    assert "control flow" in error.fix
