"""What calibration keeps in memory, measured from outside: a process's peak resident memory."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource, sys
from dataclasses import replace
import torch
from torch import nn
from edgekit.data.samples import Samples, Splits
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests.edgekit.formats.quantised import context

torch.set_num_threads(1)
count = int(sys.argv[1])
network = nn.Sequential(nn.Conv2d(1, 2, 3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)).eval()
source = ModelSource(factory="none:none", inputs=(InputSpec(name="image", shape=(1, 1, 32, 32)),))
model = Model(network, source, find_outputs(network, source))
# samples that differ and take no memory: windows of one long row of noise
noise = torch.randn(1024 + 10_000, generator=torch.Generator().manual_seed(0))
inputs = noise.as_strided((count, 1, 32, 32), (1, 1024, 32, 1))
given = replace(context(model), splits=Splits(None, Samples((inputs,), torch.zeros(count).long()), None, ""))
quantize(model, QuantizeOptions(), given)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


def _peak_kb(count: int) -> int:
    command = [sys.executable, "-c", PROGRAM, str(count)]
    return int(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]))


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is in KB on Linux only")
def test_ten_thousand_samples_take_the_memory_of_a_hundred() -> None:
    # 10,000 samples are 41 MB, a tenth of what importing torch takes: keeping them, or what they become, shows
    assert _peak_kb(10_000) <= _peak_kb(100) * 1.05
