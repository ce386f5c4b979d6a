import pytest

from edgekit.errors import SchemaError
from edgekit.schema.distill import DistillOptions
from edgekit.schema.json_schema import json_schema
from edgekit.schema.pass_options import parse_options
from edgekit.schema.recipe import Step
from edgekit.schema.recover import RecoverOptions, spell_out

PRUNE = {"budget": {"macs_ratio": 0.5}}


def prune(recover):
    return Step(name="prune", options={**PRUNE, "recover": recover})


def test_a_block_is_a_step_of_its_own_behind_the_pass():
    placed = spell_out((Step(name="train"), prune({"epochs": 7, "method": "nkd"}), Step(name="quantize")))
    assert [(one.step.name, one.index, one.keys) for one in placed] == [
        ("train", 0, ("train",)),
        ("prune", 1, ("prune",)),
        ("distill", 1, ("prune", "recover")),
        ("quantize", 2, ("quantize",)),
    ]
    assert placed[1].step.options == PRUNE  # so that pruning is not done again where only its recovery changes
    assert placed[2].step.options == {"epochs": 7, "method": "nkd"}


def test_what_is_not_given_is_brief_and_without_labels():
    (_, recovering) = spell_out((prune({}),))
    options = DistillOptions(**recovering.step.options)
    assert (options.method, options.epochs, options.alpha, options.weight_decay) == ("kd", 3, 1, 0)
    assert options.model_dump() == RecoverOptions().model_dump()
    (_, other) = spell_out((prune({"method": "at", "epochs": 1}),))
    assert DistillOptions(**other.step.options) == DistillOptions(method="at", epochs=1)
    assert len(spell_out((prune(None),))) == 1


@pytest.mark.parametrize("name", ["prune", "reparam", "equalise"])
def test_passes_that_leave_a_network_to_train_may_carry_it(name):
    step = Step(name=name, options={"recover": {"epochs": 1}, **(PRUNE if name == "prune" else {})})
    assert parse_options(step, "r.yaml: steps.0").recover.epochs == 1
    assert "recover" in json_schema(name)["properties"]


def test_a_wrong_key_is_named_below_the_block():
    with pytest.raises(SchemaError) as caught:
        parse_options(prune({"epoch": 3}), "r.yaml: steps.2")
    assert caught.value.where == "r.yaml: steps.2.prune.recover"
    assert "'epochs'" in caught.value.fix
    with pytest.raises(SchemaError) as caught:
        parse_options(prune({"epochs": 0}), "r.yaml: steps.2")
    assert caught.value.where == "r.yaml: steps.2.prune.recover.epochs"


@pytest.mark.parametrize(("name", "why"), [("quantize", "codes are not trained"), ("train", "raise its epochs")])
def test_passes_that_cannot_carry_it_say_why(name, why):
    with pytest.raises(SchemaError) as caught:
        parse_options(Step(name=name, options={"recover": {"epochs": 3}}), "r.yaml: steps.1")
    assert why in caught.value.what
    assert caught.value.where == f"r.yaml: steps.1.{name}"
    assert "prune" in caught.value.fix
