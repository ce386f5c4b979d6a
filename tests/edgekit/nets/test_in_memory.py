import pytest
import torch
from torch import nn

from edgekit.errors import ModelError
from edgekit.nets.in_memory import model_in_memory
from edgekit.nets.saved import load_model, save_model
from edgekit.schema.tensors import InputSpec


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(5, 4), nn.BatchNorm1d(4)

    def forward(self, tokens, offset):
        return {"sum": self.norm(self.table(tokens).mean(1) + offset), "offset": offset}


def test_inputs_are_named_by_the_network_and_shaped_by_the_samples():
    model = model_in_memory(Two(), (torch.zeros(3, 6, dtype=torch.int64), torch.zeros(3, 4)))
    assert model.inputs == (
        InputSpec(name="tokens", shape=(1, 6), dtype="int64", layout="NC"),
        InputSpec(name="offset", shape=(1, 4), layout="NC"),
    )
    assert [(output.name, output.shape) for output in model.outputs] == [("sum", (1, 4)), ("offset", (1, 4))]


def test_the_network_that_was_given_is_left_as_it_is():
    network = Two()
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = model_in_memory(network, (torch.zeros(3, 6, dtype=torch.int64), torch.ones(3, 4)))
    assert network.training
    assert not model.network.training
    with torch.no_grad():
        model.network.norm.weight.fill_(7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_what_is_no_input_of_a_network_is_refused():
    with pytest.raises(ModelError) as caught:
        model_in_memory(nn.Linear(4, 2), (torch.zeros(3, 4, dtype=torch.uint8),))
    assert caught.value.what == "samples of input 'input' are torch.uint8"
    with pytest.raises(ModelError, match="does not take"):
        model_in_memory(nn.Linear(4, 2), (torch.zeros(3, 5),))
    broken = nn.Linear(4, 2)
    with torch.no_grad():
        broken.weight[0, 0] = float("nan")
    with pytest.raises(ModelError) as caught:
        model_in_memory(broken, (torch.zeros(3, 4),))
    assert "network Linear" in caught.value.where


def test_one_that_was_saved_says_why_it_cannot_be_made_again(tmp_path):
    save_model(model_in_memory(nn.Linear(4, 2), (torch.zeros(3, 4),)), tmp_path)
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path)
    assert "handed over in memory as a Linear" in caught.value.what
