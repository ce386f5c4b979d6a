"""Which network a variant is made of."""

from edgekit.pipeline.artifacts import _as
from edgekit.schema.recipe import Export
from tests import nets
from tests.edgekit.formats.quantised import quantised


def test_a_variant_in_halves_is_made_of_the_float_network_whatever_the_table_says():
    model = quantised(nets.TINY_CONV, weights="int4")
    half = _as(model, "fp16", Export())
    assert half.table is not None
    assert half.table.activations == "fp16"
    wanted = model.network.linear.weight.half().float()  # type: ignore[union-attr, operator]
    assert half.table.weights["linear.weight"].values().equal(wanted)
    assert half.table.kept == {}


def test_a_model_quantised_to_halves_keeps_its_own_table():
    model = quantised(nets.TINY_CONV, weights="fp16", activations="fp16")
    assert _as(model, "fp16", Export()).table is model.table
    assert _as(model, "fp32", Export()).table is None
