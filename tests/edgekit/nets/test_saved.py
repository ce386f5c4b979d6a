import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgekit.errors import ModelError
from edgekit.nets.edits import Keep, Replace, apply_edits
from edgekit.nets.quantisation import EdgeRange, QuantisationTable, WeightCodes
from edgekit.nets.saved import load_model, load_table, model_digest, save_model, state_bytes
from edgekit.schema.recipe import Checkpoint
from tests import nets

ROOT = Path(nets.__file__).parents[1]
EDITS = (
    Keep(layer="conv", side="out", indices=(0, 2, 3)),
    Keep(layer="norm", side="out", indices=(0, 2, 3)),
    Keep(layer="depthwise", side="out", indices=(0, 2, 3)),
    Keep(layer="depthwise_norm", side="out", indices=(0, 2, 3)),
    Keep(layer="pointwise", side="in", indices=(0, 2, 3)),
    Replace(layer="linear", by="linear", arguments={"in_features": 6, "out_features": 3, "bias": False}),
)


def table():
    return QuantisationTable(
        edges={
            "input:image": EdgeRange(-1.5, 2.25, 3.75 / 255, -26),
            "conv/relu": EdgeRange(0.0, 0.1, 0.1 / 255, -128),
        },
        weights={
            "conv.weight": WeightCodes(
                torch.arange(-36, 36, dtype=torch.int8).reshape(4, 2, 3, 3), torch.tensor([0.1, 0.2, 0.3, 0.7]), 0
            )
        },
        means={"conv/conv2d": torch.tensor([0.5, -1.25])},
        activations="int16",
    )


def edited():
    model = nets.model(nets.TINY_CONV)
    return model.with_(apply_edits(model.network, EDITS), "prune", EDITS)


def test_a_saved_model_gives_the_same_bits_in_a_new_process(tmp_path):
    model = edited()
    save_model(model, tmp_path / "model")
    program = (
        "import sys, torch; from pathlib import Path; from edgekit.nets.saved import load_model\n"
        "m = load_model(Path(sys.argv[1])); torch.set_num_threads(1)\n"
        "torch.save([m.network(*m.example(3)), list(m.history), len(m.edits)], sys.argv[2])"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model"), str(tmp_path / "out.pt")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    outputs, history, edits = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(outputs, model.network(*model.example(3)))
    assert (history, edits) == (["prune"], len(EDITS))


def test_the_table_comes_back_whole(tmp_path):
    model = replace(nets.model(nets.TINY_CONV), table=table())
    save_model(model, tmp_path)
    loaded = load_model(tmp_path).table
    assert loaded is not None
    assert loaded.edges == table().edges
    assert loaded.activations == "int16"
    assert loaded.means["conv/conv2d"].tolist() == [0.5, -1.25]
    codes = loaded.weights["conv.weight"]
    assert torch.equal(codes.codes, table().weights["conv.weight"].codes)
    assert codes.codes.dtype == torch.int8
    assert torch.equal(codes.scale, table().weights["conv.weight"].scale)
    assert (codes.axis, codes.bits) == (0, 8)


def test_an_older_table_does_not_stay(tmp_path):
    model = nets.model(nets.TINY_CONV)
    save_model(replace(model, table=table()), tmp_path)
    save_model(model, tmp_path)
    assert load_model(tmp_path).table is None


def test_nothing_is_pickled(tmp_path):
    save_model(replace(nets.model(nets.TINY_CONV), table=table()), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.json",
        "weights.safetensors",
        "table.json",
        "table.safetensors",
    }


def test_a_damaged_or_foreign_file_is_an_error(tmp_path):
    save_model(replace(edited(), table=table()), tmp_path)
    for name in ("weights.safetensors", "model.json", "table.json", "table.safetensors"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelError) as caught:
            load_model(tmp_path)
        assert name in caught.value.where
        (tmp_path / name).unlink()
        if name != "table.json":  # without it there is no table
            with pytest.raises(ModelError):
                load_model(tmp_path)
        (tmp_path / name).write_bytes(whole)
    load_table(tmp_path)


def test_weights_of_another_structure_are_refused(tmp_path):
    save_model(nets.model(nets.TINY_CONV), tmp_path / "whole")
    save_model(edited(), tmp_path / "edited")
    (tmp_path / "whole" / "weights.safetensors").write_bytes((tmp_path / "edited" / "weights.safetensors").read_bytes())
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "whole")
    assert "another network" in caught.value.what


def test_the_digest_sees_weights_edits_and_table_but_not_where_the_checkpoint_lay():
    model = nets.model(nets.TINY_CONV)
    digests = {model_digest(model), model_digest(replace(model, table=table())), model_digest(edited())}
    changed = nets.model(nets.TINY_CONV)
    with torch.no_grad():
        changed.network.norm.running_mean[0] += 1
    digests.add(model_digest(changed))
    assert len(digests) == 4
    assert model_digest(nets.model(nets.TINY_CONV)) == model_digest(model)
    paths = [model.source.model_copy(update={"checkpoint": Checkpoint(path=path)}) for path in ("/a/w.pth", "/b/w.pth")]
    assert len({model_digest(replace(model, source=source)) for source in paths}) == 1


def test_bytes_as_stored():
    model = nets.model(nets.TINY_CONV)
    floats = 175 + 2 * (4 + 4)  # parameters, and mean and variance of two norms
    assert state_bytes(model) == 4 * floats
    # conv.weight: 72 codes of one byte and 4 scales instead of 72 floats
    assert state_bytes(replace(model, table=table())) == 4 * (floats - 72) + 72 + 16
