import copy
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.errors import ModelError
from edgekit.nets.pt2.read import declared_inputs, read_exported
from tests import nets
from tests.edgekit.nets.pt2.conftest import rewrite


class Everything(nn.Module):
    """Layers in containers, tied and shared ones, weights that calls read themselves, several inputs, named outputs."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.norm = nn.LayerNorm(4)
        self.scale = nn.Parameter(torch.tensor([0.5, 2.0, 3.0, 1.0]))
        self.register_buffer("shift", torch.tensor([1.0, 0.0, -1.0, 2.0]), persistent=False)
        self.once = nn.Linear(4, 4)
        self.head = nn.Linear(4, 4)
        self.head.weight = self.once.weight

    def forward(self, image, gate):
        x = self.body(image)
        x = self.body[0](torch.cat(x.chunk(2, 1), 1)[:, :2]) + x
        x = F.gelu(self.norm(x.mean((2, 3)))) * self.scale + self.shift
        x = self.head(self.once(x)).view(x.shape[0], 2, 2) * gate[:, None]
        largest, place = x.flatten(1).max(1)
        return {"x": x, "largest": largest, "place": place.float()}


def trained(network):
    """Every statistic away from its default."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + (0.5 if "var" in name else -0.5))
    return network.eval()


@pytest.fixture
def everything():
    return trained(Everything())


def test_a_program_is_the_network_that_it_was(saved, everything):
    network = read_exported(saved(everything, torch.randn(2, 2, 6, 6), torch.randn(2, 2)), "model.pt2")
    for batch in (1, 5):
        given = torch.randn(batch, 2, 6, 6), torch.randn(batch, 2)
        with torch.no_grad():
            found, wanted = network(*given), everything(*given)
        assert list(found) == ["x", "largest", "place"]
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-6)


def test_layers_and_tensors_have_their_names(saved, everything):
    network = read_exported(saved(everything, torch.randn(2, 2, 6, 6), torch.randn(2, 2)), "model.pt2")
    state = everything.state_dict()
    assert set(network.state_dict()) == set(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert isinstance(network.get_submodule("body.0"), nn.Conv2d)
    assert isinstance(network.get_submodule("body.1"), nn.BatchNorm2d)
    assert network.get_submodule("head").weight is network.get_submodule("once").weight
    assert {name for name, _ in network.named_parameters()} == {name for name, _ in everything.named_parameters()}


def test_it_trains_and_is_copied_like_any_network(saved, everything):
    network = read_exported(saved(everything, torch.randn(2, 2, 6, 6), torch.randn(2, 2)), "model.pt2")
    twin = copy.deepcopy(network).train()
    before = twin.get_submodule("body.1").running_mean.clone()
    twin(torch.randn(8, 2, 6, 6), torch.randn(8, 2))["x"].square().mean().backward()
    assert all(parameter.grad is not None for parameter in twin.parameters())
    assert not torch.equal(twin.get_submodule("body.1").running_mean, before)
    assert torch.equal(network.get_submodule("body.1").running_mean, before)


def test_the_inputs_are_what_the_program_says(saved):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 3)

        def forward(self, ids, mask):
            return (self.table(ids) * mask[..., None]).sum(1)

    path = saved(Tokens(), torch.zeros(2, 5, dtype=torch.int64), torch.ones(2, 5))
    ids, mask = declared_inputs(read_exported(path, "model.pt2").graph, "model.pt2")
    assert (ids.name, ids.shape, ids.dtype) == ("ids", (1, 5), "int64")
    assert (mask.name, mask.shape, mask.dtype) == ("mask", (1, 5), "float32")


def test_a_shape_that_is_free_beyond_the_batch_must_be_declared(tmp_path):
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=4)}
    program = torch.export.export(nn.Conv2d(1, 2, 3).eval(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=(free,))
    torch.export.save(program, tmp_path / "net.pt2")
    network = read_exported(tmp_path / "net.pt2", "model.pt2")
    assert network(torch.zeros(3, 1, 6, 8)).shape == (3, 2, 4, 6)
    with pytest.raises(ModelError) as caught:
        declared_inputs(network.graph, "model.pt2: net.pt2")
    assert "'free', 1, 'free', 8" in caught.value.what
    assert "model.inputs" in caught.value.fix


@pytest.mark.parametrize(
    ("factory", "example"), [(nets.tiny_conv, torch.zeros(1, 2, 8, 8)), (nets.tiny_residual, torch.zeros(1, 1, 6, 6))]
)
def test_a_program_of_one_batch_takes_any(saved, factory, example):
    network = factory().eval()
    read = read_exported(saved(network, example, dynamic=False), "model.pt2")
    x = torch.randn(5, *example.shape[1:])
    torch.testing.assert_close(read(x), network(x), rtol=1e-5, atol=1e-6)


def edited(path, change):
    """The archive with another graph."""

    def again(members):
        program = json.loads(members["models/model.json"])
        change(program["graph_module"])
        return {**members, "models/model.json": json.dumps(program).encode()}

    return rewrite(path, again)


def relu(graph_module):
    return next(n for n in graph_module["graph"]["nodes"] if n["target"] == "torch.ops.aten.relu.default")


def renamed(graph_module, name):
    for spec in graph_module["signature"]["input_specs"]:
        if "parameter" in spec:
            spec["parameter"]["parameter_name"] = name


CHANGES = {
    "calls torch.ops.aten.from_file": lambda g: relu(g).update(target="torch.ops.aten.from_file.default"),
    "calls builtins.eval": lambda g: relu(g).update(target="builtins.eval"),
    "calls torch.ops.mine": lambda g: relu(g).update(target="torch.ops.mine.relu.default"),
    "__class__": lambda g: renamed(g, "__class__.weight"),
    "getattr": lambda g: renamed(g, 'x"); getattr(y'),
    "is damaged": lambda g: relu(g).pop("inputs"),
    "before it is made": lambda g: relu(g)["inputs"][0].update(arg={"as_tensor": {"name": "nowhere"}}),
    "never made": lambda g: g["signature"]["output_specs"][0]["user_output"]["arg"]["as_tensor"].update(name="nowhere"),
    "changes what it was given": lambda g: g["signature"]["output_specs"].append({"buffer_mutation": {}}),
    "is given a custom_obj": lambda g: g["signature"]["input_specs"].append({"custom_obj": {}}),
    "is absent": lambda g: renamed(g, "elsewhere"),
}


@pytest.mark.parametrize("said", CHANGES)
def test_a_graph_that_torch_would_not_write_is_refused(saved, said):
    path = saved(nn.Sequential(nn.Linear(3, 2, bias=False), nn.ReLU()), torch.zeros(2, 3))
    with pytest.raises(ModelError) as caught:
        read_exported(edited(path, CHANGES[said]), "model.pt2")
    assert said in caught.value.what
    assert caught.value.where.startswith("model.pt2: ")


def test_what_was_traced_without_gradients_is_part_of_the_program(saved):
    class Rotated(nn.Module):
        """Names inside and outside clash, one part is within another, and a value is given and taken."""

        def forward(self, x):
            y = x + 1
            with torch.no_grad():
                z = x * 2
                with torch.enable_grad():
                    w = z.sin() + y
                y = w * z
            return (x & y.bool()) + y if not x.is_floating_point() else x * y + w

    x = torch.randn(2, 3)
    network = read_exported(saved(Rotated(), x), "model.pt2")
    given = torch.randn(5, 3)
    torch.testing.assert_close(network(given), Rotated()(given))


def test_a_part_of_another_kind_is_refused(saved):
    class Branch(nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))

    with pytest.raises(ModelError) as caught:
        read_exported(saved(Branch(), torch.randn(2, 3)), "model.pt2")
    assert caught.value.what == "the program calls torch.ops.higher_order.cond"
