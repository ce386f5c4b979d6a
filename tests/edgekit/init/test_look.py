"""What is looked at in a process of its own, looked at here."""

import sys

import numpy as np
import pytest

from edgekit.errors import DataError, ModelError
from edgekit.init.facts import Question
from edgekit.init.look import look

NET = """
import numpy as np
import torch
from torch import nn


class LastIsChannel(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x).mean((1, 2))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.layer = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, tokens, offset):
        return {"logits": self.layer(self.table(tokens).mean(1) + offset), "offset": offset}


def conv():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 2))


def broken():
    raise RuntimeError("no weights today")


def pairs():
    tokens, offset = np.zeros((12, 5), np.int64), np.ones((12, 4), np.float32)
    return {name: ((tokens, offset), np.arange(12) % 3) for name in ("calibration", "test")}
"""


@pytest.fixture
def npz(tmp_path, monkeypatch):
    (tmp_path / "looked_at.py").write_text(NET)
    monkeypatch.chdir(tmp_path)

    def save(**arrays):
        np.savez("d.npz", **arrays)
        parts = {"all": list(arrays)}
        return {"loader": "npz", "arguments": {"path": "d.npz", "parts": parts}}

    yield save
    sys.modules.pop("looked_at", None)


def test_a_network_that_takes_channels_last_is_found_to(npz):
    data = npz(x=np.full((12, 5, 4, 3), 7, np.uint8), y=np.repeat([0, 1], 6))
    answer = look(Question(**data, factory="looked_at:LastIsChannel"))
    (spec,) = answer.network.inputs
    assert (spec.name, spec.shape, spec.layout) == ("image", (1, 5, 4, 3), "NHWC")
    assert (answer.network.way.raw_layout, answer.network.way.layout) == ("NHWC", "NHWC")
    assert answer.network.outputs == {"output": (1, 2)}
    assert answer.network.parameters == 8
    (part,) = answer.parts
    assert (part.count, part.inputs[0].high, part.labels.kind, part.labels.in_order) == (12, 7.0, "classes", True)


def test_two_inputs_are_named_by_the_network_and_tokens_stay_integers(npz):
    answer = look(Question(data="looked_at:pairs", factory="looked_at:Two"))
    assert [(spec.name, spec.shape, spec.dtype) for spec in answer.network.inputs] == [
        ("tokens", (1, 5), "int64"),
        ("offset", (1, 4), "float32"),
    ]
    assert [part.name for part in answer.parts] == ["calibration", "test"]


def test_images_of_another_size_are_resized_where_the_shape_is_told(npz):
    data = npz(x=np.zeros((12, 9, 7, 3), np.uint8), y=np.zeros(12, np.int64))
    answer = look(Question(**data, factory="looked_at:conv", shapes=((1, 3, 6, 6),)))
    assert answer.network.way.resize == (6, 6)
    assert answer.network.inputs[0].shape == (1, 3, 6, 6)


def test_what_cannot_be_looked_at_says_so(npz):
    data = npz(x=np.zeros((12, 5, 5, 3), np.uint8), y=np.zeros(12, np.int64))
    with pytest.raises(ModelError, match="no weights today"):
        look(Question(**data, factory="looked_at:broken"))
    with pytest.raises(ModelError) as caught:
        look(Question(**data, factory="looked_at:Two"))
    assert "tried as (1, 3, 5, 5), (1, 5, 5, 3)" in caught.value.what
    with pytest.raises(DataError, match="NaN or infinite"):
        look(Question(**npz(x=np.full((12, 3), np.nan), y=np.zeros(12, np.int64)), factory="looked_at:conv"))
    with pytest.raises(DataError, match="no array"):
        look(
            Question(loader="npz", arguments={"path": "d.npz", "parts": {"all": ["a", "b"]}}, factory="looked_at:conv")
        )
