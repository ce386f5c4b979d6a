import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgekit.errors import PassError
from edgekit.numerics.sparsity import is_two_of_four
from edgekit.passes.sparsity.masks import Masks, schedule_of
from edgekit.passes.train import train
from edgekit.schema.sparsity import SparsityOptions
from edgekit.schema.train import TrainOptions

INPUTS = (torch.zeros(2, 1, 8, 8),)


def _network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 1, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 4),
    )


def _zeros(weight):
    return int((weight == 0).sum())


def _masks(network, steps=100, **options):
    return Masks(network, SparsityOptions(**options), steps, INPUTS, "train")


def _run(network, masks, steps=100):
    """The zeros of both layers after the update before each step; noise takes the place of an optimiser."""
    seen = []
    draw = torch.Generator().manual_seed(0)
    for step in range(steps):
        masks.before(step)
        seen.append((_zeros(network[3].weight), _zeros(network[6].weight)))
        with torch.no_grad():
            for index in (0, 3, 6):
                network[index].weight += 0.1 * torch.randn(network[index].weight.shape, generator=draw)
        masks.apply()
    return seen


def test_every_tensor_has_the_scheduled_share_after_each_update_and_zeros_only_ever_come():
    network = _network()
    masks = _masks(network, final=0.8, begin_ratio=0.1, end_ratio=0.6, frequency=10)
    seen = _run(network, masks)
    for step in (10, 20, 30, 40, 50, 60, 99):
        left = 0.2 + 0.8 * (1 - min((step - 10) / 50, 1)) ** 3
        assert seen[step] == (576 - round(576 * left), 512 - round(512 * left))
    assert seen[10] == (0, 0)  # the first update of a ramp from 0 prunes nothing
    assert seen == sorted(seen)
    assert _zeros(network[0].weight) == 0
    assert seen[99] == (576 - 115, 512 - 102)


def test_a_weight_that_was_masked_stays_masked():
    network = _network()
    masks = _masks(network, begin_ratio=0, end_ratio=0.5, frequency=5)
    gone = torch.zeros(8, 8, 3, 3, dtype=torch.bool)
    for step in range(100):
        masks.before(step)
        assert (network[3].weight[gone] == 0).all()
        gone |= network[3].weight == 0
        with torch.no_grad():
            network[3].weight += 1  # what was masked would now outrank others
        masks.apply()
    assert int(gone.sum()) == 461


def test_over_all_layers_the_total_is_exact_and_the_floor_holds():
    network = _network()
    with torch.no_grad():
        network[6].weight *= 1e-3  # the layer that magnitude alone would empty
    masks = _masks(network, scope="global", final=0.8, min_keep_ratio=0.05, begin_ratio=0, end_ratio=0.5)
    for step in range(100):
        masks.before(step)
    alive = 576 - _zeros(network[3].weight), 512 - _zeros(network[6].weight)
    assert sum(alive) == round(1088 * 0.2)
    assert alive[1] == 26  # 0.05 * 512, rounded up


def test_blocks_are_zero_as_a_whole():
    network = _network()
    masks = _masks(network, method="one_shot", pattern="block", block=(2, 4), final=0.5)
    masks.before(0)
    blocks = (network[3].weight != 0).reshape(4, 2, 18, 4).sum((1, 3))
    assert sorted(set(blocks.flatten().tolist())) == [0, 8]
    assert int((blocks == 0).sum()) == 36


def test_two_of_four_is_ramped_by_layers_the_least_lossy_first():
    network = _network()
    with torch.no_grad():  # this one loses nothing
        network[6].weight.view(4, 32, 4)[:, :, :2] = 0
    masks = _masks(network, pattern="2:4", begin_ratio=0, end_ratio=0.9, frequency=10)
    order = []
    for step in range(100):
        masks.before(step)
        order.append(tuple(not bool(mask.all()) for mask in masks.tensors.values()))
        assert is_two_of_four(network[6].weight)
    assert list(dict.fromkeys(order)) == [(False, False), (False, True), (True, True)]
    assert is_two_of_four(network[3].weight)
    assert (_zeros(network[3].weight), _zeros(network[6].weight)) == (288, 256)


def test_one_shot_prunes_before_the_first_step_and_never_again():
    network = _network()
    before = copy.deepcopy(network[3].weight.detach())
    masks = _masks(network, method="one_shot", final=0.75)
    seen = _run(network, masks, steps=20)
    assert set(seen) == {(432, 384)}
    gone = network[3].weight == 0
    assert before[gone].abs().max() <= before[~gone].abs().min()


def test_hold_keeps_the_zeros_that_are_there_and_refuses_a_dense_network():
    network = _network()
    with torch.no_grad():
        network[3].weight[:, :3] = 0
    seen = _run(network, _masks(network, method="hold"), steps=5)
    assert set(seen) == {(216, 0)}
    with pytest.raises(PassError) as caught:
        _masks(_network(), method="hold")
    assert caught.value.where == "step train, sparsity.method"


def test_a_short_ramp_is_updated_more_often_and_a_wish_that_does_not_fit_is_refused():
    def schedule(steps, **options):
        found = schedule_of(SparsityOptions(**options), steps, "train")
        return found.begin, found.every, found.updates, found.end

    assert schedule(10_000) == (1000, 100, 60, 7000)
    assert schedule(300) == (30, 18, 10, 210)
    assert schedule(10) == (1, 1, 6, 7)
    assert schedule(100, end_ratio=1) == (10, 8, 11, 98)  # the last mask is in force for a step
    assert schedule(1000, frequency=250) == (100, 250, 2, 600)
    with pytest.raises(PassError) as caught:
        schedule(100, frequency=61)
    assert caught.value.what == "updates every 61 steps do not fit into a ramp of 60, of 100 steps in all"
    with pytest.raises(PassError):
        schedule(1)


OPTIONS = {
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01, "learning_rate": 0.05},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01, "learning_rate": 0.01},
}


def _train(options, make_model, make_context, data, **context):
    return train(make_model(_network()), options, make_context(train=data, **context))


@pytest.mark.parametrize("kind", sorted(OPTIONS))
def test_training_ends_at_the_asked_share_and_neither_momentum_nor_the_average_brings_a_weight_back(
    kind, make_model, make_context, samples
):
    options = TrainOptions(epochs=6, batch_size=16, ema_decay=0.9, sparsity=SparsityOptions(final=0.8), **OPTIONS[kind])
    rows = []
    context = make_context(train=samples(128))
    object.__setattr__(context, "record", rows.append)
    trained = train(make_model(_network()), options, context)
    weights = trained.network[3].weight, trained.network[6].weight
    assert [_zeros(weight) for weight in weights] == [576 - 115, 512 - 102]
    assert not any(torch.signbit(weight[weight == 0]).any() for weight in weights)
    saved = load_file(context.folder / "training.safetensors")
    for key in ("network", "average"):
        assert torch.equal(saved[f"{key}.3.weight"] == 0, ~saved["masks.3.weight"])
    (row,) = rows
    assert (row.steps, row.begin, row.every, row.updates, row.recovery_steps) == (48, 5, 2, 14, 15)
    assert (row.zeros, row.prunable_weights, row.all_weights) == (461 + 410, 1088, 1088 + 72 + 16 + 8 + 4)
    assert [(layer.weight, layer.zeros) for layer in row.layers] == [("3.weight", 461), ("6.weight", 410)]
    assert row.left_dense == {"0.weight": "first convolution"}
    dense = 4 * row.all_weights + 4 * 16 + 8  # running statistics, and a counter
    assert row.size_bytes == dense
    assert row.bitmask_bytes == dense - 4 * 1088 + 1088 // 8 + 4 * (1088 - row.zeros)
    assert row.deflated_bytes < 0.5 * dense


@pytest.mark.parametrize(
    ("pattern", "killed_at"),
    [("unstructured", 8), ("unstructured", 18), ("2:4", 18)],  # within the ramp, and while it recovers
)
def test_a_killed_training_goes_on_with_the_same_masks(pattern, killed_at, make_model, make_context, samples, tmp_path):
    sparsity = SparsityOptions(pattern=pattern, begin_ratio=0, end_ratio=0.6)
    options = TrainOptions(epochs=4, batch_size=16, ema_decay=0.9, sparsity=sparsity, **OPTIONS["sgd"])
    data = samples(80)
    whole = _train(options, make_model, make_context, data, folder=tmp_path / "whole")
    alive = True

    def kill(done, total, note=""):
        if alive and done == killed_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(options, make_model, make_context, data, folder=tmp_path / "killed", progress=kill)
    alive = False
    resumed = _train(options, make_model, make_context, data, folder=tmp_path / "killed", progress=kill)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor), name
    one, other = (load_file(tmp_path / folder / "training.safetensors") for folder in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one if name.startswith("masks."))
    assert not one["masks.3.weight"].all()


def test_masks_that_are_not_restored_would_let_zeros_come_alive():
    network = _network()
    first = _masks(network, begin_ratio=0, end_ratio=0.5, frequency=10)
    for step in range(21):
        first.before(step)
    again = _masks(network, begin_ratio=0, end_ratio=0.5, frequency=10)
    assert all(mask.all() for mask in again.tensors.values())
    again.restore(first.tensors)
    with torch.no_grad():
        network[3].weight += 1
    again.apply()
    assert _zeros(network[3].weight) == int((~first.tensors["3.weight"]).sum()) > 0


def test_dense_training_of_a_sparse_network_says_that_the_zeros_go(make_model, make_context, samples, caplog):
    network = _network()
    with torch.no_grad():
        network[3].weight[:, :6] = 0
        network[6].weight[:, :96] = 0
    train(make_model(network), TrainOptions(epochs=1, batch_size=64), make_context(train=samples(64)))
    assert "`sparsity: {method: hold}` keeps them" in caplog.text
    caplog.clear()
    train(make_model(_network()), TrainOptions(epochs=1, batch_size=32), make_context(train=samples(64)))
    assert "zero" not in caplog.text


def test_shared_weights_are_masked_under_every_name_of_the_average():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 4))
    network[3].weight = network[1].weight
    masks = Masks(network, SparsityOptions(method="one_shot"), 10, INPUTS, "train")
    masks.before(0)
    state = {name: torch.ones_like(tensor) for name, tensor in network.state_dict().items()}
    masks.apply_to(state)
    assert _zeros(state["1.weight"]) == _zeros(state["3.weight"]) == 4096 - 819
    assert _zeros(state["1.bias"]) == 0
