"""The canonical program does what the network does, in fewer words, under stable names."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.errors import ModelError
from edgekit.nets.graph import aten
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec
from tests import nets


def _model(network: nn.Module, shape: tuple[int, ...]) -> Model:
    source = ModelSource(factory="tests.nets:tiny_conv", inputs=(InputSpec(name="image", shape=shape),))
    return Model(network.eval(), source, (OutputSpec(name="output", shape=(1, 1)),))


def _targets(model: Model) -> list[object]:
    return [node.target for node in trace(model).module.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("counted", nets.COUNTED)
@pytest.mark.parametrize("batch", [1, 3])
def test_program_computes_what_the_network_computes(counted: nets.Counted, batch: int) -> None:
    model = nets.model(counted)
    inputs = model.example(batch, seed=1)
    torch.testing.assert_close(trace(model, batch).module(*inputs), model.network(*inputs), rtol=1e-5, atol=1e-5)


def test_norms_behind_convolutions_are_gone() -> None:
    assert aten.batch_norm.default not in _targets(nets.model(nets.TINY_CONV))


def test_a_norm_that_follows_no_layer_stays() -> None:
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(2))
    assert aten.batch_norm.default in _targets(_model(network, (1, 2, 4, 4)))


def test_the_model_keeps_its_network() -> None:
    model = nets.model(nets.TINY_CONV)
    before = copy.deepcopy(model.network.state_dict())
    program = trace(model)
    for tensor in program.module.buffers():
        tensor.fill_(7.0) if tensor.is_floating_point() else None
    for name, tensor in model.network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_activations_are_named_by_module_and_operator() -> None:
    names = list(trace(nets.model(nets.TINY_RESIDUAL)).names.values())
    assert names[:3] == ["input:image", "stem/conv2d", "/relu"]
    assert "conv1/conv2d" in names
    assert len(set(names)) == len(names)


def test_names_do_not_depend_on_the_batch() -> None:
    model = nets.model(nets.TINY_REPVGG)
    assert list(trace(model, 1).names.values()) == list(trace(model, 5).names.values())


def test_symmetric_pads_become_the_convolutions_own() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3, stride=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(F.pad(x, (2, 2, 1, 1)))

    model = _model(Padded(), (1, 2, 6, 6))
    program = trace(model)
    (conv,) = (node for node in program.module.graph.nodes if node.op == "call_function")
    assert conv.args[4] == [1, 2]
    (x,) = model.example()
    torch.testing.assert_close(program.module(x), model.network(x))


@pytest.mark.parametrize("pad", [(0, 1, 0, 1), (1, 1, 0, 0, 1, 1)])
def test_other_pads_stay(pad: tuple[int, ...]) -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2 if len(pad) == 4 else 4, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(F.pad(x, pad))

    assert aten.pad.default in _targets(_model(Padded(), (1, 2, 6, 6)))


@pytest.mark.parametrize("keep", [True, False])
def test_mean_over_the_image_becomes_a_pool(keep: bool) -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((-1, 2), keepdim=keep)

    model = _model(Mean(), (1, 2, 4, 6))
    assert aten.adaptive_avg_pool2d.default in _targets(model)
    (x,) = model.example(2)
    torch.testing.assert_close(trace(model, 2).module(x), model.network(x))


def test_a_network_that_branches_on_values_is_refused() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError) as caught:
        trace(_model(Branch(), (1, 2)))
    assert "cannot be traced" in caught.value.what


class _Shared(nn.Module):
    """One convolution at two places, each with a norm of its own behind it."""

    def __init__(self, norms: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norms = nn.ModuleList(nets.conv_and_trained_norm(3)[1] for _ in range(norms))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm in self.norms:
            x = norm(self.conv(x)).relu()
        return self.conv(x)


@pytest.mark.parametrize("norms", [1, 2])
def test_a_shared_layer_is_folded_once_at_each_place(norms: int) -> None:
    torch.manual_seed(0)
    model = _model(_Shared(norms), (1, 3, 8, 8))
    inputs = model.example(2, seed=1)
    program = trace(model, 2)
    assert aten.batch_norm.default not in [node.target for node in program.names]
    torch.testing.assert_close(program.module(*inputs), model.network(*inputs), rtol=1e-4, atol=1e-4)


def test_a_weight_that_is_shared_without_norms_is_stored_once() -> None:
    program = trace(_model(_Shared(0), (1, 3, 8, 8)))
    assert {name for name, _ in program.module.named_buffers()} == {"conv.weight", "conv.bias"}


class _Spelled(nn.Module):
    """What has a second spelling: padding in words, alpha, a weight turned when it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(2, 4, (3, 4), padding="same", dilation=(2, 1))
        self.valid = nn.Conv2d(2, 4, 1, padding="valid")
        self.turned = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = torch.add(self.same(x), self.valid(x), alpha=0.5)
        return {"map": y, "head": F.linear(y.mean((2, 3)), self.turned.t())}


@pytest.mark.filterwarnings("ignore:Using padding:UserWarning")  # torch tells of the copy that `same` makes
def test_spellings_are_reduced_to_one() -> None:
    torch.manual_seed(0)
    model = _model(_Spelled(), (1, 2, 8, 8))
    inputs = model.example(2, seed=1)
    program = trace(model, 2)
    targets = {node.target for node in program.names}
    assert not targets & {aten.conv2d.padding, aten.t.default, aten.transpose.int}
    assert all(not node.kwargs for node in program.names if node.target is aten.add.Tensor)
    wanted = model.network(*inputs)
    for found, name in zip(program.module(*inputs), ("map", "head"), strict=True):
        torch.testing.assert_close(found, wanted[name], rtol=1e-5, atol=1e-5)


class _Moody(nn.Module):
    """Gives something else each time it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + torch.rand(2)


def test_a_program_that_is_not_the_network_is_refused() -> None:
    with pytest.raises(ModelError) as raised:
        trace(_model(_Moody(), (1, 4)))
    assert "differs from the network" in raised.value.what


def test_what_a_loop_makes_of_its_weights_at_every_step_is_stored_once() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.weight, self.scale = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.rand(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = torch.zeros(len(x), 4)
            for step in x.unbind(1):
                of_input, of_state = self.weight[:, :2] * self.scale, self.weight[:, 2:]
                state = torch.tanh(F.linear(step, of_input) + F.linear(state, of_state))
            return state

    model = _model(Loop(), (1, 5, 2))
    program = trace(model)
    assert sorted(tuple(tensor.shape) for tensor in program.module.buffers() if tensor.numel() > 1) == [(4, 2), (4, 4)]
    inputs = model.example(seed=1)
    torch.testing.assert_close(program.module(*inputs), model.network(*inputs), rtol=1e-6, atol=1e-6)
