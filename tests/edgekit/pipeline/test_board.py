from types import SimpleNamespace

import numpy as np
import torch

from edgekit.data.metrics import METRICS
from edgekit.data.samples import RawSamples, Samples
from edgekit.data.score import Score
from edgekit.errors import DeviceError
from edgekit.pipeline.artifacts import HERE
from edgekit.pipeline.board import evaluate_on, shown
from edgekit.pipeline.progress import Silent
from edgekit.profiling.inference import Inference
from edgekit.schema.device import Device
from edgekit.schema.metric import MetricSpec
from edgekit.schema.tensors import InputSpec

PI = Device(name="pi", target="raspberry-pi-5", transport="ssh", address="pi")
LABELS = np.array([0, 1, 0, 1])


SPECS = (InputSpec(name="image", shape=(1, 1)),)


def artifact(path: str):
    row = SimpleNamespace(path=path, feedback={}, outputs=[SimpleNamespace(network_name="logits")])
    variant = SimpleNamespace(runtime="tflite-runtime", local_runtime="litert", format="tflite")
    return SimpleNamespace(path=path, row=row, planned=SimpleNamespace(variant=variant))


def workshop(lines):
    recipe = SimpleNamespace(metric=MetricSpec(name="top1"))
    raw = np.arange(4, dtype=np.uint8)[:, None]
    return SimpleNamespace(
        data=SimpleNamespace(
            raw_test=RawSamples((raw,), LABELS),
            test=Samples((torch.from_numpy(raw / 4).float(),), torch.from_numpy(LABELS)),
        ),
        plan=SimpleNamespace(recipe=SimpleNamespace(recipe=recipe)),
        score=Score(METRICS["top1"]),
        reporter=SimpleNamespace(task=Silent().task, note=lines.append),
    )


def evaluated(shipped, *, most=None, instead_of=None, broken=""):
    """A board that answers the third sample otherwise than this machine does."""
    asked, lines = [], []

    def infer(device, path, row, runtime, *, inputs, input_layouts, raw, **how):
        asked.append((device.name, runtime, len(inputs["image"]), raw, input_layouts["image"]))
        if device is not HERE and row.path == broken:
            raise DeviceError("no reply in 30 s", "device pi", "switch it on")
        logits = np.eye(2, dtype=np.float32)[LABELS[: len(inputs["image"])]]
        if device is not HERE and len(logits) > 2:
            logits[2] = [0.0, 1.0]
        return Inference({"logits": logits}, {}, runtime, "9")

    session = SimpleNamespace(device=PI)
    found = evaluate_on(session, instead_of, shipped, workshop(lines), SPECS, most, infer=infer)
    return found, asked, lines


def test_the_board_gets_raw_samples_and_is_compared_with_this_machine_answer_by_answer():
    found, asked, lines = evaluated([artifact("model.tflite")])
    (row,) = found.rows
    assert (row.value, row.host_value, row.samples) == (0.75, 1.0, 4)
    assert (row.agreement_ratio, row.max_abs_error) == (0.75, 1.0)
    assert (row.device, row.runtime, row.stand_in) == ("pi", "tflite-runtime 9", False)
    assert asked == [("pi", "tflite-runtime", 4, True, "NCHW"), ("local", "litert", 4, True, "NCHW")]
    assert lines == ["model.tflite on pi: top1 0.7500 of 4 samples, 1.0000 here; 75.00% of the answers agree"]
    assert not found.failed


def test_fewer_samples_are_said_and_a_stand_in_is_labelled():
    found, _, lines = evaluated([artifact("model.tflite")], most=2, instead_of="raspberry-pi-5")
    assert (found.rows[0].samples, found.rows[0].agreement_ratio, found.rows[0].stand_in) == (2, 1.0, True)
    assert "on pi (stand-in for raspberry-pi-5): top1 1.0000 of 2 samples, the same here" in lines[0]


def test_what_does_not_run_there_leaves_a_reason_and_the_others_are_tested():
    found, _, _ = evaluated([artifact("model.onnx"), artifact("model.tflite")], broken="model.onnx")
    assert [row.artifact for row in found.rows] == ["model.tflite"]
    assert [(row.where, row.reason) for row in found.skipped] == [
        ("model.onnx on pi", "no reply in 30 s; switch it on"),
    ]
    assert found.failed


def test_what_the_agent_tells_is_shown():
    seen = []
    tell = shown(lambda done, total, note="": seen.append((done, total, note)))
    tell({"stage": "waiting for the board", "position": 2, "holder": "ada@desk"})
    tell({"stage": "building the engine", "done": 3, "total": 20, "left_s": 41.4})
    tell({"done": 20, "total": 20})
    assert seen == [
        (0, 1, "waiting for the board: 2 before us, ada@desk has it"),
        (3, 20, "building the engine, 41 s left"),
        (20, 20, ""),
    ]
