from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgekit.errors import PassError
from edgekit.nets.chain import Chain
from edgekit.passes.distill.chain import line_search
from edgekit.passes.distill.distill import distill
from edgekit.passes.loop import digest_state
from edgekit.schema.distill import DistillOptions


def network(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 4))


@pytest.fixture
def chained(make_model, make_context, samples, tmp_path):
    """`chained(students, folder=..., progress=..., **options)`: a chain after learning, its record and its teacher."""
    teacher = make_model(network(32, 1))
    with torch.no_grad():
        teacher.network[4].weight *= 4
    records = []

    def learn(students=3, folder="step", progress=lambda done, total, note="": None, **own):
        model = make_model(Chain([network(3, 5 + index) for index in range(students)]))
        context = make_context(
            train=samples(256), teachers=lambda: (teacher,), folder=tmp_path / folder, progress=progress
        )
        context = replace(context, record=records.append)
        options = DistillOptions(method="chain", epochs=4, batch_size=32, learning_rate=0.05, chain=own or None)
        before = digest_state(teacher.network), digest_state(model.network)
        taught = distill(model, options, context)
        assert (digest_state(teacher.network), digest_state(model.network)) == before
        return taught, records[-1].chain, teacher

    return learn


def test_line_search_finds_the_least_of_a_convex_function():
    assert line_search(lambda eta: (eta - 0.7) ** 2, 2.0) == pytest.approx(0.7, abs=1e-6)
    assert line_search(lambda eta: (eta - 9.0) ** 2, 2.0) == pytest.approx(2.0, abs=1e-6)
    assert line_search(lambda eta: abs(eta + 1), 2.0) == pytest.approx(0.0, abs=1e-6)


def test_each_student_brings_the_sum_nearer_to_the_teacher(chained, samples):
    taught, record, teacher = chained()
    held_out = samples(48, seed=2)  # of make_context: there is no selection split
    assert (record.samples, record.split) == (48, "calibration")
    with torch.no_grad():
        told = teacher.network(held_out.inputs[0]).softmax(-1)
        sums = [total.softmax(-1) for total in taught.network.partial_sums(*held_out.inputs)]
    away = [(total - told).square().mean().item() for total in sums]
    assert away[0] > away[1] > away[2]
    weights = [student.weight for student in record.students]
    assert weights == [float(taught.network.weight(index)) for index in range(3)]
    assert all(0 < weight < 2 and weight != 1 for weight in weights)
    assert [student.macs for student in record.students] == [64 * 3 + 3 * 4] * 3
    assert taught.history == ("distill",)
    assert not taught.network.training


def test_what_leaving_early_does_is_recorded(chained, samples):
    taught, record, _ = chained()
    held_out = samples(48, seed=2)
    for leaving in record.exits:
        with torch.no_grad():
            logits, runs = taught.network.answer(*held_out.inputs, threshold=leaving.threshold)
        assert leaving.top1 == pytest.approx((logits.argmax(1) == held_out.labels).double().mean().item())
        assert leaving.macs_ratio == pytest.approx(runs.double().mean().item() / 3)  # three of one size
    ratios = [leaving.macs_ratio for leaving in record.exits]
    assert ratios == sorted(ratios)
    assert ratios[0] < ratios[-1]


def test_a_student_learns_what_those_before_it_leave(chained):
    """The second is trained with the first, fixed, in the sum: a chain of one is the first of a chain of two."""
    one, _, _ = chained(1, "one")
    two, _, _ = chained(2, "two")
    first = digest_state(one.network.students[0])
    assert digest_state(two.network.students[0]) == first
    assert one.network.weight(0) == two.network.weight(0)


def test_a_killed_chain_goes_on_with_the_student_that_it_was_at(chained, tmp_path):
    whole, _, _ = chained(folder="whole")
    steps = []

    def kill(done, total, note=""):
        steps.append((done, total))
        if done == 32 + 20:  # 8 batches an epoch, 32 a student: the second one, in its third epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chained(folder="killed", progress=kill)
    assert steps[-1][1] == 96
    assert load_file(tmp_path / "killed" / "student1" / "training.safetensors")
    again = []
    resumed, _, _ = chained(folder="killed", progress=lambda done, total, note="": again.append(done))
    assert again == list(range(32 + 17, 97))
    assert digest_state(resumed.network) == digest_state(whole.network)


def test_options_weigh_the_terms(chained):
    plain, _, _ = chained(1, "a", alpha=0.5, temperature=4.0, residual=1.0)
    for index, own in enumerate(({"alpha": 0.9}, {"temperature": 1.0}, {"residual": 0.0})):
        other, _, _ = chained(1, f"b{index}", **own)
        assert digest_state(other.network) != digest_state(plain.network)


def test_a_network_that_is_no_chain_is_refused(make_model, make_context, samples):
    model = make_model(network(4, 0))
    with pytest.raises(PassError) as caught:
        distill(model, DistillOptions(method="chain"), make_context(train=samples(64), teachers=lambda: (model,)))
    assert "edgekit.nets.chain:chain" in caught.value.fix
