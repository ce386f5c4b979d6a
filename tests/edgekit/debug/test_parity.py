"""What a user may name, and what is compared then."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgekit.debug.parity import ParityRequest, debug_parity
from edgekit.errors import DataError, SchemaError
from tests.edgekit.debug import faults

BUNDLE = "dist/own-raspberry-pi-5"


def test_a_bundle_is_held_against_its_float_network_and_each_file_against_the_others(workplace):
    report = debug_parity(ParityRequest(BUNDLE))
    assert report.passed
    assert [(c.reference, c.candidate) for c in report.comparisons] == [
        ("float network of own", f"{BUNDLE}/model.tflite"),
        ("float network of own", f"{BUNDLE}/model.onnx"),
        (f"{BUNDLE}/model.tflite", f"{BUNDLE}/model.onnx"),
    ]
    for comparison in report.comparisons:  # also two files: called as the network calls its layers
        assert [row.layer for row in comparison.layers] == ["input:image", "0/conv2d", "3/linear"]
        assert comparison.samples == 16
        assert comparison.sample_source == f"parity samples of {BUNDLE}"
        assert comparison.notes == ()


def test_the_network_that_was_shipped_is_taken_from_the_store(workplace, monkeypatch):
    def never(workshop):
        raise AssertionError("nothing needs to be run")

    monkeypatch.setattr("edgekit.debug.sources.run_steps", never)
    assert debug_parity(ParityRequest(BUNDLE)).passed


def test_a_network_made_by_changed_source_is_told(workplace, tmp_path, monkeypatch):
    shutil.copytree(workplace / BUNDLE, tmp_path / BUNDLE)
    (tmp_path / "own_debug.py").write_text((workplace / "own_debug.py").read_text().replace("(64, 2)", "(64, 2, True)"))
    monkeypatch.chdir(tmp_path)
    first = debug_parity(ParityRequest(BUNDLE)).comparisons[0]
    assert first.notes[0].startswith("the float network was made anew by the bundle's recipe")


def test_a_recipe_against_a_file_takes_the_recipes_data(workplace):
    (found,) = debug_parity(ParityRequest("own.yaml", f"{BUNDLE}/model.onnx", count=5)).comparisons
    assert found.sample_source == f"parity samples of {BUNDLE}"  # the file lies in a bundle
    shutil.copy(workplace / BUNDLE / "model.onnx", workplace / "alone.onnx")
    (found,) = debug_parity(ParityRequest("own.yaml", "alone.onnx", count=5)).comparisons
    assert found.passed
    assert (found.samples, found.sample_source) == (5, "calibration samples of own_debug:samples")
    (found,) = debug_parity(ParityRequest("alone.onnx", "own.yaml")).comparisons
    assert found.reference == "alone.onnx"
    assert found.sample_source == "calibration samples of own_debug:samples"


def test_two_files_alone_are_fed_random_numbers_and_that_is_said(workplace, tmp_path):
    for name in ("model.onnx", "model.tflite"):
        shutil.copy(workplace / BUNDLE / name, tmp_path / name)
    (found,) = debug_parity(ParityRequest(str(tmp_path / "model.onnx"), str(tmp_path / "model.tflite"))).comparisons
    assert found.passed
    assert found.sample_source.startswith("random numbers")


def test_a_bundle_against_a_file_stands_for_its_float_network(workplace):
    path = faults.planted(workplace / BUNDLE / "model.onnx", faults.scale_weight(1, 0.5))
    shutil.move(path, workplace / "fault.onnx")
    report = debug_parity(ParityRequest(BUNDLE, "fault.onnx"))
    assert not report.passed
    (found,) = report.comparisons
    assert found.reference == "float network of own"
    assert found.first_bad.layer == "3/linear"


def test_a_recipe_against_a_bundle_is_held_against_each_of_its_files(workplace):
    report = debug_parity(ParityRequest("own.yaml", BUNDLE))
    assert [c.candidate for c in report.comparisons] == [f"{BUNDLE}/model.tflite", f"{BUNDLE}/model.onnx"]


def test_samples_of_ones_own(workplace, tmp_path):
    x = np.random.default_rng(3).normal(size=(6, 1, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "one.npz", anything=x)
    np.savez(tmp_path / "named.npz", labels=np.zeros(6), image=x)
    np.savez(tmp_path / "other.npz", a=x, b=x)
    for name in ("one.npz", "named.npz"):
        request = ParityRequest("own.yaml", f"{BUNDLE}/model.onnx", samples=str(tmp_path / name), count=4)
        (found,) = debug_parity(request).comparisons
        assert (found.samples, found.sample_source) == (4, str(tmp_path / name))
    with pytest.raises(DataError) as caught:
        debug_parity(ParityRequest("own.yaml", f"{BUNDLE}/model.onnx", samples=str(tmp_path / "other.npz")))
    assert caught.value.what == "holds a, b, and the network takes image"
    with pytest.raises(DataError) as caught:
        debug_parity(ParityRequest("own.yaml", f"{BUNDLE}/model.onnx", samples=str(tmp_path / "absent.npz")))
    assert caught.value.what.startswith("cannot be read")
    (found,) = debug_parity(ParityRequest("own.yaml", f"{BUNDLE}/model.onnx", samples="own_debug:samples")).comparisons
    assert found.sample_source == "calibration samples of own_debug:samples"


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("own.yaml", None, "one thing cannot be compared"),
        (f"{BUNDLE}/model.onnx", None, "one thing cannot be compared"),
        ("dist", None, "this is no bundle: no manifest.json in it"),
        ("absent.onnx", BUNDLE, "there is no such file"),
        ("absent.yaml", BUNDLE, "no recipe file 'absent.yaml'"),
    ],
)
def test_what_names_nothing_is_refused(first, second, what, workplace):
    with pytest.raises(SchemaError) as caught:
        debug_parity(ParityRequest(first, second))
    assert caught.value.what == what


def test_a_file_for_tensorrt_is_run_by_a_stand_in(workplace, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(workplace / BUNDLE, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    for row in manifest["artifacts"]:
        row["format"] = "tensorrt" if row["path"] == "model.onnx" else row["format"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    (found,) = debug_parity(ParityRequest("own.yaml", str(bundle / "model.onnx"))).comparisons
    assert found.candidate == f"{bundle}/model.onnx (ONNX Runtime stands in for TensorRT)"
    assert found.runtimes == ("onnxruntime-unfused",)
    assert all(row.plain_snr_db is None for row in found.layers)


def test_titles_are_paths_as_the_user_wrote_them(workplace):
    (found,) = debug_parity(ParityRequest("own.yaml", f"./{BUNDLE}/model.onnx")).comparisons
    assert Path(found.candidate) == Path(BUNDLE) / "model.onnx"
