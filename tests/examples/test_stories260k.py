"""The example of a language model read by the user's own factory: its text, its weights, a build in float."""

import json
import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

from edgekit.cli.main import cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "stories260k"
TEXT, TOKENIZER, WEIGHTS = "tinystories_sample.txt.gz", "weights/tok512.bin", "weights/stories260K.bin"


def of_example(name):
    return SimpleNamespace(**runpy.run_path(str(EXAMPLE / name)))


def joined_over_the_whole_text(tokenizer, text):
    """Greedy joining as llama2.c says it: of all neighbours in the text, those of the highest score first."""
    ids = [tokenizer.ids[character.encode()] for character in f" {text}"]
    while True:
        best = None
        for place in range(len(ids) - 1):
            join = tokenizer.ids.get(tokenizer.pieces[ids[place]] + tokenizer.pieces[ids[place + 1]])
            if join is not None and (best is None or tokenizer.scores[join] > best[0]):
                best = tokenizer.scores[join], place, join
        if best is None:
            return ids
        ids[best[1] : best[1] + 2] = [best[2]]


def test_words_joined_one_by_one_are_the_text_joined_at_once(data_folder):
    tokenizer = of_example("data.py").Tokenizer(data_folder / TOKENIZER)
    text = 'Once upon a time,  there was a little girl named Lily. She said, "I don\'t like jumping!"'
    ids = tokenizer(text)
    assert ids == joined_over_the_whole_text(tokenizer, text)
    assert b"".join(tokenizer.pieces[number] for number in ids).decode() == f" {text}"
    assert tokenizer("\n")[-1] == 3 + ord("\n")  # no piece of its own: a byte


def test_labels_are_the_tokens_one_step_later(data_folder):
    data = of_example("data.py")
    tokens, following = data.stories(str(data_folder / TEXT), str(data_folder / TOKENIZER), 511)["all"]
    assert (tokens[:, 0] == data.BEGIN).all()
    assert (following[:100] >= 0).sum() == 29_001
    told = following[:, :-1] != data.NOTHING
    assert (tokens[:, 1:][told & (following[:, 1:] != data.NOTHING)] > 0).all()
    inside = following[:, 1:] != data.NOTHING
    assert (tokens[:, 1:][inside] == following[:, :-1][inside]).all()


def test_the_published_perplexity_and_no_look_ahead(data_folder):
    data, net = of_example("data.py"), of_example("net.py")
    tokens, following = data.stories(str(data_folder / TEXT), str(data_folder / TOKENIZER), 511)["all"]
    network = net.stories(str(data_folder / WEIGHTS), 511).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 260_032
    with torch.no_grad():
        ids = torch.from_numpy(tokens[:100])
        scores = torch.cat([network(part) for part in ids.split(10)])
        loss = F.cross_entropy(scores.flatten(0, 1), torch.from_numpy(following[:100]).flatten(), ignore_index=-1)
        assert math.exp(loss) == pytest.approx(4.008466, abs=2e-5)
        other = ids[:2].clone()
        other[:, 300:] = 7
        torch.testing.assert_close(network(other)[:, :300], scores[:2, :300], rtol=1e-5, atol=1e-5)


@pytest.mark.slow  # 511 steps of attention, a hundred stories: half a minute
def test_a_build_keeps_the_perplexity(workplace_with_data):
    pytest.importorskip("onnxruntime", reason="runs the ONNX artifact")
    arguments = ["build", "--target", "cpu", "--set", "export.formats=[onnx]", "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    manifest = json.loads(result.stdout)["manifest"]
    metrics = manifest["metrics"]
    assert metrics["float"]["perplexity"] == pytest.approx(4.008466, abs=2e-5)
    assert metrics["per_artifact"]["model.onnx"]["perplexity"]["value"] == pytest.approx(4.008466, abs=1e-4)
    (artifact,) = manifest["artifacts"]
    assert artifact["inputs"][0]["dtype"] == "int64"
    assert artifact["size_bytes"] < 1_450_000  # 1,040,128 of weights, and 261,121 of one mask for five layers


def test_few_stories_go_through_a_build(workplace_with_data):
    """Shorter sequences: what is tested is the way of tokens, labels and a perplexity through a build."""
    pytest.importorskip("onnxruntime", reason="runs the ONNX artifact")
    sheet = workplace_with_data / "calib" / "stories.yaml"
    text = sheet.read_text().replace("steps: 511", "steps: 48").replace("test: {count: 100}", "test: {count: 20}")
    sheet.write_text(text)
    sizes = ["--set", "model.arguments.steps=48", "--set", "model.inputs.0.shape=[1,48]", "--set", "gates={}"]
    result = CliRunner().invoke(cli, ["build", "--target", "cpu", *sizes, "--set", "export.formats=[onnx]", "--json"])
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)["manifest"]["metrics"]
    assert metrics["per_artifact"]["model.onnx"]["perplexity"]["value"] == pytest.approx(
        metrics["float"]["perplexity"], rel=1e-5
    )
    assert 3 < metrics["float"]["perplexity"] < 8
