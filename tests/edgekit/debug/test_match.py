import numpy as np
import pytest

from edgekit.debug.layers import INPUT, Layer, Weight
from edgekit.debug.match import match
from edgekit.errors import DataError


def _layer(name: str, kind: str, *sources: str, tensor: str = "", weight: np.ndarray | None = None) -> Layer:
    stored = None if weight is None else Weight(weight.astype(np.float32), np.zeros(1))
    return Layer(name, tensor or name, kind, sources, weight=stored)


def _input(name: str = "x") -> Layer:
    return Layer(f"input:{name}", name, INPUT, (), shape=(1, 4))


def _values(layers: tuple[Layer, ...], shape: tuple[int, ...] = (1, 4)) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {layer.name: generator.normal(size=shape).astype(np.float32) for layer in layers}


def _names(matched) -> list[tuple[str, str]]:
    return [(pair.reference.name, pair.candidate.name) for pair in matched.pairs]


def test_tensor_names_decide_where_they_agree():
    ours = (_input(), _layer("a", "add", "input:x", tensor="t1"), _layer("b", "add", "a", tensor="t2"))
    theirs = (
        _input(),
        _layer("extra", "add", "input:x", tensor="t0"),
        _layer("p", "add", "extra", tensor="t1"),
        _layer("q", "add", "p", tensor="t2"),
    )
    matched = match(ours, theirs, _values(ours), _values(theirs))
    assert _names(matched) == [("input:x", "input:x"), ("a", "p"), ("b", "q")]
    assert matched.how == "2 by tensor name"
    assert [layer.name for layer in matched.candidate_only] == ["extra"]


def test_without_names_order_kind_and_shape_decide_and_a_layer_more_is_left_over():
    ours = (_input(), _layer("a", "conv", "input:x"), _layer("b", "gelu", "a"), _layer("c", "conv", "b"))
    theirs = (
        _input(),
        _layer("1", "conv", "input:x"),
        _layer("2", "erf", "1"),
        _layer("3", "mul", "1", "2"),
        _layer("4", "conv", "3"),
    )
    matched = match(ours, theirs, _values(ours), _values(theirs))
    assert _names(matched)[1:] == [("a", "1"), ("c", "4")]
    assert matched.how == "2 by order, kind and shape"
    assert [layer.name for layer in matched.reference_only] == ["b"]
    assert [layer.name for layer in matched.candidate_only] == ["2", "3"]


def test_weights_tell_branches_of_one_shape_apart():
    generator = np.random.default_rng(1)
    query, key = generator.normal(size=(2, 4, 4))
    ours = (_input(), _layer("q", "linear", "input:x", weight=query), _layer("k", "linear", "input:x", weight=key))
    theirs = (_input(), _layer("1", "linear", "input:x", weight=key), _layer("2", "linear", "input:x", weight=query))
    matched = match(ours, theirs, _values(ours), _values(theirs))
    assert set(_names(matched)[1:]) == {("q", "2"), ("k", "1")}


def test_a_weight_of_another_shape_is_another_layer():
    ours = (_input(), _layer("a", "linear", "input:x", weight=np.ones((4, 4))), _layer("b", "relu", "a"))
    theirs = (_input(), _layer("1", "linear", "input:x", weight=np.ones((4, 2))), _layer("2", "relu", "1"))
    assert _names(match(ours, theirs, _values(ours), _values(theirs)))[1:] == [("b", "2")]


def test_what_is_read_tells_an_addition_apart_from_one_before_it():
    ours = (_input(), _layer("c", "conv", "input:x"), _layer("d", "conv", "c"), _layer("a", "add", "c", "d"))
    theirs = (
        _input(),
        _layer("1", "conv", "input:x"),
        _layer("norm", "add", "1", "input:x"),
        _layer("2", "conv", "1"),
        _layer("3", "add", "1", "2"),
    )
    assert ("a", "3") in _names(match(ours, theirs, _values(ours), _values(theirs)))


def test_layers_in_another_order_are_paired_by_what_they_read():
    one, two = np.ones((4, 4)), np.ones((4, 3))
    ours = (_input(), _layer("a", "conv", "input:x", weight=one), _layer("b", "conv", "input:x", weight=two))
    theirs = (_input(), _layer("1", "conv", "input:x", weight=two), _layer("2", "conv", "input:x", weight=one))
    assert set(_names(match(ours, theirs, _values(ours), _values(theirs)))[1:]) == {("a", "2"), ("b", "1")}


def test_layers_in_another_order_are_paired_by_their_weights_where_they_read_the_same():
    weights = dict(zip("abcd", np.random.default_rng(0).standard_normal((4, 4, 4)), strict=True))
    ours = (_input(), *(_layer(name, "linear", "input:x", weight=weights[name]) for name in "abcd"))
    theirs = (_input(), *(_layer(name.upper(), "linear", "input:x", weight=weights[name]) for name in "cdab"))
    found = _names(match(ours, theirs, _values(ours), _values(theirs)))[1:]
    assert set(found) == {("a", "A"), ("b", "B"), ("c", "C"), ("d", "D")}


def test_channels_last_is_turned_and_turned_back():
    ours, theirs = (_input(), _layer("a", "conv", "input:x")), (_input(), _layer("1", "conv", "input:x"))
    values = np.arange(2 * 3 * 4, dtype=np.float32).reshape(1, 2, 3, 4)
    found, own = _values(ours), _values(theirs)
    found["a"], own["1"] = values, values.transpose(0, 2, 3, 1)
    pair = match(ours, theirs, found, own).pairs[1]
    np.testing.assert_array_equal(pair.to_reference(own["1"]), values)
    np.testing.assert_array_equal(pair.to_candidate(values), own["1"])


def test_axes_of_size_one_do_not_count():
    ours, theirs = (_input(), _layer("a", "averagepool", "input:x")), (_input(), _layer("1", "averagepool", "input:x"))
    found, own = _values(ours), _values(theirs)
    found["a"], own["1"] = np.ones((2, 5, 1, 1), np.float32), np.ones((2, 5), np.float32)
    pair = match(ours, theirs, found, own).pairs[1]
    assert pair.to_reference(own["1"]).shape == (2, 5, 1, 1)
    assert pair.to_candidate(found["a"]).shape == (2, 5)


def test_inputs_are_paired_by_name_else_in_their_order():
    a, b = _input("a"), _input("b")
    layer = _layer("y", "add", "input:a", "input:b")
    named = match((a, b, layer), (b, a, layer), _values((a, b, layer)), _values((a, b, layer)))
    assert _names(named)[:2] == [("input:a", "input:a"), ("input:b", "input:b")]
    p, q = _input("p"), _input("q")
    other = _layer("y", "add", "input:p", "input:q")
    ordered = match((a, b, layer), (p, q, other), _values((a, b, layer)), _values((p, q, other)))
    assert _names(ordered)[:2] == [("input:a", "input:p"), ("input:b", "input:q")]


def test_two_networks_that_are_not_alike_are_refused():
    ours, theirs = (_input(), _layer("a", "conv", "input:x")), (_input(), _layer("1", "softmax", "input:x"))
    with pytest.raises(DataError) as caught:
        match(ours, theirs, _values(ours), _values(theirs))
    assert caught.value.what == "no layer of one is like any of the other in kind and shape"
    two = (_input("a"), _input("b"), *theirs[1:])
    with pytest.raises(DataError) as caught:
        match(ours, two, _values(ours), _values(two))
    assert caught.value.what == "one takes 1 inputs, the other 2"


def test_an_input_of_another_shape_is_refused():
    ours = (_input(), _layer("a", "conv", "input:x"))
    found, own = _values(ours), _values(ours)
    own["input:x"] = np.ones((1, 9), np.float32)
    with pytest.raises(DataError) as caught:
        match(ours, ours, found, own)
    assert caught.value.what == "input 'x' is (4,) on one side and (9,) on the other"
