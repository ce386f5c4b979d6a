import pytest
from pydantic import ValidationError

from edgekit.schema.distill import DistillOptions
from edgekit.schema.sparsity import SparsityOptions


def test_two_of_four_is_half_and_the_others_are_80_per_cent():
    assert SparsityOptions().final_ratio == 0.8
    assert SparsityOptions(pattern="2:4").final_ratio == 0.5
    assert SparsityOptions(final=0.9).final_ratio == 0.9


def test_a_quarter_of_the_steps_and_more_recover_by_default():
    assert 1 - SparsityOptions().end_ratio >= 0.25


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "one_shot", "end_ratio": 0.5}, "end_ratio with method one_shot"),
        ({"method": "hold", "final": 0.5}, "final with method hold"),
        ({"block": [2, 2]}, "a block with pattern unstructured"),
        ({"pattern": "2:4", "final": 0.8}, "another share of zeros than 0.5 with pattern 2:4"),
        ({"pattern": "2:4", "scope": "global"}, "scope global with pattern 2:4"),
        ({"begin_ratio": 0.7}, "a ramp from 0.7 to 0.7 of the steps"),
        ({"initial": 0.9}, "a share of zeros that goes from 0.9 to 0.8"),
        ({"scope": "global", "final": 0.99}, "layers that each keep 0.02 and together 0.01"),
        ({"pattern": "block", "block": [0, 4]}, "block holds two numbers of at least 1"),
    ],
)
def test_what_contradicts_itself_is_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        SparsityOptions.model_validate(given)


def test_students_learn_sparsely_but_not_one_after_the_other():
    assert DistillOptions.model_validate({"sparsity": {"final": 0.5}}).sparsity.final_ratio == 0.5
    for name in ("sparsity", "group_sparsity"):
        with pytest.raises(ValidationError, match=f"^1 validation error.*\\s.*{name} with method chain"):
            DistillOptions.model_validate({"method": "chain", name: {}})
