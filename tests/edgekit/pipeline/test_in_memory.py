import numpy as np
import pytest
import torch
from torch import nn

import edgekit as ek
from edgekit.errors import DataError, EdgekitError, FormatError, PassError, SchemaError
from edgekit.pipeline import in_memory


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3))
    for _ in range(20):
        made(torch.randn(64, 1, 6, 6) * 2 + 1)  # a norm with statistics away from 0 and 1
    return made.eval()


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(1).normal(1, 2, (48, 1, 6, 6)).astype(np.float32)


def test_three_lines_give_an_int8_file_that_answers_as_the_network(network, samples, tmp_path):
    ort = pytest.importorskip("onnxruntime", reason="runs an ONNX artifact")
    quantised = ek.quantize(network, samples, "cpu-x86-64")
    (file,) = quantised.export(tmp_path / "out", formats=["onnx"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.onnx"]
    assert file.path == file.artifact.path == tmp_path / "out" / "model.onnx"
    assert file.parity.passed
    assert file.runtime.startswith("onnxruntime ")
    assert (file.artifact.row.precision, file.artifact.row.in_float) == ("int8", ())

    session = ort.InferenceSession(str(file.path))
    (given,) = session.run(None, {session.get_inputs()[0].name: samples[:1]})
    with torch.no_grad():
        expected = network(torch.from_numpy(samples[:1])).numpy()
        simulated = quantised.program()(torch.from_numpy(samples[:1])).numpy()
    np.testing.assert_allclose(given, expected, atol=0.05 * np.abs(expected).max())  # int8 by int8, two layers
    np.testing.assert_allclose(given, simulated, atol=file.parity.tolerance)
    assert [type(module).__name__ for module in quantised.model.network][1] == "Identity"  # the norm was merged
    (row,) = quantised.records
    assert row.count == 48


def test_samples_of_two_inputs_and_an_option_of_the_pass(tmp_path):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(32, 4), nn.Linear(32, 4)

        def forward(self, a, b):
            return self.left(a) + self.right(b)

    draw = torch.Generator().manual_seed(0)
    given = [torch.randn(32, 32, generator=draw), torch.randn(32, 32, generator=draw)]
    quantised = ek.quantize(Two(), given, "cpu-x86-64", observer="min-max")
    assert [spec.name for spec in quantised.model.inputs] == ["a", "b"]
    low, high = given[0].min().item(), given[0].max().item()
    assert quantised.model.table.edges["input:a"].low == pytest.approx(low, rel=0.02)
    assert quantised.model.table.edges["input:a"].high == pytest.approx(high, rel=0.02)


def test_a_format_without_integers_gets_the_float_network(network, samples, tmp_path):
    pytest.importorskip("onnxruntime", reason="runs an ONNX artifact")
    quantised = ek.quantize(network, samples, "jetson-nano")
    (file,) = quantised.export(tmp_path, formats=["tensorrt"])
    assert file.artifact.row.precision == "fp32"
    assert (tmp_path / "engine.json").is_file()


def test_a_file_that_answers_otherwise_is_refused_and_does_not_appear(network, samples, tmp_path, monkeypatch):
    def wrong(*arguments):
        given = in_memory_infer(*arguments)
        return type(given)({name: array + 1 for name, array in given.outputs.items()}, {}, "r", "1")

    in_memory_infer = in_memory.infer
    monkeypatch.setattr(in_memory, "infer", wrong)
    pytest.importorskip("onnxruntime", reason="runs an ONNX artifact")
    quantised = ek.quantize(network, samples)
    with pytest.raises(FormatError) as caught:
        quantised.export(tmp_path / "out", formats=["onnx"])
    assert caught.value.where == "model.onnx in r 1"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"wieghts": "int4"}, SchemaError, "unknown key 'wieghts'"),
        ({"mode": "auto"}, PassError, "judges by a metric"),
        ({"budget": {"latency_ms": 1.0}}, PassError, "measured on a device"),
        ({"choose": {"count": 4}}, PassError, "none are chosen"),
        ({"target": "jetsn"}, SchemaError, "no target is called 'jetsn'"),
    ],
)
def test_what_needs_a_recipe_is_refused(network, samples, options, error, what):
    with pytest.raises(error) as caught:
        ek.quantize(network, samples, **options)
    assert what in caught.value.what


@pytest.mark.parametrize("wrong", [[], np.zeros((0, 1, 6, 6)), [np.zeros((3, 1)), np.zeros((4, 1))], np.float32(1)])
def test_samples_that_are_none_are_refused(network, wrong):
    with pytest.raises(DataError) as caught:
        ek.quantize(network, wrong)
    assert "one N" in caught.value.fix


def test_samples_that_are_not_finite_are_refused(network, samples):
    with pytest.raises(EdgekitError, match="NaN or infinite"):
        ek.quantize(network, np.where(samples > 4, np.inf, samples))
