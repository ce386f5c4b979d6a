"""A change of what the user's data function reads is a change of every key."""

from dataclasses import replace

import pytest

from edgekit.errors import DataError
from edgekit.pipeline.build import _with_own_data
from edgekit.pipeline.own_data import recall, remember
from edgekit.pipeline.progress import Silent
from edgekit.pipeline.request import BuildRequest, plan_build
from edgekit.pipeline.run import Workshop
from edgekit.store.steps import StepStore

FUNCTION = """
import numpy as np

def samples():
    inputs = np.load("inputs.npy")
    return {name: (inputs, np.zeros(len(inputs), np.int64)) for name in ("calibration", "test")}
"""


def test_what_a_function_gave_last_is_noted(tmp_path, caplog):
    assert recall(tmp_path / "home", "a:b") is None
    remember(tmp_path / "home", "a:b", "1")
    remember(tmp_path / "home", "a:c", "2")
    remember(tmp_path / "home", "a:b", "3")
    assert (recall(tmp_path / "home", "a:b"), recall(tmp_path / "home", "a:c")) == ("3", "2")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["own-data.json"]
    (tmp_path / "home" / "own-data.json").write_text("{half")
    assert recall(tmp_path / "home", "a:b") is None
    (tmp_path / "file").write_text("")
    remember(tmp_path / "file", "a:b", "1")
    assert "file/own-data.json" in caplog.text


def test_other_samples_make_other_keys_and_a_plan_knows_those_of_the_last_build(workplace):
    import numpy as np

    (workplace / "own_data_of_a_test.py").write_text(FUNCTION)
    request = BuildRequest("own.yaml", "cpu-x86-64", settings=("data=own_data_of_a_test:samples", "steps=[quantize]"))
    store = StepStore(request.home / "steps")

    def planned():
        return [step.key.key for step in plan_build(request, store).steps]

    def built():
        workshop = Workshop(plan_build(request, store), store, Silent())
        return _with_own_data(workshop, request)

    np.save("inputs.npy", np.zeros((20, 1, 4, 4), np.float32))
    unknown = planned()
    first = built()
    keys = [step.key.key for step in first.plan.steps]
    assert set(keys).isdisjoint(unknown)
    assert planned() == keys  # runs nothing, and knows
    assert [step.key.key for step in built().plan.steps] == keys
    assert len(first.data.test) == 20

    np.save("inputs.npy", np.ones((20, 1, 4, 4), np.float32))
    assert planned() == keys  # no build has seen it yet
    with pytest.raises(DataError) as caught:  # what only looks must not store the new under the keys of the old
        _ = Workshop(plan_build(request, store), store, Silent()).data
    assert caught.value.where == "data: own_data_of_a_test:samples"
    changed = built()
    assert set(keys).isdisjoint(step.key.key for step in changed.plan.steps)
    assert planned() == [step.key.key for step in changed.plan.steps]
    assert float(replace(changed).data.test.inputs[0].mean()) == 1
