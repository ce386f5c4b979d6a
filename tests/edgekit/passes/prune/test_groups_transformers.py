"""Networks of the transformers library: their heads, hidden channels and state spaces are found and can go."""

import copy

import pytest
import torch
from torch import nn

from edgekit.nets.edits import apply_edits
from edgekit.nets.model import Model
from edgekit.passes.prune.cut import keep_edits
from edgekit.passes.prune.groups import find_groups
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 10, "num_labels": 2}
WORDS = InputSpec(name="x", shape=(1, 6), dtype="int64", layout="NT")


class Answer(nn.Module):
    """The tensor that a network of the library answers with."""

    def __init__(self, network, name="logits", **options):
        super().__init__()
        self.network, self.name, self.options = network, name, options

    def forward(self, x):
        return self.network(x, **self.options)[self.name]


class LastState(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.states, self.fc = Answer(network, "last_hidden_state", use_cache=False), nn.Linear(8, 2)

    def forward(self, x):
        return self.fc(self.states(x)[:, -1])


def _bert():
    config = transformers.BertConfig(vocab_size=7, max_position_embeddings=8, **SMALL)
    return Answer(transformers.BertForSequenceClassification(config))


def _vit():
    return Answer(transformers.ViTForImageClassification(transformers.ViTConfig(image_size=8, patch_size=4, **SMALL)))


def _mamba():
    config = transformers.MambaConfig(
        vocab_size=7, hidden_size=8, state_size=4, num_hidden_layers=1, intermediate_size=10, time_step_rank=2
    )
    return LastState(transformers.MambaModel(config))


BERT, VIT, MAMBA = "network.bert.encoder.layer.0", "network.vit", "states.network.layers.0.mixer"


@pytest.mark.parametrize(
    ("factory", "spec", "exact", "others", "resized"),
    [
        (
            _bert,
            WORDS,
            {
                f"{BERT}.attention.self.query": (3, 4),
                f"{BERT}.intermediate.dense": (10, 1),
                "network.bert.pooler.dense": (12, 1),
            },
            {"network.bert.embeddings.word_embeddings": (12, 1)},
            {"num_attention_heads": 2, "all_head_size": 8},
        ),
        (
            _vit,
            InputSpec(name="x", shape=(1, 3, 8, 8)),
            {f"{VIT}.layers.0.attention.q_proj": (3, 4), f"{VIT}.layers.0.mlp.fc1": (10, 1)},
            {f"{VIT}.embeddings.patch_embeddings.projection": (12, 1)},
            {"num_attention_heads": 2},
        ),
        (
            _mamba,
            WORDS,
            {f"{MAMBA}.in_proj": (10, 1), f"{MAMBA}.x_proj": (2, 1)},
            {"states.network.embeddings": (8, 1)},
            {"intermediate_size": 9, "time_step_rank": 1},
        ),
    ],
    ids=["bert", "vit", "mamba"],
)
def test_what_goes_answers_as_if_nothing_read_it(factory, spec, exact, others, resized):
    torch.manual_seed(0)
    model = Model(factory().eval(), ModelSource(factory="tests:made", inputs=(spec,)), ())
    found = find_groups(model)
    assert {group.root: (group.width, group.unit_size) for group in found.groups if group.exact} == exact
    assert {group.root: (group.width, group.unit_size) for group in found.groups if not group.exact} == others
    groups = [group for group in found.groups if group.exact]
    edits = keep_edits(model, groups, {group.root: (1,) for group in groups})
    assert {edit.attribute: edit.size for edit in edits if edit.kind == "resize"} == resized
    silenced = copy.deepcopy(model.network)
    for group in groups:
        for member in group.members:
            if member.side == "in":
                weight = silenced.get_submodule(member.layer).weight
                with torch.no_grad():
                    weight.index_fill_(member.axis, torch.tensor(member.channels[1]), 0)
    cut, inputs = apply_edits(model.network, edits), model.example(2, seed=1)
    with torch.no_grad():
        made, expected, before = (network(*inputs) for network in (cut, silenced, model.network))
    assert not torch.equal(expected, before)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert cut(*model.example(1)).shape == (1, 2)
