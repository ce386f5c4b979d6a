import pytest
import torch
from torch import nn

from edgekit.errors import ModelError
from edgekit.nets.edits import Keep, Open, apply_edits
from edgekit.nets.multihead import Attention

WIDTH, HEADS, LENGTH, SEEN = 12, 3, 5, 7


def _layer(**given):
    torch.manual_seed(2)
    layer = nn.MultiheadAttention(WIDTH, HEADS, **given).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.5)  # biases begin as zeros
    return layer


def _tensors(layer, batch=2):
    draw = torch.Generator().manual_seed(1)
    shapes = ((LENGTH, WIDTH), (SEEN, layer.kdim), (SEEN, layer.vdim))
    made = [torch.randn(batch, *shape, generator=draw) for shape in shapes]
    return made if layer.batch_first else [x.transpose(0, 1) for x in made]


CAUSAL = torch.ones(LENGTH, SEEN).triu(3).bool()
PADDING = torch.tensor([[False] * 6 + [True], [False] * 4 + [True] * 3])


@pytest.mark.parametrize("layer", [{"batch_first": True}, {}, {"bias": False}, {"kdim": 4, "vdim": 6}], ids=str)
@pytest.mark.parametrize(
    "call",
    [
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"attn_mask": CAUSAL, "need_weights": False},
        {"attn_mask": torch.rand(2 * HEADS, LENGTH, SEEN, generator=torch.Generator().manual_seed(0))},
        {"key_padding_mask": PADDING},
        {"key_padding_mask": PADDING, "attn_mask": CAUSAL, "need_weights": False},
    ],
    ids=lambda call: "+".join(call) or "plain",
)
def test_it_gives_what_the_layer_gave(layer, call):
    old = _layer(**layer)
    new = Attention.of(old)
    assert new.num_heads == HEADS
    with torch.no_grad():
        made, expected = new(*_tensors(old), **call), old(*_tensors(old), **call)
    for one, other in zip(made, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_sequence_by_itself_and_a_causal_hint():
    old = _layer(batch_first=True)
    new = Attention.of(old)
    x = torch.randn(LENGTH, WIDTH)
    mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
    given = {"attn_mask": mask, "is_causal": True, "need_weights": False}
    with torch.no_grad():
        torch.testing.assert_close(new(x, x, x), old(x, x, x))
        torch.testing.assert_close(
            new(x[None], x[None], x[None], **given)[0], old(x[None], x[None], x[None], **given)[0]
        )


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_transformer_layer_answers_the_same_with_it_and_with_fewer_heads(norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True, norm_first=norm_first)
    network = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    x, padding = torch.randn(2, LENGTH, WIDTH), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    opened = apply_edits(network, [Open(layer="layers.0.self_attn")])
    with torch.no_grad():
        torch.testing.assert_close(opened(x), network(x), rtol=1e-5, atol=1e-5)
        kept = ~padding  # what the layer makes of padding is nobody's
        made, expected = (one(x, src_key_padding_mask=padding)[kept] for one in (opened, network))
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    left = tuple(range(4, 12))
    sides = {"q_proj": "out", "k_proj": "out", "v_proj": "out", "out_proj": "in"}
    edits = [Keep(layer=f"layers.0.self_attn.{name}", side=side, indices=left) for name, side in sides.items()]
    cut = apply_edits(opened, edits)
    with torch.no_grad():
        opened.layers[0].self_attn.out_proj.weight[:, :4] = 0
        torch.testing.assert_close(cut(x), opened(x), rtol=1e-5, atol=1e-5)
    assert cut.layers[0].self_attn.num_heads == 2


def test_keys_of_its_own_and_other_layers_are_refused():
    with pytest.raises(ModelError) as caught:
        Attention.of(_layer(add_bias_kv=True))
    assert "add_bias_kv" in caught.value.what
    with pytest.raises(ModelError) as caught:
        apply_edits(nn.Sequential(nn.Linear(2, 2)), [Open(layer="0")])
    assert caught.value.where == "edits, open 0"
