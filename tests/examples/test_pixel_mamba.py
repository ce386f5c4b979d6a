"""The example of published Mambas: the layer against two witnesses, the scan against a loop, a build from the file."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from edgekit.cli.main import cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "pixel_mamba"
SHIPPED = EXAMPLE.parents[1] / "calib"


@pytest.fixture(scope="module")
def net() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(EXAMPLE / "net.py")))


def one_after_another(decay, inflow):
    states = [inflow[:, 0]]
    for t in range(1, inflow.shape[1]):
        states.append(decay[:, t] * states[-1] + inflow[:, t])
    return torch.stack(states, 1)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 49, 100])
def test_the_scan_is_the_recurrence(net, steps):
    generator = torch.Generator().manual_seed(steps)
    decay = torch.rand((2, steps, 5), generator=generator, dtype=torch.float64)
    inflow = torch.randn((2, steps, 5), generator=generator, dtype=torch.float64)
    torch.testing.assert_close(net.scan(decay, inflow), one_after_another(decay, inflow), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore")  # transformers warns about kernels that it would rather have
def test_the_layer_is_the_one_of_transformers(net):
    modeling = pytest.importorskip("transformers.models.mamba.modeling_mamba", reason="a witness, not a dependency")
    config = modeling.MambaConfig(
        vocab_size=2, hidden_size=6, state_size=5, num_hidden_layers=1, expand=2, conv_kernel=4, time_step_rank=3
    )
    torch.manual_seed(0)
    theirs = modeling.MambaMixer(config, layer_idx=0).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
        ours = net.Mamba(width=6, channels=12, states=5, rank=3).eval()
        ours.load_state_dict(theirs.state_dict())
        u = torch.randn(2, 19, 6)
        torch.testing.assert_close(ours(u), theirs(u), rtol=1e-5, atol=1e-6)


def test_many_samples_give_what_few_do(net):
    torch.manual_seed(0)
    network = net.pixel_mamba().eval()
    images = torch.randn(5, 1, 4, 4)
    with torch.no_grad():
        alone = torch.cat([network(images[i : i + 1]) for i in range(5)])
        torch.testing.assert_close(network(images), alone, rtol=1e-5, atol=1e-6)


def few(source, folder, test):
    """A calibration set of fewer samples than the example's own: the whole test set takes minutes."""
    found = yaml.safe_load(source.read_text()) | {"name": "few"}
    found["test"]["count"], found["selection"]["count"], found["calibration"]["count"] = test, 10, 16
    (folder / "calib" / "few.yaml").write_text(yaml.safe_dump(found))


def build(recipe, least):
    changes = ["--set", "data=few", "--set", "export.formats=[onnx]", "--set", f"gates.float_metric.at_least={least}"]
    result = CliRunner().invoke(cli, ["build", recipe, "--target", "cpu", *changes, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["manifest"]


@pytest.mark.parametrize(
    ("recipe", "data", "test", "least", "params"),
    [
        ("patches.yaml", EXAMPLE / "calib" / "cifar10-halves.yaml", 500, 0.65, 69_066),
        # 784 steps: half a minute
        pytest.param("edgekit.yaml", SHIPPED / "mnist.yaml", 100, 0.98, 66_186, marks=pytest.mark.slow),
    ],
)
def test_published_weights_answer_in_onnx_as_in_pytorch(workplace_with_data, recipe, data, test, least, params):
    pytest.importorskip("onnxruntime", reason="runs the ONNX artifact")
    few(data, workplace_with_data, test)
    manifest = build(recipe, least)
    assert manifest["steps"][0]["after"]["params"] == params
    metrics = manifest["metrics"]
    assert metrics["samples"] == test
    assert metrics["per_artifact"]["model.onnx"]["top1"]["value"] == metrics["float"]["top1"]
    assert [row["passed"] for row in manifest["parity"]] == [True]


def test_the_published_weights_read_pixels(net, data_folder):
    network = net.pixel_mamba().eval()
    with np.load(data_folder / "weights" / "mnist_mamba.npz") as weights:
        network.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    with np.load(data_folder / "mnist.npz") as digits:
        images, labels = digits["test_images"][:60], torch.from_numpy(digits["test_labels"][:60])
    with torch.no_grad():
        answers = network((torch.from_numpy(images)[:, None] / 255 - 0.1307) / 0.3081).argmax(1)
    assert (answers == labels).sum() >= 57  # 98.21 % of all 10,000, and two mistakes are among these
