import numpy as np
import pytest
import torch
from torch import nn

from edgekit.errors import FormatError
from edgekit.formats.artifact import Artifact
from edgekit.pipeline.parity import (
    Expected,
    expect,
    expected_codes,
    judge_parity,
    load_expected,
    output_edges,
    save_expected,
)
from edgekit.schema.manifest import ArtifactRow, QuantisedTensor
from edgekit.schema.tensors import ArtifactTensor
from tests import nets


def row(precision: str = "int8", scale: float | None = None, batch: int = 4) -> ArtifactRow:
    def tensor(name: str, scale: float | None = None) -> ArtifactTensor:
        return ArtifactTensor(
            name=name, network_name=name, shape=(batch, 2), dtype="float32", layout="NC", scale=scale, zero_point=None
        )

    activation = QuantisedTensor(
        tensor="head/linear", role="activation", bits=8, dtype="int8", scheme="affine", scale=(0.5,), zero_point=(0,)
    )
    return ArtifactRow(
        format="onnx",
        convention="onnxruntime-arm",
        path="model.onnx",
        sha256="0" * 64,
        size_bytes=1,
        precision=precision,  # type: ignore[arg-type]
        inputs=(tensor("x"),),
        outputs=(tensor("y", scale),),
        quantisation=(activation,),
    )


class Program(nn.Module):
    """Doubles a batch of four, and nothing else."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        assert len(x) == 4
        return (2 * x,)


def test_the_program_runs_in_its_own_batch_and_what_filled_it_up_is_cut(tmp_path):
    inputs = torch.arange(12.0).reshape(6, 2)
    found = expect(Artifact(tmp_path, row(), Program()), (inputs,), {"y": "head/linear"})
    torch.testing.assert_close(found.outputs["y"], 2 * inputs, rtol=0, atol=0)
    assert found.scales == {"y": 0.5}


def test_an_artifact_that_gives_codes_is_judged_on_its_own_grid(tmp_path):
    found = expect(Artifact(tmp_path, row(scale=0.25), Program()), (torch.zeros(4, 2),), {"y": "head/linear"})
    assert found.scales == {"y": 0.25}


def test_an_output_that_is_not_quantised_has_no_grid(tmp_path):
    assert expect(Artifact(tmp_path, row(), Program()), (torch.zeros(4, 2),), {"y": "head/softmax"}).scales == {}


def test_expected_outputs_survive_the_disk(tmp_path):
    kept = Expected((torch.rand(3, 2), torch.arange(3)), {"a": torch.rand(3, 4), "b.c": torch.rand(3, 1)}, {"a": 0.1})
    save_expected(kept, tmp_path / "p.safetensors")
    found = load_expected(tmp_path / "p.safetensors")
    assert all(map(torch.equal, found.inputs, kept.inputs))
    assert len(found.inputs) == 2
    assert found.outputs.keys() == {"a", "b.c"}
    assert torch.equal(found.outputs["b.c"], kept.outputs["b.c"])
    assert found.scales == {"a": 0.1}


REFERENCE = torch.tensor([[1.0, -2.0], [0.5, 4.0]])


def judged(given: list[list[float]], precision: str = "int8", scales: dict[str, float] | None = None, codes: int = 1):
    expected = Expected((torch.zeros(2, 2),), {"y": REFERENCE}, {"y": 0.5} if scales is None else scales)
    return judge_parity(row(precision), expected, {"y": np.array(given, np.float32)}, codes)


def test_one_code_is_tolerated_and_two_are_not():
    one, two = judged([[1.5, -2.0], [0.5, 4.0]]), judged([[1.0, -2.0], [0.5, 3.0]])
    assert (one.max_code_error, one.passed, one.max_abs_error) == (1, True, 0.5)
    assert (two.max_code_error, two.passed, two.max_abs_error) == (2, False, 1.0)


def test_a_gate_that_allows_two_codes_widens_the_tolerance():
    assert judged([[1.0, -2.0], [0.5, 3.0]], codes=2).passed


def test_float_is_held_to_a_ratio_of_the_largest_value():
    good = judged([[1.0, -2.0], [0.5, 4.00003]], "fp32", {})
    bad = judged([[1.0, -2.0], [0.5, 4.00006]], "fp32", {})
    assert good.tolerance == pytest.approx(4e-5)
    assert (good.passed, bad.passed) == (True, False)
    assert good.max_code_error is None


def test_a_float_output_of_an_integer_network_is_held_to_its_range():
    found = judged([[1.0, -2.0], [0.5, 4.0]], "int8", {})
    assert found.tolerance == pytest.approx(1.5 * 6 / 255)
    assert found.max_code_error is None


def test_agreement_is_the_share_of_equal_decisions():
    assert judged([[0.0, 1.0], [0.5, 4.0]]).agreement_ratio == 0.5


def test_outputs_are_traced_to_the_activation_that_makes_them():
    assert output_edges(nets.model(nets.TINY_CONV)) == {"output": "linear/linear"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_output_that_is_not_finite_is_refused(value):
    with pytest.raises(FormatError) as raised:
        judged([[1.0, -2.0], [0.5, value]])
    assert "NaN or infinity in output" in raised.value.what


def test_codes_are_stored_of_outputs_that_are_given_as_codes():
    coded = row(scale=0.5)
    grid = coded.outputs[0].model_copy(update={"dtype": "int8", "zero_point": -3})
    expected = Expected((torch.zeros(2, 2),), {"y": REFERENCE}, {"y": 0.5})
    codes = expected_codes(coded.model_copy(update={"outputs": (grid,)}), expected)["y"]
    assert codes.dtype == np.int8
    assert codes.tolist() == [[-1, -7], [-2, 5]]
    assert expected_codes(row(), expected) == {}


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("int4-weights", 4e-5), ("int8-dynamic", 1.5 * 6 / 255), ("fp16", 4 / 128), ("fp8-weights", 4e-5)],
)
def test_tolerance_is_of_what_the_artifact_computes_in(precision: str, tolerance: float):
    found = judged([[1.0, -2.0], [0.5, 4.0]], precision, {})
    assert found.tolerance == pytest.approx(tolerance)
    assert found.reference == "PyTorch, onnxruntime-arm program"
    assert found.max_code_error is None


def test_a_state_is_judged_by_the_answer_that_it_makes():
    step = row()
    state = step.outputs[0].model_copy(update={"name": "next_c", "network_name": "next_c"})
    step = step.model_copy(update={"outputs": (*step.outputs, state), "feedback": {"next_c": "c"}})
    answer, far = torch.tensor([[0.5, 1.0]]), np.array([[9.0, 9.0]], np.float32)
    expected = Expected(torch.zeros(1, 2), {"y": answer, "next_c": answer}, {"y": 0.5})
    found = judge_parity(step, expected, {"y": answer.numpy(), "next_c": far})
    assert (found.passed, found.max_abs_error, found.max_code_error) == (True, 0.0, 0)
    assert not judge_parity(step, expected, {"y": far, "next_c": answer.numpy()}).passed
