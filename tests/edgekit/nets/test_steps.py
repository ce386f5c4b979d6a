import pytest
import torch
from torch import nn

from edgekit.data.samples import Samples
from edgekit.errors import ModelError
from edgekit.nets.model import Model
from edgekit.nets.steps import OverTime, check_states, declared_states, on_samples, sample_specs, step_samples
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec


class Sum(nn.Module):
    """Adds what it is given to a state, and answers twice the state before."""

    def forward(self, total, x):
        return {"twice": 2 * total, "following": total + x}


SPECS = (
    InputSpec(name="total", shape=(1, 2), layout="NC", state="following"),
    InputSpec(name="x", shape=(1, 2), layout="NC"),
)
OUTPUTS = (OutputSpec(name="twice", shape=(1, 2)), OutputSpec(name="following", shape=(1, 2)))
MODEL = Model(Sum(), ModelSource(factory="tests:Sum", inputs=SPECS), OUTPUTS)
SEQUENCES = torch.arange(12.0).reshape(2, 3, 2)


def test_the_last_step_counts_and_states_begin_at_zero():
    twice, following = OverTime(MODEL.network, SPECS, [spec.name for spec in OUTPUTS])(SEQUENCES)
    torch.testing.assert_close(following, SEQUENCES.sum(1))
    torch.testing.assert_close(twice, 2 * SEQUENCES[:, :2].sum(1))
    assert [tensor.tolist() for tensor in on_samples(MODEL, MODEL.network)(SEQUENCES)] == [twice.tolist()]


def test_steps_are_samples_with_the_states_that_they_meet():
    found = step_samples(MODEL, Samples((SEQUENCES,), torch.tensor([7, 8])))
    total, x = found.inputs
    torch.testing.assert_close(x, SEQUENCES.reshape(6, 2))
    assert total.tolist() == [[0, 0], [0, 1], [2, 4], [0, 0], [6, 7], [14, 16]]
    assert found.labels.tolist() == [7, 7, 7, 8, 8, 8]


def test_samples_are_given_to_what_is_no_state():
    assert declared_states(SPECS) == {"following": "total"}
    assert [(spec.name, spec.layout) for spec in sample_specs(SPECS)] == [("x", "NTC")]
    plain = (InputSpec(name="x", shape=(1, 2), layout="NC"),)
    assert sample_specs(plain) == plain


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ((SPECS[0].model_copy(update={"state": "folowing"}), SPECS[1]), "no output is called 'folowing'"),
        ((SPECS[0].model_copy(update={"shape": (1, 3)}), SPECS[1]), "output 'following' is (1, 2)"),
        ((SPECS[0].model_copy(update={"dtype": "int64"}), SPECS[1]), "takes int64"),
        ((SPECS[0], SPECS[1].model_copy(update={"layout": "NCHW"})), "'x' of one step is NCHW"),
        ((SPECS[0],), "every input is a state"),
    ],
)
def test_states_that_cannot_go_round_are_refused(inputs, told):
    with pytest.raises(ModelError) as caught:
        check_states(inputs, OUTPUTS)
    assert told in caught.value.what
    assert caught.value.where.startswith("model.inputs")
    assert caught.value.fix
