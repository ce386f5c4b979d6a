"""What stays in float by name, and ends of a network that no one grid fits."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.errors import PassError
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.nets.saved import state_bytes
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests.edgekit.formats.quantised import context


class Decode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 1)
        self.inner = nn.Sequential(nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.mix(x)).flatten(2) * 3 + 1


class Head(nn.Module):
    """Boxes of up to `size`, scores up to 1; apart, joined at the end, or joined before another layer."""

    def __init__(self, size: float, ends: str = "apart") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.boxes, self.scores = nn.Conv2d(2, 4, 3, 1, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1)
        self.decode = Decode()
        self.decoder_of_nothing = nn.Conv2d(7, 2, 1)
        self.size, self.ends = size, ends

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = F.relu(self.stem(x))
        if self.ends == "apart":
            return self.decode(self.boxes(x)), self.scores(x).flatten(2)
        boxes = torch.sigmoid(self.boxes(x)) * self.size
        if self.ends == "read too":
            return torch.cat([boxes.flatten(2), torch.sigmoid(self.scores(x)).flatten(2)], 1), self.decode.mix(boxes)
        joined = torch.cat([boxes, torch.sigmoid(self.scores(x))], 1)
        return joined.flatten(2).transpose(1, 2) if self.ends == "joined" else self.decoder_of_nothing(joined)


def quantised(network: nn.Module, **options: object) -> Model:
    source = ModelSource(factory="tests:head", inputs=(InputSpec(name="image", shape=(1, 2, 6, 6)),))
    model = Model(network.eval(), source, find_outputs(network, source))
    return quantize(model, QuantizeOptions.model_validate(options), context(model))


def kept(model: Model) -> set[str]:
    assert model.table is not None
    assert {row.number for row in model.table.kept.values()} <= {"float"}
    return set(model.table.kept)


DECODE = {"decode.mix/conv2d", "decode.inner.0/sigmoid", "decode/mul", "decode/add"}


@pytest.mark.parametrize("pattern", ["decode", "dec*e", "decode*", "deco??"])
def test_a_module_is_kept_with_all_that_it_holds(pattern: str):
    model = quantised(Head(1), keep_float=[pattern])
    assert kept(model) == DECODE  # what only moves values is none of it
    assert model.table is not None
    assert {row.reason for row in model.table.kept.values()} == {f"keep_float {pattern!r}"}
    assert set(model.table.weights) == {"stem.weight", "boxes.weight", "scores.weight"}
    assert state_bytes(model) == state_bytes(quantised(Head(1))) + 3 * 16 - 4 * 4  # 16 floats for codes and 4 scales


@pytest.mark.parametrize(
    ("pattern", "names"), [("decode.inner", {"decode.inner.0/sigmoid"}), ("decode/a*", {"decode/add"})]
)
def test_a_part_of_a_module_or_one_activation_is_kept(pattern: str, names: set[str]):
    assert kept(quantised(Head(1), keep_float=[pattern])) == names


def test_a_pattern_that_names_nothing_offers_the_nearest_module():
    with pytest.raises(PassError) as caught:
        quantised(Head(1), keep_float=["decode", "score"])
    assert "'score'" in caught.value.what
    assert caught.value.where == "step quantize, keep_float"
    assert "did you mean 'scores'" in caught.value.fix
    assert "decode.mix" in caught.value.fix


@pytest.mark.parametrize("options", [{"weights": "int4", "activations": "float"}, {"activations": "int16"}])
def test_it_is_kept_in_every_scheme(options: dict[str, str]):
    model = quantised(Head(1), keep_float=["decode"], **options)
    assert kept(model) >= DECODE
    assert model.table is not None
    assert "decode.mix.weight" not in model.table.weights


def test_halves_of_the_whole_network_keep_nothing():
    with pytest.raises(ValueError, match="halves"):
        QuantizeOptions(weights="fp16", activations="fp16", keep_float=("decode",))


def test_an_end_that_joins_unequal_ranges_is_kept_with_what_leads_to_it_alone():
    model = quantised(Head(64, "joined"))
    assert kept(model) == {"/cat", "/mul", "/sigmoid", "/sigmoid_1"}  # no layer with a weight
    assert model.table is not None
    reason = model.table.kept["/cat"].reason
    assert "/cat would put values of very different ranges on one grid: /mul [0, " in reason
    assert "/sigmoid_1 [0, " in reason


def test_what_another_layer_reads_too_is_not_kept():
    assert kept(quantised(Head(64, "read too"))) == {"/cat", "/sigmoid_1"}


def test_ranges_that_one_grid_fits_stay_together():
    # the scores have some 2 ** 8 codes, and would lose two bits of them to boxes four times as large
    assert kept(quantised(Head(2, "joined"))) == set()
    assert kept(quantised(Head(64, "apart"))) == set()


def test_a_join_that_integers_read_is_only_warned_of(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        assert kept(quantised(Head(64, "read"))) == set()
    (record,) = caplog.records
    assert "/cat puts values of very different ranges on one grid" in record.getMessage()
