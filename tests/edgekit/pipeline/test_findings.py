"""What the lint finds is kept, and looked for anew when other samples were used."""

from edgekit.data.splits import find_data
from edgekit.pipeline.findings import find_faults
from edgekit.pipeline.plan import make_plan
from edgekit.pipeline.progress import Silent
from edgekit.pipeline.run import Workshop, run_steps
from edgekit.schema.load import load_recipe, load_target
from edgekit.store.steps import StepStore
from tests.edgekit.pipeline.conftest import RECIPE


def _findings(workplace, steps: str, load_data=find_data):
    (workplace / "own.yaml").write_text(RECIPE.replace("  - quantize\n", steps))
    store = StepStore(workplace / "steps")
    plan = make_plan(load_recipe("own.yaml"), load_target("cpu-x86-64"), None, store)
    workshop = Workshop(plan, store, Silent(), load_data=load_data)
    return find_faults(run_steps(workshop), workshop)


def _refuse(name: str):
    raise AssertionError("nothing is stored")


def test_the_samples_that_were_used_are_looked_at_once(workplace) -> None:
    (few,) = _findings(workplace, "  - quantize\n")
    assert few.what.startswith("24 samples")
    assert _findings(workplace, "  - quantize\n", load_data=_refuse) == (few,)
    (fewer,) = _findings(workplace, "  - quantize: {choose: {count: 7}}\n")
    assert fewer.what.startswith("7 samples")


def test_a_build_that_calibrates_nothing_is_asked_for_overlap_alone(workplace) -> None:
    assert _findings(workplace, "") == ()
