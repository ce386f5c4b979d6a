import pytest
import torch
from torch import nn

from edgekit.nets.cifar_resnet import resnet20
from edgekit.nets.count import count_macs, count_params
from edgekit.nets.model import Model
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets


@pytest.mark.parametrize("counted", nets.COUNTED, ids=lambda counted: counted.factory)
def test_counts_are_those_made_by_hand(counted):
    model = nets.model(counted)
    assert count_params(model.network) == counted.params
    assert count_macs(model) == counted.macs


def test_a_transposed_convolution_counts_every_input_against_its_kernels():
    network = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)
    source = ModelSource(factory="torch.nn:ConvTranspose2d", inputs=(InputSpec(name="x", shape=(1, 4, 5, 5)),))
    assert count_macs(Model(network, source, ())) == 4 * 25 * 3 * 9


def test_resnet20_against_torch_pruning():
    utils = pytest.importorskip("torch_pruning.utils")
    network = resnet20().eval()
    source = ModelSource(
        factory="edgekit.nets.cifar_resnet:resnet20", inputs=(InputSpec(name="x", shape=(1, 3, 32, 32)),)
    )
    model = Model(network, source, ())
    witness_ops, witness_params = utils.count_ops_and_params(network, model.example()[0])
    # torch-pruning also counts two operations a value for every batch norm, and the bias of the linear layer
    norms = 2 * (7 * 16 * 32 * 32 + 6 * 32 * 16 * 16 + 6 * 64 * 8 * 8)
    assert count_params(network) == witness_params
    assert count_macs(model) == witness_ops - norms - 10


def test_counting_leaves_the_network_as_it_was():
    model = nets.model(nets.TINY_CONV)
    model.network.train()
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    count_macs(model)
    assert model.network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())
    assert not any(module._forward_hooks for module in model.network.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_recurrent_network_counts_over_its_sequence_but_for_states_of_zeros():
    # a step: 4 gates of 5 units from 3 inputs, and from 5 units behind the first; then 4 classes
    assert count_macs(nets.recurrent("lstm", steps=4)) == 4 * 20 * 3 + 3 * 20 * 5 + 4 * 5
    assert count_macs(nets.recurrent("gru", steps=4)) == 4 * 15 * 3 + 3 * 15 * 5 + 4 * 5


class _Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.lstm = nn.LSTM(8, 5, 2, batch_first=True)
        self.gru = nn.GRU(5, 6, batch_first=True)

    def forward(self, x):
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.gru(self.lstm(x)[0])[0][:, -1]


def test_attention_and_recurrent_layers_count_by_hand():
    source = ModelSource(factory="tests:made", inputs=(InputSpec(name="x", shape=(1, 7, 8), layout="NTC"),))
    attention = 7 * 8 * 24 + 2 * 7 * 7 * 8 + 7 * 8 * 8  # inputs, both products of 2 heads of 4, output
    lstm = 7 * 20 * (8 + 5) + 7 * 20 * (5 + 5)
    gru = 7 * 18 * (5 + 6)
    assert count_macs(Model(_Attentive().eval(), source, ())) == attention + lstm + gru
    by_hand = Model(_Products(), source, ())
    assert count_macs(by_hand) == 2 * 7 * 7 * 8


class _Products(nn.Module):
    """Attention as two products of activations."""

    def forward(self, x):
        return (x @ x.transpose(1, 2)).softmax(-1) @ x


def test_a_module_that_is_handed_a_weight_of_another_is_counted():
    class Product(nn.Module):
        def forward(self, x, weight):
            return x @ weight

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.product = nn.Parameter(torch.ones(3, 5)), Product()

        def forward(self, x):
            return self.product(x, self.weight)

    network = Network()
    source = ModelSource(factory="tests:network", inputs=(InputSpec(name="x", shape=(1, 3)),))
    assert count_macs(Model(network, source, ())) == 15
    assert network.weight.requires_grad
