import pytest
import torch
from torch import nn

from edgekit.errors import ModelError
from edgekit.nets.fit import check_finite, load_state
from edgekit.schema.recipe import Checkpoint
from tests import nets

FILE = Checkpoint(path="w.pth")


def refused(state, network=None):
    with pytest.raises(ModelError) as caught:
        load_state(nets.tiny_conv() if network is None else network, state, FILE)
    assert caught.value.where == "model.checkpoint: w.pth"
    return caught.value


def renamed(rename):
    return {rename(name): tensor for name, tensor in nets.tiny_conv().state_dict().items()}


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_a_prefix_that_the_file_has_is_named(prefix):
    state = renamed(lambda name: prefix + name) | {"epoch": torch.zeros(1)}
    error = refused(state)
    assert error.fix == f"set strip_prefix: {prefix!r}"
    assert f"missing: {next(iter(nets.tiny_conv().state_dict()))}" in error.what
    assert "perhaps" not in error.what  # one line says it for all of them


def test_a_prefix_that_the_network_has_is_named():
    wrapped = nn.ModuleDict({"backbone": nets.tiny_conv()})
    assert "'backbone.'" in refused(nets.tiny_conv().state_dict(), wrapped).fix


def test_names_that_resemble_each_other_are_paired_where_the_shape_is_the_same():
    state = renamed(lambda name: name.replace("pointwise", "point_wise"))
    error = refused(state)
    assert "pointwise.weight by point_wise.weight" in error.what
    assert "pointwise.bias by point_wise.bias" in error.what
    state["point_wise.bias"] = torch.zeros(99)
    assert "pointwise.bias by" not in refused(state).what


def test_the_first_of_many_tensors_of_another_shape_is_named_with_both_shapes():
    wide, narrow = nets.tiny_conv(width=8), nets.tiny_conv()
    first = next(name for name, tensor in narrow.state_dict().items() if tensor.dim())
    own, given = (tuple(net.state_dict()[first].shape) for net in (narrow, wide))
    error = refused(wide.state_dict())
    assert f"of another shape: {first} {given} instead of {own}, " in error.what
    assert error.fix == "give the factory the arguments that the file was trained with"


def test_many_names_are_counted_and_the_first_shown():
    error = refused({})
    count = len([name for name in nets.tiny_conv().state_dict() if "tracked" not in name])
    assert f"{count} missing: " in error.what
    assert error.what.endswith(f" and {count - 5} more")


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "NaN"), (-float("inf"), "infinite")])
@pytest.mark.parametrize("name", ["pointwise.weight", "norm.running_var"])
def test_weights_that_are_not_finite_name_tensor_and_layer(name, value, said):
    network = nets.tiny_conv()
    check_finite(network, "model.checkpoint: w.pth")
    tensor = network.state_dict()[name]
    tensor.view(-1)[1:3] = value
    with pytest.raises(ModelError) as caught:
        check_finite(network, "model.checkpoint: w.pth")
    assert caught.value.what == f"2 of the {tensor.numel()} numbers of {name} are {said}"
    kind = {"pointwise": "Conv2d", "norm": "BatchNorm2d"}[name.split(".")[0]]
    assert caught.value.where == f"layer {name.split('.')[0]} ({kind}), model.checkpoint: w.pth"


def test_a_mask_may_hold_infinities_but_no_nan():
    network = nn.Module()
    network.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
    check_finite(network, "model.factory: f")
    network.mask[0, 0] = torch.nan
    with pytest.raises(ModelError) as caught:
        check_finite(network, "model.factory: f")
    assert "(the network itself)" in caught.value.where


def test_a_parameter_without_a_shape_is_refused():
    with pytest.raises(ModelError) as caught:
        check_finite(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "model.factory: net:make")
    assert caught.value.what == "parameter 1.weight has no shape before the network has seen a sample"
    assert caught.value.where == "model.factory: net:make"
