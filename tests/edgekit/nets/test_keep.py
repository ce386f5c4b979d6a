"""Layers cut one at a time: what is left computes what it did of the channels that are left."""

import pytest
import torch
from torch import nn

from edgekit.errors import ModelError, ShapeError
from edgekit.nets.edits import Keep, KeepOfTensor, Resize, apply_edits


def x(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _kept(layer, side="out", indices=(0, 2)):
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return apply_edits(nn.Sequential(layer.eval()), [Keep(layer="0", side=side, indices=indices)])[0]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 3, 3), (2, 4, 6)),
        (nn.Conv3d(4, 3, 2), (2, 4, 3, 3, 3)),
        (nn.ConvTranspose2d(4, 3, 2, 2), (2, 4, 3, 3)),
    ],
)
def test_both_sides_of_convolutions(layer, shape):
    given = x(*shape)
    torch.testing.assert_close(_kept(layer)(given), layer(given)[:, [0, 2]])
    full = torch.zeros(shape)
    full[:, [1, 3]] = given[:, [1, 3]]
    cut = _kept(layer, "in", (1, 3))
    torch.testing.assert_close(cut(given[:, [1, 3]]), layer(full), rtol=1e-5, atol=1e-5)
    assert cut.in_channels == 2


def test_norms_of_channels_and_of_groups():
    given = x(3, 6, 5)
    batch = nn.BatchNorm1d(6)
    nn.init.uniform_(batch.running_var, 0.5, 2)
    nn.init.normal_(batch.running_mean)
    torch.testing.assert_close(_kept(batch)(given[:, [0, 2]]), batch(given)[:, [0, 2]])
    groups = nn.GroupNorm(3, 6)
    cut = _kept(groups, indices=(0, 1, 4, 5))
    torch.testing.assert_close(cut(given[:, [0, 1, 4, 5]]), groups(given)[:, [0, 1, 4, 5]])
    assert (cut.num_groups, cut.num_channels) == (2, 4)
    one = _kept(nn.GroupNorm(1, 6))
    assert (one.num_groups, one.num_channels) == (1, 2)
    with pytest.raises(ShapeError) as caught:
        _kept(nn.GroupNorm(3, 6), indices=(0, 1, 2))
    assert "whole groups of 2" in caught.value.what


@pytest.mark.parametrize("layer", [nn.LayerNorm(5), nn.RMSNorm(5), nn.LayerNorm(5, elementwise_affine=False)])
def test_norms_over_the_last_axis(layer):
    cut, given = _kept(layer, indices=(1, 3, 4)), x(2, 3, 3)
    weights = {name: getattr(layer, name) for name in ("weight", "bias") if getattr(layer, name, None) is not None}
    own = {name: tensor[[1, 3, 4]] for name, tensor in weights.items()}
    norm = nn.functional.rms_norm if isinstance(layer, nn.RMSNorm) else nn.functional.layer_norm
    torch.testing.assert_close(cut(given), norm(given, (3,), **own, eps=layer.eps))


def test_tables_and_slopes():
    table, words = nn.Embedding(4, 5), torch.tensor([[0, 3]])
    torch.testing.assert_close(_kept(table)(words), table(words)[..., [0, 2]])
    slopes = nn.PReLU(5)
    torch.testing.assert_close(_kept(slopes)(x(2, 5, 3)[:, [0, 2]]), slopes(x(2, 5, 3))[:, [0, 2]])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bias", [True, False])
def test_units_of_recurrent_layers(kind, bias):
    layer = kind(3, 4, 2, bias=bias, batch_first=True)
    cut = _kept(layer, indices=(1, 2))
    with torch.no_grad():
        for depth in range(2):  # nothing reads the others
            getattr(layer, f"weight_hh_l{depth}")[:, [0, 3]] = 0
        layer.weight_ih_l1[:, [0, 3]] = 0
    torch.testing.assert_close(cut(x(2, 6, 3))[0], layer(x(2, 6, 3))[0][..., [1, 2]], rtol=1e-5, atol=1e-5)
    read = _kept(layer, "in", (0, 2))
    given = x(2, 6, 3)
    given[..., 1] = 0
    torch.testing.assert_close(read(given[..., [0, 2]])[0], layer(given)[0], rtol=1e-5, atol=1e-5)
    assert (cut.hidden_size, read.input_size) == (2, 2)


@pytest.mark.parametrize(
    ("layer", "side", "said"),
    [
        (nn.LSTM(3, 4, bidirectional=True), "out", "in both directions"),
        (nn.ConvTranspose1d(4, 4, 2, groups=2), "out", "in groups"),
        (nn.LayerNorm((2, 3)), "out", "over 2 axes"),
        (nn.Embedding(4, 5), "in", "one set of channels"),
        (nn.ReLU(), "out", "has no channels"),
    ],
)
def test_what_cannot_be_cut_is_refused(layer, side, said):
    with pytest.raises(ModelError) as caught:
        apply_edits(nn.Sequential(layer), [Keep(layer="0", side=side, indices=(0,))])
    assert said in caught.value.what


class _Loose(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.arange(6.0).view(2, 3), requires_grad=False)
        self.register_buffer("shift", torch.arange(3.0))
        self.count, self.flag = 3, True


def test_tensors_of_their_own_and_numbers():
    network = _Loose()
    edits = [
        KeepOfTensor(tensor="scale", axis=1, indices=(0, 2)),
        KeepOfTensor(tensor="shift", axis=0, indices=(1,)),
        Resize(layer="", attribute="count", size=2),
    ]
    edited = apply_edits(network, edits)
    assert edited.scale.tolist() == [[0.0, 2.0], [3.0, 5.0]]
    assert not edited.scale.requires_grad
    assert edited.state_dict()["shift"].tolist() == [1.0]
    assert (edited.count, network.count) == (2, 3)


@pytest.mark.parametrize(
    ("edit", "kind", "said"),
    [
        (KeepOfTensor(tensor="scales", axis=0, indices=(0,)), ModelError, "no tensor is called 'scales'"),
        (KeepOfTensor(tensor="absent.scale", axis=0, indices=(0,)), ModelError, "no tensor is called 'absent.scale'"),
        (KeepOfTensor(tensor="scale", axis=2, indices=(0,)), ShapeError, "axis 2"),
        (KeepOfTensor(tensor="scale", axis=1, indices=(0, 3)), ShapeError, "for 3 channels"),
        (Resize(layer="", attribute="count", size=4), ModelError, "'count' is 3"),
        (Resize(layer="", attribute="flag", size=1), ModelError, "'flag' is True"),
        (Resize(layer="", attribute="forward", size=1), ModelError, "'forward' is None"),
    ],
)
def test_tensors_and_numbers_that_are_not_there_are_refused(edit, kind, said):
    with pytest.raises(kind) as caught:
        apply_edits(_Loose(), [edit])
    assert said in caught.value.what
