import copy
import math
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.passes.augment import Augmentation
from edgekit.passes.average import MovingAverage
from edgekit.passes.loop import decay_groups, learning_rate_factor
from edgekit.passes.train import train
from edgekit.schema.train import TrainOptions


def _network(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(128, 4),
    )


def _state(model):
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def _assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


OPTIONS = {
    "sgd": TrainOptions(epochs=3, batch_size=16, augment=("flip", "shift"), shift_pixels=1, ema_decay=0.9),
    "adamw": TrainOptions(epochs=3, batch_size=16, optimizer="adamw", learning_rate=0.01, label_smoothing=0.1),
}


def test_it_learns_and_leaves_the_given_model_alone(make_model, make_context, samples):
    model = make_model(_network())
    before = _state(model)
    options = TrainOptions(epochs=4, batch_size=32, learning_rate=0.05)
    trained = train(model, options, make_context(train=samples(256)))
    test = samples(200, seed=9)
    with torch.no_grad():
        assert (trained.network(test.inputs[0]).argmax(1) == test.labels).float().mean() > 0.95
        assert (model.network(test.inputs[0]).argmax(1) == test.labels).float().mean() < 0.6
    _assert_equal(_state(model), before)
    assert trained.history == ("train",)
    assert not trained.network.training
    assert all(parameter.grad is None for parameter in trained.network.parameters())


@pytest.mark.parametrize("kind", sorted(OPTIONS))
def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(kind, make_model, make_context, samples, tmp_path):
    model, data = make_model(_network(dropout=0.2)), samples(80)
    folders = iter(range(9))

    def run(seed):
        folder = tmp_path / str(next(folders))
        return _state(train(model, OPTIONS[kind], make_context(train=data, seed=seed, folder=folder)))

    first = run(seed=5)
    torch.manual_seed(999)  # the global generator must not matter
    _assert_equal(first, run(seed=5))
    assert not torch.equal(first["0.weight"], run(seed=6)["0.weight"])


@pytest.mark.parametrize("kind", sorted(OPTIONS))
@pytest.mark.parametrize(
    "killed_after", [7, 10]
)  # batches: in the middle of epoch 2; at its end, before its checkpoint
def test_a_killed_run_goes_on_to_the_same_bits(kind, killed_after, make_model, make_context, samples, tmp_path):
    model, data = make_model(_network(dropout=0.2)), samples(80)  # 5 batches an epoch
    whole = train(model, OPTIONS[kind], make_context(train=data, folder=tmp_path / "whole"))
    batches = []

    def kill(done, total, note=""):
        assert total == 15
        batches.append(done)
        if done == killed_after:
            raise KeyboardInterrupt

    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        train(model, OPTIONS[kind], make_context(train=data, folder=folder, progress=kill))
    assert any(name.startswith("optimizer.") for name in load_file(folder / "training.safetensors"))
    killed_after = 0
    resumed = train(model, OPTIONS[kind], make_context(train=data, folder=folder, progress=kill))
    assert batches[-10:] == list(range(6, 16))  # epoch 1 is not done again
    _assert_equal(_state(resumed), _state(whole))


def test_a_checkpoint_of_another_run_is_not_gone_on_from(make_model, make_context, samples, caplog):
    model, data = make_model(_network()), samples(64)
    train(model, TrainOptions(epochs=1, batch_size=16), make_context(train=data))
    other = train(model, TrainOptions(epochs=1, batch_size=32), make_context(train=data))
    assert "another run" in caplog.text
    fresh = make_context(train=data)
    (fresh.folder / "training.safetensors").unlink()
    _assert_equal(_state(other), _state(train(model, TrainOptions(epochs=1, batch_size=32), fresh)))


def test_a_damaged_checkpoint_is_named(make_model, make_context, samples):
    context = make_context(train=samples(64))
    context.folder.mkdir()
    (context.folder / "training.safetensors").write_bytes(b"torn")
    with pytest.raises(PassError) as error:
        train(make_model(_network()), TrainOptions(epochs=1), context)
    assert error.value.where == str(context.folder / "training.safetensors")


def test_a_loss_that_is_not_finite_names_epoch_and_batch(make_model, make_context, samples):
    data = samples(64)
    data.inputs[0][5] = math.nan
    with pytest.raises(PassError) as error:
        train(make_model(_network()), TrainOptions(epochs=2, batch_size=64), make_context(train=data))
    assert "nan" in error.value.what
    assert error.value.where == "step train, epoch 1 of 2, batch 1 of 1"


def test_without_a_training_split_it_refuses(make_model, make_context):
    with pytest.raises(PassError) as error:
        train(make_model(_network()), TrainOptions(), make_context(train=None))
    assert error.value.where == "step train"


def test_settings_of_torch_are_as_before(make_model, make_context, samples):
    model = make_model(_network())
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(model, TrainOptions(epochs=1), make_context(train=samples(64)))
    assert not torch.are_deterministic_algorithms_enabled()
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_fixed_parameters_stay_to_the_bit_with_decay_and_average(make_model, make_context, samples):
    network = _network()
    network[0].weight.requires_grad_(False)
    before = network[0].weight.clone()
    trained = train(make_model(network), OPTIONS["sgd"], make_context(train=samples(64)))
    assert torch.equal(trained.network[0].weight, before)
    assert not trained.network[0].weight.requires_grad


def test_one_step_of_sgd_is_the_gradient_worked_out_by_torch(make_model, make_context, samples):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    data = samples(8)
    expected = copy.deepcopy(network)
    nn.functional.cross_entropy(expected(data.inputs[0]), data.labels, label_smoothing=0.1).backward()
    with torch.no_grad():  # weight decays, bias does not; one step, no warm-up: the peak rate
        expected[1].weight -= 0.5 * (expected[1].weight.grad + 0.25 * expected[1].weight)
        expected[1].bias -= 0.5 * expected[1].bias.grad
    options = TrainOptions(
        epochs=1, batch_size=8, learning_rate=0.5, weight_decay=0.25, label_smoothing=0.1, warmup_ratio=0
    )
    trained = train(make_model(network), options, make_context(train=data))
    torch.testing.assert_close(trained.network[1].weight, expected[1].weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(trained.network[1].bias, expected[1].bias, rtol=1e-5, atol=1e-6)


def test_learning_rate_by_hand():
    factors = [learning_rate_factor(step, 10, 2) for step in range(10)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.5)  # half-way through the cosine
    assert factors[4] == pytest.approx(0.5 + math.sqrt(2) / 4)  # cos(pi / 4)
    assert 0 < factors[9] < 0.05


def test_norms_and_biases_do_not_decay():
    decayed, others = decay_groups(_network(), 0.1)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(8, 1, 3, 3), (4, 128)]
    assert [tuple(p.shape) for p in others["params"]] == [(8,), (8,), (4,)]


def test_moving_average_by_hand():
    network = nn.BatchNorm1d(1)
    average = MovingAverage(network, 0.15)
    for value, mean in ((3.0, 10.0), (5.0, 20.0)):
        with torch.no_grad():
            network.weight.fill_(value)
            network.running_mean.fill_(mean)
            network.num_batches_tracked += 1
        average.update(network)
    # d = min(0.15, 1 / 10) = 0.1, then min(0.15, 2 / 11) = 0.15
    assert average.tensors["weight"].item() == pytest.approx(0.15 * (0.1 * 1 + 0.9 * 3) + 0.85 * 5)
    assert average.tensors["running_mean"].item() == pytest.approx(0.15 * (0.1 * 0 + 0.9 * 10) + 0.85 * 20)
    assert average.tensors["num_batches_tracked"].item() == 2


def test_the_average_is_what_comes_back(make_model, make_context, samples, tmp_path):
    model, data = make_model(_network()), samples(64)
    plain = TrainOptions(epochs=2, batch_size=16)
    averaged = plain.model_copy(update={"ema_decay": 0.99})
    last = train(model, plain, make_context(train=data, folder=tmp_path / "a"))
    mean = train(model, averaged, make_context(train=data, folder=tmp_path / "b"))
    assert not torch.equal(last.network[0].weight, mean.network[0].weight)
    assert not torch.equal(last.network[1].running_mean, mean.network[1].running_mean)
    saved = load_file(tmp_path / "b" / "training.safetensors")
    assert torch.equal(mean.network[1].running_mean, saved["average.1.running_mean"])
    assert torch.equal(last.network[0].weight, saved["network.0.weight"])  # averaging changes nothing of the training


def test_augmentation_by_hand():
    picture = torch.arange(1.0, 10).reshape(1, 1, 3, 3).repeat(3, 1, 1, 1)
    mirrored = torch.tensor([False, True, False])
    offsets = torch.tensor([[0, 0], [0, 0], [1, -1]])
    changed = Augmentation(mirrored, offsets).apply(picture)
    assert torch.equal(changed[0], picture[0])
    assert changed[1, 0].tolist() == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert changed[2, 0].tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]  # one down, one left; zeros come in


def test_augmentation_draws_every_kind():
    drawn = Augmentation.draw(400, ("flip", "shift"), 2, torch.Generator().manual_seed(0))
    assert 150 < drawn.mirrored.sum() < 250
    assert set(drawn.offsets.flatten().tolist()) == {-2, -1, 0, 1, 2}
    none = Augmentation.draw(4, (), 2, torch.Generator().manual_seed(0))
    assert none.mirrored is None
    assert none.offsets is None


def test_augmentation_is_for_pictures():
    with pytest.raises(PassError) as error:
        Augmentation.draw(2, ("flip",), 0, torch.Generator()).apply(torch.zeros(2, 5))
    assert error.value.where == "option augment"


_TWO_PROCESSES = """
import sys
from pathlib import Path
from types import SimpleNamespace
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from edgekit.data.samples import Samples
from edgekit.passes.loop import fit
from edgekit.schema.train import TrainOptions

feeds, folder, processes = load_file(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
assert Accelerator().num_processes == processes
torch.manual_seed(0)
layers = torch.nn.Conv2d(1, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(128, 4)
network = torch.nn.Sequential(*layers)
splits = SimpleNamespace(train=Samples((feeds["inputs"],), feeds["labels"]), digest="")
context = SimpleNamespace(splits=splits, seed=0, folder=folder, progress=lambda *told: None)
options = TrainOptions(epochs=2, batch_size=16, augment=("flip", "shift"), shift_pixels=1, ema_decay=0.9)
head = torch.nn.Linear(4, 4)  # trained with the network, as a part of the loss
loss = lambda outputs, inputs, labels: F.cross_entropy(head(outputs), labels)
fit(network, options, loss, context, "train", parts=head)
if Accelerator().is_main_process:
    state = {**network.state_dict(), **{f"head.{name}": tensor for name, tensor in head.state_dict().items()}}
    save_file(state, folder / "out")
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_the_network_that_one_does(samples, tmp_path):
    data = samples(85)  # five batches of 16, and one of 5 that the processes share as 3 and 2
    save_file({"inputs": data.inputs[0], "labels": data.labels}, tmp_path / "feeds")
    (tmp_path / "script.py").write_text(_TWO_PROCESSES)
    trained = []
    for processes in (1, 2):
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        given = [str(tmp_path / "script.py"), str(tmp_path / "feeds"), str(tmp_path / str(processes)), str(processes)]
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
        subprocess.run([sys.executable, *launch, *given], env=environment, check=True, capture_output=True, timeout=300)
        trained.append(load_file(tmp_path / str(processes) / "out"))
    for name, tensor in trained[0].items():
        torch.testing.assert_close(trained[1][name], tensor, rtol=1e-4, atol=1e-6)


def test_pictures_are_not_moved_away_from_their_boxes(make_model, make_context, samples):
    boxed = Samples(samples(32).inputs, torch.zeros(32, 3, 5))
    with pytest.raises(PassError) as caught:
        train(make_model(_network()), TrainOptions(epochs=1, augment=("flip",)), make_context(train=boxed))
    assert caught.value.what.startswith("labels (3, 5) of a sample tell places")
    assert (caught.value.where, "leave augment empty" in caught.value.fix) == ("step train, augment", True)
