"""What docs/your-*.md and docs/recipes.md show is used as it stands there."""

import re
from pathlib import Path

import pytest
import yaml

import edgekit as ek
from edgekit.schema.load import load_devices

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_target_of_the_page_is_planned_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (text,) = blocks("your-target.md", "yaml")
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / f"{yaml.safe_load(text)['name']}.yaml").write_text(text)
    assert ek.load_target("camera").target.name == "camera-soc"
    plan = ek.plan("quickstart", "camera")
    assert [(one.variant.format, one.variant.precision) for one in plan.artifacts] == [
        ("tflite", "int8"),
        ("onnx", "fp32"),
    ]
    assert plan.gates.latency_p50_ms.at_most == 20


def test_the_board_of_the_page_is_what_the_command_writes(tmp_path):
    text = blocks("your-board.md", "yaml")[0]
    (tmp_path / "devices.yaml").write_text(text)
    (device,) = load_devices(cwd=tmp_path).devices.devices
    assert (device.name, device.target, device.transport) == ("camera-1", "raspberry-pi-5", "ssh")


def test_the_pass_of_the_page_runs_on_a_network_that_can_be_made_again(tmp_path):
    torch = pytest.importorskip("torch")
    from types import SimpleNamespace

    from edgekit.nets.load import build
    from edgekit.nets.saved import load_model, save_model
    from edgekit.schema.recipe import ModelSource

    (text,) = blocks("your-pass.md", "python")
    page = {"__name__": "page"}
    exec(text, page)
    inputs = [{"name": "image", "shape": [1, 1, 8, 8]}]
    model = build(
        ModelSource(factory="edgekit.nets.repvgg:repvgg_digits", arguments={"widths": [8, 8, 8]}, inputs=inputs)
    )
    told = []
    context = SimpleNamespace(progress=lambda *words: told.append(words))
    after = page["run_pass"]("sparsify", model, page["SparsifyOptions"](ratio=0.5), context, page["TABLE"])
    assert after.history == (*model.history, "sparsify")
    for name, weight in after.network.named_parameters():
        if weight.ndim > 1:
            assert (weight == 0).sum() == weight.numel() // 2, name
    assert not any((weight == 0).any() for weight in model.network.parameters() if weight.ndim > 1)
    assert len(told) == sum(weight.ndim > 1 for weight in model.network.parameters())
    save_model(after, tmp_path / "model")
    (x,) = after.example(2)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "model").network(x), after.network(x))


@pytest.mark.parametrize("text", [text for text in blocks("recipes.md", "yaml") if text.startswith("extends:")])
def test_the_recipes_that_extend_others_are_planned(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKIT_DATA", "/data")
    (tmp_path / "edgekit.yaml").write_text(text)
    found = ek.load_recipe("edgekit.yaml").recipe
    assert found.name == yaml.safe_load(text)["name"]
    assert len(blocks("recipes.md", "yaml")) > 2
