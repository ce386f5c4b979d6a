from dataclasses import replace

import onnx
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.formats.onnx.export import export_onnx
from edgekit.passes.distill.distill import distill
from edgekit.passes.distill.table import METHODS
from edgekit.passes.loop import digest_state
from edgekit.schema.distill import METHOD_OPTIONS, DistillOptions
from edgekit.schema.recipe import Export


def test_labels_and_teacher_are_weighed_by_alpha(make_model, make_context):
    """What a network of one number learns between two that it is told."""
    model, teacher = make_model(nn.Linear(1, 1), (1, 1)), make_model(nn.Linear(1, 1), (1, 1))
    with torch.no_grad():
        model.network.weight.fill_(0.5)
        model.network.bias.fill_(0.0)
        teacher.network.weight.fill_(0.0)
        teacher.network.bias.fill_(2.0)
    data = Samples((torch.randn((64, 1), generator=torch.Generator().manual_seed(0)),), torch.full((64, 1), 6.0))
    options = DistillOptions(epochs=30, batch_size=32, learning_rate=0.1, alpha=0.75, loss="mse", weight_decay=0)
    taught = distill(model, options, make_context(train=data, calibration=data, teachers=lambda: (teacher,)))
    assert taught.network.bias.item() == pytest.approx(0.25 * 6 + 0.75 * 2, abs=0.02)


def test_other_classes_are_refused(make_model, make_context, samples):
    student, teacher = (make_model(nn.Sequential(nn.Flatten(), nn.Linear(64, classes))) for classes in (4, 3))
    with pytest.raises(PassError) as error:
        distill(student, DistillOptions(epochs=1), make_context(train=samples(64), teachers=lambda: (teacher,)))
    assert "(64, 3)" in error.value.what


def _network(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 4))


def test_the_student_learns_what_only_the_teacher_knows(make_model, make_context, samples):
    teacher, student = make_model(_network(32, 1)), make_model(_network(16, 2))
    with torch.no_grad():
        teacher.network[4].weight *= 4  # decided answers, right or wrong
    before = digest_state(teacher.network), digest_state(student.network)
    data = samples(512)
    options = DistillOptions(epochs=15, batch_size=32, learning_rate=0.05, alpha=1.0, temperature=2.0)
    taught = distill(student, options, make_context(train=data, teachers=lambda: (teacher,)))
    with torch.no_grad():
        answers = [model.network(data.inputs[0]).argmax(1) for model in (teacher, taught, student)]
    assert (answers[0] == data.labels).float().mean() < 0.5  # the labels alone do not lead there
    assert (answers[1] == answers[0]).float().mean() > 0.85
    assert (answers[2] == answers[0]).float().mean() < 0.6
    assert (digest_state(teacher.network), digest_state(student.network)) == before
    assert teacher.network[4].weight.requires_grad
    assert taught.history == ("distill",)


def test_teacher_sees_the_batch_that_the_student_sees(make_model, make_context, samples):
    seen = []

    class Watched(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name
            self.linear = nn.Linear(64, 4)

        def forward(self, x):
            seen.append((self.name, x.clone(), self.training))
            return self.linear(x.flatten(1))

    teacher, student = make_model(Watched("teacher")), make_model(Watched("student"))
    seen.clear()
    options = DistillOptions(epochs=1, batch_size=8, augment=("flip", "shift"), shift_pixels=2)
    distill(student, options, make_context(train=samples(16), teachers=lambda: (teacher,)))
    assert [(name, training) for name, _, training in seen] == [("student", True), ("teacher", False)] * 2
    assert torch.equal(seen[0][1], seen[1][1])
    assert torch.equal(seen[2][1], seen[3][1])


def _pictures(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 4, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(16, 4),
    )


def test_the_table_has_every_method():
    assert {*METHODS, "chain"} == {"kd", *METHOD_OPTIONS}  # which is several trainings


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_trains_what_it_needs_and_leaves_no_trace_of_it(name, make_model, make_context, samples, tmp_path):
    """A killed run goes on to the same bits, with what is trained beside the student; the teacher stays as it was."""
    student, teacher = make_model(_pictures(4, 2)), make_model(_pictures(8, 1))
    own = {"meal": {"discriminator": True}} if name == "meal" else {}
    options = DistillOptions(method=name, epochs=3, batch_size=16, **own)
    before = digest_state(teacher.network), digest_state(student.network)

    def context(folder, progress=lambda done, total, note="": None):
        data = {"train": samples(64), "teachers": lambda: (teacher,)}
        return make_context(**data, folder=tmp_path / folder, progress=progress)

    taught = distill(student, options, context("whole"))
    assert list(taught.network.state_dict()) == list(student.network.state_dict())
    assert not any(module._forward_hooks for module in (*taught.network.modules(), *teacher.network.modules()))
    assert (digest_state(teacher.network), digest_state(student.network)) == before
    assert digest_state(taught.network) != before[1]

    def kill(done, total, note=""):
        if done == 6:  # in the middle of the second epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(student, options, context("killed", kill))
    saved = load_file(tmp_path / "killed" / "training.safetensors")
    assert any(key.startswith("parts.") for key in saved) == (name in {"uskd", "fitnets", "mgd", "meal"})
    resumed = distill(student, options, context("killed"))
    assert digest_state(resumed.network) == digest_state(taught.network)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_network_in_halves_has_a_finite_loss(name, make_model, make_context, samples):
    """Differences of logits near the largest half are beyond it."""

    class Halves(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return (4000 * self.network(x)).clamp(-60000, 60000).half()

    student, teacher = make_model(Halves(_pictures(4, 2))), make_model(Halves(_pictures(8, 1)))
    notes = []
    context = make_context(
        train=samples(32), teachers=lambda: (teacher,), progress=lambda done, total, note="": notes.append(note)
    )
    distill(student, DistillOptions(method=name, epochs=1, batch_size=32, learning_rate=1e-9), context)
    assert notes  # a loss that is not finite is refused


def test_modules_that_were_found_are_recorded(make_model, make_context, samples):
    student, teacher = make_model(_pictures(4, 2)), make_model(_pictures(8, 1))
    found = {}
    for method in ("kd", "uskd", "fitnets"):
        records = []
        context = replace(make_context(train=samples(32), teachers=lambda: (teacher,)), record=records.append)
        distill(student, DistillOptions(method=method, epochs=1, batch_size=16), context)
        found[method] = [[(pair.student, pair.teacher) for pair in row.taps] for row in records]
    assert found == {"kd": [], "uskd": [[("2", None)]], "fitnets": [[("2", "2"), ("4", "4")]]}


def test_what_is_trained_beside_the_student_follows_the_loss(make_model, make_context, samples, tmp_path):
    student, teacher = make_model(_pictures(4, 2)), make_model(_pictures(8, 1))
    options = DistillOptions(method="fitnets", epochs=2, batch_size=16, weight_decay=0)
    saved = []

    def watch(done, total, note=""):
        path = tmp_path / "step" / "training.safetensors"
        if path.is_file():
            saved.append(load_file(path)["parts.regressors.0.linear.weight"])

    data = samples(64)
    distill(student, options, make_context(train=data, teachers=lambda: (teacher,), progress=watch))
    saved.append(load_file(tmp_path / "step" / "training.safetensors")["parts.regressors.0.linear.weight"])
    assert not torch.equal(saved[0], saved[-1])


def test_several_teachers_are_for_methods_that_take_them(make_model, make_context, samples):
    student, teachers = make_model(_network(16, 2)), tuple(make_model(_network(32, seed)) for seed in (1, 3))
    data = samples(64)
    for method in ("kd", "meal"):
        options = DistillOptions(method=method, epochs=1, batch_size=64, learning_rate=0.1)
        context = make_context(train=data, teachers=lambda: teachers)
        both = digest_state(distill(student, options, context).network)
        one = digest_state(distill(student, options, make_context(train=data, teachers=lambda: teachers[:1])).network)
        assert both != one
    with pytest.raises(PassError) as error:
        distill(student, DistillOptions(method="nkd"), make_context(train=data, teachers=lambda: teachers))
    assert "kd, meal" in error.value.fix


def test_a_student_learns_from_itself_without_a_teacher(make_model, make_context, samples):
    """make_context fails where anybody asks for a teacher."""
    student = make_model(_pictures(4, 2))
    options = DistillOptions(method="uskd", epochs=10, batch_size=32, learning_rate=0.05)
    taught = distill(student, options, make_context(train=samples(256)))
    test = samples(200, seed=9)
    with torch.no_grad():
        assert (taught.network(test.inputs[0]).argmax(1) == test.labels).float().mean() > 0.9


def test_options_of_another_method_and_terms_that_it_has_not_are_refused():
    for wrong, word in (
        ({"nkd": {"gamma": 1}}, "method: nkd"),
        ({"method": "nkd", "alpha": 0.5}, "nkd.gamma"),
        ({"method": "dkd", "temperature": 2.0}, "dkd.temperature"),
        ({"method": "uskd", "loss": "mse"}, "method: kd"),
    ):
        with pytest.raises(ValidationError) as error:
            DistillOptions(**wrong)
        assert word in error.value.errors()[0]["ctx"]["fix"]
    assert DistillOptions(method="at").alpha == DistillOptions(method="rkd").alpha == 0
    assert DistillOptions(method="at", alpha=0.5).alpha == 0.5
    assert DistillOptions(method="fitnets").alpha == 0.9


def test_what_is_exported_is_the_student_alone(make_model, make_context, samples, tmp_path):
    student, teacher = make_model(_pictures(4, 2)), make_model(_pictures(8, 1))
    graphs = []
    for method in ("kd", "fitnets"):  # the one trains nothing beside the student
        context = make_context(train=samples(32), teachers=lambda: (teacher,), folder=tmp_path / method)
        taught = distill(student, DistillOptions(method=method, epochs=1, batch_size=16), context)
        artifact = export_onnx(taught, "onnxruntime-x86-vnni", tmp_path, method, Export())
        graph = onnx.load(artifact.path).graph
        nodes = [(node.op_type, tuple(node.input), tuple(node.output)) for node in graph.node]
        graphs.append((nodes, sorted((tensor.name, tuple(tensor.dims)) for tensor in graph.initializer)))
    assert graphs[0] == graphs[1]
    assert [kind for kind, *_ in graphs[0][0]] == ["Conv", "Relu", "Conv", "Relu", "Reshape", "Gemm"]
