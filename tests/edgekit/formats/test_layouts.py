"""Layouts of a network's numbers in memory, and of its input: the artifact computes what the plain network's does."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.data.samples import Samples, Splits
from edgekit.formats.onnx.export import export_onnx
from edgekit.formats.tflite.export import export_tflite
from edgekit.nets.load import build
from edgekit.nets.model import Model
from edgekit.passes.quantize.quantize import quantize
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets
from tests.edgekit.formats.quantised import context

N, C, H, W = nets.TINY_CONV.shape


class Rearranged(nn.Module):
    """The plain network, whose input is brought into another order of axes, or of memory."""

    def __init__(self, nhwc: bool) -> None:
        super().__init__()
        self.network, self.nhwc = nets.tiny_conv(), nhwc

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2) if self.nhwc else x.contiguous(memory_format=torch.channels_last)
        return self.network(x)  # type: ignore[no-any-return]


def weights_channels_last() -> nn.Module:
    return nets.tiny_conv().to(memory_format=torch.channels_last)


def all_channels_last() -> nn.Module:
    return Rearranged(nhwc=False).to(memory_format=torch.channels_last)


def input_channels_last() -> nn.Module:
    return Rearranged(nhwc=True)


@cache
def made(factory: str, nhwc: bool = False, integers: bool = True) -> Model:
    """Loaded as a recipe says, and quantised on the same samples in the layout that the network takes."""
    shape, layout = ((N, H, W, C), "NHWC") if nhwc else ((N, C, H, W), "NCHW")
    source = ModelSource(factory=factory, inputs=(InputSpec(name="image", shape=shape, layout=layout),))
    model = build(source)
    if not integers:
        return model
    (images,) = nets.model(nets.TINY_CONV).example(40, seed=3)
    images = images.permute(0, 2, 3, 1).contiguous() if nhwc else images
    splits = Splits(None, Samples((images,), torch.zeros(40, dtype=torch.int64)), None, "digest")
    return quantize(model, QuantizeOptions(), replace(context(nets.model(nets.TINY_CONV)), splits=splits))


def answers(model: Model, folder: Path, nhwc: bool = False) -> np.ndarray:
    """What ONNX Runtime gives for 8 images."""
    onnxruntime = pytest.importorskip("onnxruntime")
    (images,) = nets.model(nets.TINY_CONV).example(8, seed=5)
    artifact = export_onnx(model, "onnxruntime-arm", folder, "model", Export(batch=8))
    session = onnxruntime.InferenceSession(str(artifact.path), providers=["CPUExecutionProvider"])
    feed = images.permute(0, 2, 3, 1) if nhwc else images
    return np.asarray(session.run(None, {"image": feed.contiguous().numpy()})[0])


@pytest.mark.parametrize("factory", ["weights_channels_last", "all_channels_last"])
def test_a_network_in_channels_last_memory_gives_the_same_file(factory: str, tmp_path: Path) -> None:
    plain, other = made(nets.TINY_CONV.factory), made(f"{__name__}:{factory}")
    if factory == "weights_channels_last":  # the other one's layers have other names
        digests = {
            export_onnx(model, "onnxruntime-arm", tmp_path / name, "model", Export(batch=8)).row.sha256
            for name, model in (("p", plain), ("o", other))
        }
        assert len(digests) == 1
        return
    assert np.array_equal(answers(plain, tmp_path / "p"), answers(other, tmp_path / "o"))


def test_a_network_that_takes_channels_last_answers_as_the_plain_one(tmp_path: Path) -> None:
    plain = made(nets.TINY_CONV.factory)
    other = made(f"{__name__}:input_channels_last", nhwc=True)
    wanted, found = answers(plain, tmp_path / "p"), answers(other, tmp_path / "o", nhwc=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)  # the same codes; PyTorch's kernels round ranges otherwise


def test_tflite_takes_it_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("litert_torch")
    from ai_edge_litert.interpreter import Interpreter

    model = made(f"{__name__}:input_channels_last", nhwc=True, integers=False)
    artifact = export_tflite(model, "litert", tmp_path, "model", Export())
    interpreter = Interpreter(str(artifact.path))
    interpreter.allocate_tensors()
    given, found = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert given["shape"].tolist() == [N, H, W, C]
    assert "TRANSPOSE" not in {row["op_name"] for row in interpreter._get_ops_details()}
    (images,) = nets.model(nets.TINY_CONV).example(1, seed=5)
    interpreter.set_tensor(given["index"], images.permute(0, 2, 3, 1).contiguous().numpy())
    interpreter.invoke()
    with torch.no_grad():
        wanted = nets.tiny_conv()(images).numpy()
    np.testing.assert_allclose(interpreter.get_tensor(found["index"]), wanted, rtol=1e-4, atol=1e-5)
