import pytest
import torch
from torch import nn

from edgekit.errors import ModelError
from edgekit.nets.pt2.operators import find_operator
from edgekit.nets.pt2.read import read_exported


class Attention(nn.Module):
    """As vision transformers write it: sizes of the batch stand in views, in a token and in a permuted view."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.ones(1, 1, 8))
        self.inputs, self.head = nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x):
        batch, tokens, width = x.shape
        x = torch.cat([self.token.expand(batch, -1, -1), x], 1)
        q, k, v = self.inputs(x).reshape(batch, tokens + 1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        x = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens + 1, width)
        return self.head(x[:, 0])


class Recurrent(nn.Module):
    """First states of zeros have the batch in the middle."""

    def __init__(self, kind):
        super().__init__()
        self.cell = kind(4, 6, num_layers=2, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class OverTheBatch(nn.Module):
    def forward(self, x):
        return x - x.mean(0, keepdim=True)


class Folded(nn.Module):
    """The batch within another axis: which of the two sizes it belongs to cannot be told from one batch."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0][:, 0]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("make", [Attention, lambda: Recurrent(nn.LSTM), lambda: Recurrent(nn.GRU)])
@pytest.mark.filterwarnings("ignore:The tensor attribute")
def test_sizes_of_one_batch_follow_the_batch(saved, make, batch):
    torch.manual_seed(0)
    network = make().eval()
    width = 8 if isinstance(network, Attention) else 4
    path = saved(network, torch.randn(batch, 5, width), dynamic=False)
    read = read_exported(path, "model.pt2")
    x = torch.randn(7, 5, width)
    torch.testing.assert_close(read(x), network(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [OverTheBatch, Folded])
def test_what_cannot_follow_is_refused_with_the_line_that_frees_it(saved, make):
    path = saved(make(), torch.randn(2, 5, 8), dynamic=False)
    with pytest.raises(ModelError) as caught:
        read_exported(path, "model.pt2")
    assert "at the batch alone" in caught.value.what
    assert "dynamic_shapes={'x': {0: torch.export.Dim('batch')}}" in caught.value.fix


def test_what_was_exported_with_a_free_batch_needs_nothing(saved):
    network = Folded().eval()
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(read_exported(saved(network, x[:2]), "model.pt2")(x), network(x))


@pytest.mark.parametrize("gates", [4, 3])
def test_a_recurrent_layer_whose_sizes_do_not_fit_is_not_run(gates):
    function = find_operator(f"torch.ops.aten.{'lstm' if gates == 4 else 'gru'}.input")
    weights = [torch.zeros(gates * 6, 4), torch.zeros(gates * 6, 6), torch.zeros(gates * 6), torch.zeros(gates * 6)]
    options = (True, 1, 0.0, False, False, True)

    def run(batch, weights):
        state = torch.zeros(1, batch, 6)
        return function(torch.zeros(3, 5, 4), (state, state) if gates == 4 else state, weights, *options)

    assert run(3, weights)[0].shape == (3, 5, 6)
    with pytest.raises(ValueError, match=r"a state .* \(1, 2, 6\) instead of \(1, 3, 6\)"):
        run(2, weights)
    with pytest.raises(ValueError, match="a weight"):
        run(3, [weights[0], torch.zeros(gates * 6, 5), *weights[2:]])
    with pytest.raises(ValueError, match="3 weights"):
        run(3, weights[:3])
