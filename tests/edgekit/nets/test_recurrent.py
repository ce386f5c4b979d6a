import pytest
import torch

from edgekit.errors import ModelError
from edgekit.nets.recurrent import recurrent_network, step_model
from edgekit.nets.steps import declared_states
from tests import nets


def test_a_step_takes_and_gives_every_state():
    model = nets.recurrent("lstm", steps=4)
    step = step_model(model)
    assert [(spec.name, spec.shape, spec.layout) for spec in step.inputs] == [
        ("x", (1, 3), "NC"),
        ("h", (1, 5), "NC"),
        ("c", (1, 5), "NC"),
    ]
    assert [(spec.name, spec.shape) for spec in step.outputs] == [
        ("output", (1, 4)),
        ("next_h", (1, 5)),
        ("next_c", (1, 5)),
    ]
    assert declared_states(step.inputs) == {"next_h": "h", "next_c": "c"}
    assert declared_states(model.inputs) == {}
    assert step.network is model.network
    (x,) = model.example(2)
    states = torch.zeros(2, 5), torch.zeros(2, 5)
    with torch.no_grad():
        for t in range(4):
            answer, *states = step.network(x[:, t], *states)
        assert torch.equal(answer, model.network(x))


def test_other_networks_have_no_step():
    model = nets.model(nets.TINY_CONV)
    assert recurrent_network(model) is None
    with pytest.raises(ModelError) as caught:
        step_model(model)
    assert "step cell" in caught.value.what


def test_a_step_has_no_step_of_its_own():
    step = step_model(nets.recurrent("gru", steps=4))
    assert recurrent_network(step) is None
