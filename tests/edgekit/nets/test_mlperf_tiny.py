import numpy as np
import pytest
import torch

from edgekit.data.metrics.ranking import top1
from edgekit.data.splits import find_data
from edgekit.nets.load import build
from edgekit.schema.recipe import Checkpoint, ModelSource
from edgekit.schema.tensors import InputSpec


@pytest.fixture(autouse=True)
def _data(data_folder, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DATA", str(data_folder))


def pretrained(data_folder, factory, shape, file):
    source = ModelSource(
        factory=f"edgekit.nets.mlperf_tiny:{factory}",
        inputs=(InputSpec(name="x", shape=shape),),
        checkpoint=Checkpoint(path=str(data_folder / "weights" / file)),
    )
    return build(source).network


def right(network, samples):
    with torch.no_grad():
        return top1(network(samples.inputs[0]).numpy(), samples.labels.numpy()) * len(samples)


def test_resnet8_on_the_benchmarks_accuracy_set(data_folder):
    network = pretrained(data_folder, "resnet8", (1, 3, 32, 32), "mlperf_ic_resnet8.npz")
    chosen = np.load(data_folder / "cifar10_test.npz")["ic01"]
    test = find_data("cifar10-pixels").test
    subset = test.take(np.flatnonzero(chosen))
    assert len(subset) == 200
    assert right(network, subset) == pytest.approx(174, abs=1)  # 87.00 %
    assert sum(p.numel() for p in network.parameters()) == 78_186


def test_ds_cnn_on_the_benchmarks_accuracy_set(data_folder):
    network = pretrained(data_folder, "ds_cnn", (1, 1, 49, 10), "mlperf_kws_dscnn.npz")
    data = find_data("speech-commands")
    assert data.splits.selection is not None
    parts = (data.splits.calibration, data.splits.selection, data.test)
    assert sum(len(part) for part in parts) == 1000
    assert sum(right(network, part) for part in parts) == pytest.approx(913, abs=1)  # 91.30 %
    assert sum(p.numel() for p in network.parameters()) == 23_756


def test_resnet8_equals_the_published_float_tflite(data_folder):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    network = pretrained(data_folder, "resnet8", (1, 3, 32, 32), "mlperf_ic_resnet8.npz")
    witness = interpreter.Interpreter(str(data_folder / "weights" / "mlperf_ic_resnet8_float.tflite"), num_threads=1)
    witness.allocate_tensors()
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    witness.set_tensor(witness.get_input_details()[0]["index"], image)
    witness.invoke()
    wanted = witness.get_tensor(witness.get_output_details()[0]["index"])
    with torch.no_grad():
        got = network(torch.from_numpy(image).permute(0, 3, 1, 2)).softmax(1).numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-5)  # sums in another order
