"""docs/your-model.md: its Python runs, its recipes are recipes, and what it exports is loaded and is the same."""

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from edgekit.errors import ModelError
from edgekit.nets.load import build
from edgekit.schema.recipe import ModelSource

PAGE = Path(__file__).resolve().parents[1] / "docs" / "your-model.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_every_recipe_of_the_page_is_one():
    found = [ModelSource.model_validate(yaml.safe_load(block)["model"]) for block in blocks("yaml")]
    assert [source.key for source in found] == ["factory", "pt2", "transformers", "timm", "factory"]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The page's files, the first line of each naming it, in the working directory."""
    for block in blocks("python"):
        name, content = re.fullmatch(r"# (\S+)\n(.*)", block, re.DOTALL).groups()
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("net", "export"):
        sys.modules.pop(name, None)


def test_the_page_is_right_about_a_function_its_weights_and_its_program(written):
    import export  # type: ignore[import-not-found]

    by_function, by_file = (yaml.safe_load(block)["model"] for block in blocks("yaml")[:2])
    state = {f"module.{name}": tensor for name, tensor in export.network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, "weights.pth")
    one, two = (build(ModelSource.model_validate(source)) for source in (by_function, by_file))
    assert [spec.shape for spec in two.inputs] == [(1, 1, 8, 8)]
    assert set(two.network.state_dict()) == set(one.network.state_dict())
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(one.network(x), two.network(x))

    del by_function["checkpoint"]["strip_prefix"]
    with pytest.raises(ModelError, match=r"strip_prefix: 'module\.'") as caught:
        build(ModelSource.model_validate(by_function))
    told = str(caught.value).partition(";")[0]
    assert told in PAGE.read_text(encoding="utf-8")
