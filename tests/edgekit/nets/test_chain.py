import pytest
import torch
from torch import nn

from edgekit.errors import ModelError
from edgekit.nets.chain import Chain, chain
from edgekit.nets.load import build
from edgekit.nets.saved import load_model, save_model
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec

STUDENT = {"factory": "tests.nets:tiny_conv"}


class Says(nn.Module):
    """Gives a multiple of its input, and counts the samples that it is asked."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.asked = factor, 0

    def forward(self, x):
        self.asked += len(x)
        return self.factor * x


def three() -> Chain:
    made = Chain([Says(1.0), Says(2.0), Says(4.0)])
    for index, weight in enumerate((1.0, 0.5, 0.25)):
        made.weight(index).fill_(weight)
    return made


def test_it_is_the_weighted_sum_of_its_students():
    x = torch.tensor([[1.0, -2.0]])
    assert [total.tolist() for total in three().partial_sums(x)] == [[[1, -2]], [[2, -4]], [[3, -6]]]
    assert three()(x).tolist() == [[3, -6]]


def test_a_sample_leaves_where_the_answer_is_sure_enough():
    # softmax of (m, 0) is above 0.9 where m > 2.197: after one student, after two, after three, never
    x = torch.tensor([[3.0, 0], [1.5, 0], [1.0, 0], [0.1, 0]])
    made = three()
    logits, runs = made.answer(x, threshold=0.9)
    assert runs.tolist() == [1, 2, 3, 3]
    assert logits[:, 0].tolist() == pytest.approx([3, 3, 3, 0.3])
    assert [student.asked for student in made.students] == [4, 3, 2]
    whole, runs = made.answer(x, threshold=1.0)
    assert torch.equal(whole, made(x))
    assert runs.tolist() == [3] * 4


def test_the_factory_makes_its_students_one_after_the_other_and_a_saved_chain_is_made_again(tmp_path):
    wide = {"factory": "tests.nets:tiny_conv", "arguments": {"width": 8}}
    spec = InputSpec(name="image", shape=(1, 2, 8, 8))
    source = ModelSource(factory="edgekit.nets.chain:chain", arguments={"students": [STUDENT, wide]}, inputs=(spec,))
    model = build(source)
    assert [student.conv.out_channels for student in model.network.students] == [4, 8]
    assert [name for name in model.network.state_dict() if name.startswith("weight")] == ["weight0", "weight1"]
    assert not any(name.startswith("weight") for name, _ in model.network.named_parameters())
    model.network.weight(1).fill_(0.375)
    save_model(model, tmp_path)
    (x,) = model.example(2)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path).network(x), model.network(x))


@pytest.mark.parametrize(
    ("students", "where"),
    [
        ([], ""),
        ("tests.nets:tiny_conv", ""),
        (["tests.nets:tiny_conv"], ".0"),
        ([STUDENT, {"arguments": {}}], ".1"),
        ([STUDENT, {**STUDENT, "weights": 1}], ".1"),
        ([{"factory": "tests.nets:tiny_cnov"}], ".0.factory: tests.nets:tiny_cnov"),
        ([{**STUDENT, "arguments": {"widht": 8}}], ".0.arguments"),
    ],
)
def test_a_student_that_is_not_written_so_is_named(students, where):
    with pytest.raises(ModelError) as caught:
        chain(students)
    assert caught.value.where == f"model.arguments.students{where}"
