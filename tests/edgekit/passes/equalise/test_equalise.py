"""The pass: what it promises of the network, and what it refuses."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.passes.equalise import regions
from edgekit.passes.equalise.equalise import METHODS, equalise
from edgekit.passes.quantize.quantize import quantize
from edgekit.passes.table import PASSES
from edgekit.schema.passes import EqualiseOptions, QuantizeOptions
from tests import nets
from tests.edgekit.formats.quantised import context
from tests.edgekit.passes.equalise.networks import Block, Meetings, Pair, model_of, task_of

EVERY_EXACT = ("cross_layer", "smooth", "awq", "hadamard")


def _options(**given):
    return EqualiseOptions(**{"samples": 8, "group_size": 4, **given})


@pytest.mark.parametrize(
    "make",
    [
        lambda: nets.model(nets.TINY_CONV),
        lambda: nets.model(nets.TINY_RESIDUAL),
        lambda: nets.model(nets.TINY_REPVGG),
        lambda: model_of(Meetings(), (1, 1, 8, 8)),
        lambda: model_of(Block(), (1, 4, 4)),
    ],
)
def test_all_exact_methods_one_after_the_other_keep_the_function_and_the_given_model(make):
    model = make()
    weights = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    equal = equalise(model, _options(methods=EVERY_EXACT), context(model))
    (x,) = model.example(5, seed=9)
    with torch.no_grad():
        torch.testing.assert_close(equal.network(x), model.network(x), rtol=1e-4, atol=1e-4)
    assert equal.history == ("reparam", "equalise")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in equal.network.modules())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.network.state_dict().items())
    old = {tuple(tensor.shape): tensor for tensor in weights.values()}
    assert any(not torch.equal(t, old.get(tuple(t.shape), t)) for t in equal.network.state_dict().values())


def test_an_equalised_network_is_quantised_like_any_other():
    model = nets.model(nets.TINY_RESIDUAL)
    surroundings = context(model)
    done = quantize(equalise(model, _options(), surroundings), QuantizeOptions(), surroundings)
    assert done.table is not None
    assert set(done.table.weights) == {"stem.weight", "conv1.weight", "conv2.weight", "linear.weight"}
    assert done.history == ("reparam", "equalise", "quantize")


def test_a_rewrite_that_forgets_a_term_is_refused_with_the_error_and_the_activation(monkeypatch):
    right = regions.scaled

    def forgets_biases(tensors, sites, factors):
        return right(tensors, [site for site in sites if site.role != "offset"], factors)

    monkeypatch.setattr("edgekit.passes.equalise.cross_layer.scaled", forgets_biases)
    model = model_of(Pair(), (1, 5))
    with pytest.raises(PassError) as error:
        equalise(model, _options(methods=("cross_layer",)), context(model))
    assert "first/linear" in error.value.where
    assert "cross_layer" in error.value.where
    assert "torch.float64" in error.value.what


def test_float32_rounding_beyond_the_tolerance_is_refused():
    model = model_of(Block(), (1, 4, 4))
    with pytest.raises(PassError) as error:
        equalise(model, _options(methods=("hadamard",), tolerance=1e-12), context(model))
    assert "torch.float32" in error.value.what
    assert "step equalise" in error.value.where


def test_scales_beyond_float32_are_refused():
    model = model_of(Pair("none"), (1, 5))
    with torch.no_grad():
        model.network.first.weight *= 1e-8
        model.network.first.bias *= 1e35  # times the root of 1e2 / 1e-8 it is too much
        model.network.second.weight *= 1e2
    with pytest.raises(PassError) as error:
        equalise(model, _options(methods=("cross_layer",)), context(model))
    assert "first.bias" in error.value.what


def test_what_is_left_is_logged_with_its_reason(caplog):
    model = model_of(Block(activation="gelu"), (1, 4, 4))
    with caplog.at_level(logging.INFO):
        equalise(model, _options(methods=("smooth", "hadamard")), context(model))
    assert any("smooth leaves up/linear" in line and "gelu" in line for line in caplog.messages)
    assert any("hadamard leaves up/linear" in line and "gelu" in line for line in caplog.messages)


def test_a_function_that_is_kept_on_samples_only_says_so_in_the_history():
    model = model_of(Pair(), (1, 5))
    with torch.no_grad():
        model.network.first.bias += 20
    done = equalise(model, _options(methods=("absorb_bias",), samples=40), context(model))
    assert done.history == ("reparam", "equalise, exact on calibration samples only")


@pytest.mark.parametrize("method", ["smooth", "awq", "absorb_bias"])
def test_methods_that_need_samples_say_so(method):
    model = model_of(Pair(), (1, 5))
    surroundings = context(model)
    empty = Samples((torch.zeros(0, 5),), torch.zeros(0, dtype=torch.int64))
    bare = replace(surroundings, splits=replace(surroundings.splits, calibration=empty))
    task, tensors = task_of(model)
    with pytest.raises(PassError) as error:
        METHODS[method](replace(task, context=bare), tensors)
    assert error.value.what == "the calibration split is empty"


def test_every_method_of_the_options_is_built():
    (field,) = (EqualiseOptions.model_fields["methods"],)
    named = field.annotation.__args__[0].__args__
    assert set(named) == set(METHODS)
    assert PASSES["equalise"].options is EqualiseOptions
