from edgekit.nets.quantisation import EdgeRange, QuantisationTable
from edgekit.passes.quantize.recurrent import keep_accumulators
from tests import nets

EDGES = {"input:x": EdgeRange(-1.0, 1.0, 2 / 255, 0)}


def test_what_makes_and_reads_the_cell_state_of_an_lstm_stays_in_float():
    table = keep_accumulators(nets.recurrent("lstm", steps=2), QuantisationTable(EDGES, {}))
    # f * c, i * g, their sum, and tanh(c); o * tanh(c) is the other state, and rounded
    assert set(table.kept) == {"lstm/mul", "lstm/mul_1", "lstm/add_1", "lstm/tanh_1"}
    assert {kept.number for kept in table.kept.values()} == {"float"}
    assert all("state c" in kept.reason for kept in table.kept.values())


def test_a_state_that_is_a_mean_of_itself_and_what_is_new_is_rounded():
    table = QuantisationTable(EDGES, {})
    assert keep_accumulators(nets.recurrent("gru", steps=2), table).kept == {}


def test_sixteen_bits_and_float_activations_are_enough():
    for table in (QuantisationTable(EDGES, {}, activations="int16"), QuantisationTable({}, {}, activations="float")):
        assert keep_accumulators(nets.recurrent("lstm", steps=2), table) is table
    assert keep_accumulators(nets.model(nets.TINY_CONV), QuantisationTable(EDGES, {})).kept == {}
