import subprocess
import sys
from dataclasses import dataclass

import pytest

from edgekit.errors import PassError
from edgekit.passes.table import PASSES, Pass, find_pass, run_pass
from edgekit.schema.passes import ReparamOptions
from edgekit.schema.prune import PruneOptions


@dataclass(frozen=True)
class Counted:
    count: int


TABLE = {"count": Pass(ReparamOptions, lambda: lambda model, options, context: Counted(model.count + 1), needs="any")}


def test_reading_the_table_imports_no_torch():
    code = "import sys, edgekit.passes.table as t; assert len(t.PASSES) > 4; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", sorted(PASSES))
def test_every_row_loads_the_function_of_its_name(name):
    assert PASSES[name].load().__name__ == name


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(PassError) as error:
        find_pass("prun", "kws.yaml, step 2")
    assert error.value.where == "kws.yaml, step 2"
    assert "'prune'" in error.value.fix


def test_a_pass_is_run_from_the_table_that_is_given():
    assert run_pass("count", Counted(1), ReparamOptions(), None, TABLE) == Counted(2)


def test_options_of_another_pass_are_refused():
    with pytest.raises(PassError) as error:
        run_pass("count", Counted(1), PruneOptions(channel_ratio=0.5), None, TABLE)
    assert "ReparamOptions" in error.value.what
