from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.data.metrics import METRICS
from edgekit.data.samples import Samples
from edgekit.data.score import Score
from edgekit.nets.load import build
from edgekit.pipeline.artifacts import HERE
from edgekit.pipeline.evaluate import network_metric, network_outputs, run_artifact
from edgekit.pipeline.parity import Expected
from edgekit.profiling.inference import Inference
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets

from .test_parity import row

SCORE = Score(METRICS["top1"])


def test_outputs_do_not_depend_on_the_batch_and_the_network_is_left_as_it_was():
    model = nets.model(nets.TINY_CONV)
    network = model.network.train()
    inputs = torch.randn(251, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    (found,) = network_outputs(model, Samples((inputs,), torch.zeros(251))).values()
    assert network.training
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), network(inputs), rtol=1e-5, atol=1e-5)


def test_the_metric_counts_every_sample_once():
    model = nets.model(nets.TINY_CONV)
    inputs = torch.randn(300, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = model.network(inputs).argmax(1)
    labels[:30] = (labels[:30] + 1) % 3
    assert network_metric(model, Samples((inputs,), labels), SCORE) == (pytest.approx(0.9), {})


def test_parts_of_a_metric_come_with_it():
    model = nets.model(nets.TINY_CONV)
    inputs = torch.randn(300, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    samples = Samples((inputs,), model.network(inputs).argmax(1))
    value, details = network_metric(model, samples, Score(METRICS["per_class"]))
    assert (value, set(details.values())) == (1.0, {1.0})


def test_a_network_of_two_inputs_takes_samples_of_two():
    spec = (InputSpec(name="a", shape=(1, 2)), InputSpec(name="b", shape=(1, 2)))
    model = build(ModelSource(factory="torch.nn:Bilinear", inputs=spec, arguments=_BILINEAR))
    left, right = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])
    both = Samples((left, right), torch.zeros(1, dtype=torch.int64))
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(network_outputs(model, both)["output"]), model.network(left, right))


SPECS = (InputSpec(name="x", shape=(1, 2), layout="NC"),)
_BILINEAR = {"in1_features": 2, "in2_features": 2, "out_features": 2}


def test_parity_and_test_samples_go_in_one_job_and_are_told_apart():
    expected = Expected((torch.ones(3, 2),), {"y": torch.ones(3, 2)}, {"y": 0.5})
    test = Samples((torch.tensor([[0.0, 5.0], [5.0, 0.0]]),), torch.tensor([1, 1]))
    asked = []

    def infer(device, path, row, runtime, inputs, layouts):
        asked.append((device, path, runtime, inputs["x"].shape, layouts))
        outputs = inputs["x"].copy()
        outputs[0, 0] += 0.5  # one code off in a parity sample
        return Inference({"y": outputs}, {}, runtime, "1.2")

    run = run_artifact(HERE, Path("m.onnx"), row(), "onnxruntime", expected, test, SCORE, specs=SPECS, infer=infer)
    assert asked == [(HERE, Path("m.onnx"), "onnxruntime", (5, 2), {"x": "NC"})]
    assert (run.metric, run.runtime) == (0.5, "onnxruntime 1.2")
    assert run.parity.max_code_error == 1
    np.testing.assert_array_equal(run.outputs["y"], [[1.5, 1], [1, 1], [1, 1]])
