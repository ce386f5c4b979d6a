"""How calibration samples are run: in batches of one program where they can be, each of them once."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch

from edgekit.data.samples import Samples
from edgekit.nets import program
from edgekit.passes.quantize.batches import batch_size
from edgekit.passes.quantize.calibrate import calibrate
from tests import nets
from tests.edgekit.formats.quantised import context


@pytest.mark.parametrize(
    ("count", "batch"), [(1024, 32), (100, 25), (1000, 25), (64, 32), (17, 17), (7, 7), (101, 32), (1, 1)]
)
def test_batches_are_whole_where_they_can_be(count: int, batch: int) -> None:
    assert batch_size([torch.zeros(count, 1, 2, 2)]) == batch


@pytest.mark.parametrize(("count", "batch"), [(200, 5), (64, 4), (101, 6), (3, 3)])
def test_large_samples_are_run_a_few_at_once(count: int, batch: int) -> None:
    assert batch_size([torch.zeros(1, 3, 224, 224).expand(count, 3, 224, 224)]) == batch


@pytest.mark.parametrize("count", [67, 40])
def test_each_sample_is_seen_once(count: int) -> None:
    model = nets.model(nets.TINY_CONV)
    (inputs,) = model.example(count, seed=1)
    samples = Samples((inputs,), torch.zeros(count, dtype=torch.int64))
    given = replace(context(model), progress=lambda done, total, note="": told.append(done))
    told: list[int] = []
    traced = program.trace(model, batch_size([inputs]))
    with patch("edgekit.passes.quantize.calibrate.trace", wraps=program.trace) as again:
        seen = calibrate(model, traced, samples, given)
    assert again.call_count == (1 if count == 67 else 0)
    assert told[-1] == count
    mean = seen.means["conv/conv2d"].mean
    torch.testing.assert_close(mean, inputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert sum(seen.histograms["input:image"].counts) == inputs.numel()
