import hashlib
import math

import pytest
import torch
from torch import nn

from edgekit.errors import PassError
from edgekit.passes.losses import find_loss
from edgekit.passes.prune.autobot.flops import GatedMacs
from edgekit.passes.prune.autobot.gates import Gates
from edgekit.passes.prune.autobot.rounds import INITIAL, Round, each_alone
from edgekit.passes.prune.autobot.training import Aim, binary_term, budget_term, draw, train_gates
from edgekit.passes.prune.groups import find_groups
from edgekit.schema.prune import AutobotOptions


@pytest.mark.parametrize(("cost", "expected"), [(126.55, 1.0), (100.0, 0.62452), (55.84, 0.0), (40.0, 0.28367)])
def test_the_budget_term_against_published_values(cost, expected):
    value = budget_term(torch.tensor(cost, dtype=torch.float64), 55.84, 126.55)
    assert value.item() == pytest.approx(expected, abs=5e-6)


def test_the_binary_term_weighs_vectors_alike_and_takes_the_nearer_end():
    gates = torch.tensor([0.9, 0.2, 1.0], requires_grad=True)
    # (0.1 + 0.2) / 2 in the first vector, 0 in the second
    value = binary_term([gates[:2], gates[2:]])
    assert value.item() == pytest.approx(0.075)
    value.backward()
    assert gates.grad.tolist()[:2] == pytest.approx([-0.25, 0.25])  # towards 1 and towards 0; rounding has no slope
    assert binary_term([torch.tensor([0.0, 1.0])]).item() == 0
    assert binary_term([torch.tensor([0.5, 0.5])]).item() == 0.5


def test_gates_begin_open_by_nine_tenths():
    assert pytest.approx(2.1972, abs=5e-5) == INITIAL
    assert torch.tensor(INITIAL).sigmoid().item() == pytest.approx(0.9)


def test_a_batch_depends_on_seed_and_step_alone_and_an_epoch_has_each_sample_once():
    batches = [draw(10, 3, step, seed=5) for step in range(6)]
    assert [len(batch) for batch in batches] == [3] * 6
    for epoch in (batches[:3], batches[3:]):
        assert len(set(torch.cat(epoch).tolist())) == 9
    assert torch.cat(batches[:3]).tolist() != torch.cat(batches[3:]).tolist()
    assert torch.equal(draw(10, 3, 4, seed=5), batches[4])
    assert not torch.equal(draw(10, 3, 4, seed=6), batches[4])
    assert sorted(draw(4, 64, 7, seed=0).tolist()) == [0, 1, 2, 3]


def _network():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(128, 4)
    )


@pytest.fixture
def surroundings(make_model, make_context, samples):
    """A tiny network with its gates, an aim at half of its cost, and what trains them."""

    def make(**given):
        network = _network()
        model = make_model(network)
        gates = Gates(network, find_groups(model).groups)
        cost = GatedMacs.of(model, gates.groups)
        whole = cost.total({})
        aim = Aim(given.pop("loss", find_loss("cross_entropy", "test")), cost, whole / 2, whole)
        part = given.pop("part", None) or each_alone(gates, 30)
        return network, gates, part, aim, samples(64), AutobotOptions(batch_size=16), make_context(**given)

    return make


def _digest(network):
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def test_training_gates_changes_neither_weights_nor_statistics(surroundings):
    network, *rest = surroundings()
    network.train()  # whatever it was, gates are trained in eval mode
    before = _digest(network)
    logits = train_gates(network, *rest)
    assert _digest(network) == before
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert logits.std() > 0.1  # they did move, and apart


def test_the_kept_state_is_the_one_of_the_lowest_loss_late_enough(surroundings):
    seen = []

    def loss(outputs, _inputs, _labels):
        dips = {18: -2.0, 19: -1.0, 25: -0.5}  # of 30 steps, those above 18 count: the one at 18 is too early
        return outputs.sum() * 0 + dips.get(len(seen), 0.0)

    network, gates, part, aim, data, options, context = surroundings(loss=loss)
    total = aim.cost.total

    class Recorder:
        def total(self, kept):
            if kept:
                seen.append(kept["0"].item())
            return total(kept)

    options = options.model_copy(update={"beta": 1e-9, "gamma": 0.0})
    logits = train_gates(network, gates, part, Aim(loss, Recorder(), aim.target, aim.whole), data, options, context)
    assert len(seen) == 30
    assert logits.double().sigmoid().sum().item() == pytest.approx(seen[19], abs=1e-6)
    assert len({round(value, 4) for value in seen[17:21]}) == 4


def test_the_loss_is_the_sum_of_the_three_terms(surroundings, monkeypatch):
    network, gates, part, aim, data, options, context = surroundings()
    chosen = draw(64, 16, 0, context.seed)
    with torch.no_grad():
        read = network[2](network[1](network[0](data.inputs[0][chosen]))) * 0.9
        task = nn.functional.cross_entropy(network[5](read.flatten(1)), data.labels[chosen]).item()
    share = 0.9  # one group that every layer either makes or reads: the cost is linear in its gates
    expected = task + 6 * (share - 0.5) / 0.5 + 0.4 * 0.1
    losses = []
    backward = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: losses.append(loss.item()) or backward(loss))
    logits = []
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: logits.append(self.param_groups[0]["params"][0].grad))
    train_gates(network, gates, part, aim, data, options, context)
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    assert len(losses) == part.steps
    assert all((gradient != 0).all() for gradient in logits)


def test_a_killed_training_goes_on_to_the_same_gates(surroundings, tmp_path):
    expected = train_gates(*surroundings(folder=tmp_path / "whole"))

    class KilledError(Exception):
        pass

    steps = []

    def kill(done, total, note=""):
        steps.append((done, total))
        if done == 23:
            raise KilledError

    with pytest.raises(KilledError):
        train_gates(*surroundings(folder=tmp_path / "killed", progress=kill))
    assert steps == [(done, 30) for done in range(1, 24)]
    torch.manual_seed(99)
    steps.clear()
    resumed = train_gates(*surroundings(folder=tmp_path / "killed", progress=lambda d, t, n="": steps.append((d, t))))
    assert torch.equal(resumed, expected)
    assert steps[0] == (21, 30)
    other = surroundings(folder=tmp_path / "killed", seed=1, progress=lambda d, t, n="": steps.append((d, t)))
    steps.clear()
    assert not torch.equal(train_gates(*other), expected)  # another run's checkpoint is not gone on from
    assert steps[0] == (1, 30)


def test_the_best_state_outlives_a_kill(surroundings, tmp_path):
    at = [0]

    def loss(outputs, _inputs, _labels):
        return outputs.sum() * 0 - (100.0 if at[0] == 19 else 0.0)  # the last step before the second checkpoint

    def train(folder, stop):
        def follow(done, _total, _note=""):
            at[0] = done
            if done == stop:
                raise KeyboardInterrupt

        return train_gates(*surroundings(loss=loss, folder=tmp_path / folder, progress=follow))

    expected = train("whole", None)
    at[0] = 0
    with pytest.raises(KeyboardInterrupt):
        train("killed", 27)
    at[0] = 20
    assert torch.equal(train("killed", None), expected)


def test_a_loss_that_is_not_finite_is_named(surroundings):
    with pytest.raises(PassError) as caught:
        train_gates(*surroundings(loss=lambda outputs, _inputs, _labels: outputs.sum() * math.nan))
    assert caught.value.where == "step prune, method autobot, gates, step 1 of 30"


def test_gates_of_a_block_move_together_and_what_stays_open_stays(surroundings):
    places = torch.tensor([0, 0, 2, 1, 1, 2, 0, 1])
    part = Round("blocks", places, torch.tensor([0.5, -0.5]), 30, 12)
    seen = []

    class Recorder:
        def total(self, kept):
            seen.append(kept)
            return kept["0"]

    network, gates, _, aim, *rest = surroundings(part=part)
    logits = train_gates(network, gates, part, Aim(aim.loss, Recorder(), 4.0, 8.0), *rest)
    assert seen[0]["0"].item() == pytest.approx(3 * torch.tensor(0.5).sigmoid() + 3 * torch.tensor(-0.5).sigmoid() + 2)
    assert len(seen) == 12
    assert logits[places == 2].tolist() == [math.inf] * 2
    one, other = (logits[places == place] for place in (0, 1))
    assert len(set(one.tolist())) == len(set(other.tolist())) == 1
    assert one[0] not in (0.5, other[0].item())
