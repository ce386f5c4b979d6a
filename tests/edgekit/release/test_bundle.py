import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from edgekit.errors import BundleError
from edgekit.release import bundle as bundle_module
from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.release.content import content_digest
from edgekit.schema.manifest import Manifest
from edgekit.store.folders import building_folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_layout_and_every_digest(tmp_path, draft_of):
    place = write_bundle(
        tmp_path / "dist", "quickstart-jetson-orin-nano", draft_of(), {"SOURCE_DATE_EPOCH": "1767225600"}
    )
    assert place == tmp_path / "dist" / "quickstart-jetson-orin-nano"
    files = contents(place)
    assert sorted(files) == [
        "evidence/junit.xml",
        "evidence/log",
        "evidence/profiles/local.json",
        "evidence/report.html",
        "manifest.json",
        "model.fp32.onnx",
        "model.onnx",
        "model.tensorrt.onnx",
        "parity.safetensors",
        "sbom.cdx.json",
    ]
    manifest = read_manifest(place)
    del files["manifest.json"]
    assert manifest.files == {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    assert manifest.created_at == "2026-01-01T00:00:00Z"
    assert manifest.content_digest == content_digest(manifest.model_dump(mode="json"))
    assert manifest.steps[1].seconds == 12.34
    assert [(row.what, row.reason) for row in manifest.skipped][-1] == ("signature", "no key given")
    profiles = json.loads(files["evidence/profiles/local.json"])
    assert [len(profile["samples_ms"]) for profile in profiles] == [2000, 500]
    row = manifest.profiles[0]
    assert (row.p50_ms, row.samples, row.path) == (1.024, 2000, "evidence/profiles/local.json")
    assert os.listdir(tmp_path / "dist") == ["quickstart-jetson-orin-nano"]
    assert b"quickstart" in files["evidence/report.html"]


def test_without_measuring_two_builds_are_equal_byte_by_byte(tmp_path, draft_of):
    first = draft_of(measured=False, full_profiles=())
    # the second run finds its steps in the store, takes other times and writes another log
    cached = tuple(row.model_copy(update={"cached": True, "seconds": 0.01}) for row in first.steps)
    log = tmp_path / "other log"
    log.write_text("11:11:11 began")
    second = replace(first, steps=cached, log=log)
    one = contents(write_bundle(tmp_path / "one", "b", first, {}))
    two = contents(write_bundle(tmp_path / "two", "b", second, {}))
    assert one == two
    manifest = Manifest.model_validate_json(one["manifest.json"])
    assert manifest.created_at is None
    assert {(row.cached, row.seconds) for row in manifest.steps} == {(None, None)}
    assert "evidence/log" not in one
    assert "evidence/log" in [row.what for row in manifest.skipped]
    assert not [name for name in one if name.startswith("evidence/profiles")]


def test_without_measuring_there_may_be_no_profiles(tmp_path, draft_of):
    with pytest.raises(BundleError, match="profiles"):
        write_bundle(tmp_path, "b", draft_of(measured=False))


def test_what_is_measured_does_not_enter_the_content_digest(tmp_path, draft_of):
    base = draft_of()
    manifest = read_manifest(write_bundle(tmp_path, "a", base, {"SOURCE_DATE_EPOCH": "0"}))
    other = replace(
        base,
        full_profiles=base.full_profiles[:1],
        speed=(),
        gates=base.gates[:1],
        verdict="pass",
        steps=tuple(row.model_copy(update={"cached": True, "seconds": 0.0, "key": "1" * 64}) for row in base.steps),
        parity=tuple(row.model_copy(update={"max_abs_error": 0.04}) for row in base.parity),
        artifacts=tuple(row.model_copy(update={"fused": {"Conv": 1}, "in_float": ()}) for row in base.artifacts),
        skipped=(),
        log=None,
        environment=base.environment.model_copy(update={"platform": "Linux aarch64"}),
    )
    assert read_manifest(write_bundle(tmp_path, "a", other)).content_digest == manifest.content_digest


def test_the_documentation_names_every_key_of_the_manifest():
    text = (Path(__file__).parents[3] / "docs" / "bundle.md").read_text()
    section = text[text.index("## The content digest") : text.index("## Builds that are equal")]
    assert [key for key in Manifest.model_fields if f"`{key}`" not in section] == []


def test_everything_deterministic_enters_the_content_digest(tmp_path, draft_of):
    base = draft_of()
    row = base.artifacts[0]
    thinner = row.quantisation[0].model_copy(update={"scale": (0.0124,)})
    samples = replace(base.samples, synthetic=True)
    better = {**base.metrics.per_artifact["model.onnx"]}
    better["top1"] = better["top1"].model_copy(update={"value": 0.9812})
    changed = [
        replace(base, recipe=base.recipe.model_copy(update={"text": "name: other"})),
        replace(base, target=base.target.model_copy(update={"digest": "00" * 32})),
        replace(base, inputs=(base.inputs[0].model_copy(update={"layout": "N"}),)),
        replace(base, outputs=(base.outputs[0].model_copy(update={"name": "scores"}),)),
        replace(base, artifacts=(row.model_copy(update={"quantisation": (thinner,)}), *base.artifacts[1:])),
        replace(base, artifacts=base.artifacts[:1]),
        replace(base, samples=samples),
        replace(
            base,
            metrics=base.metrics.model_copy(
                update={"per_artifact": {**base.metrics.per_artifact, "model.onnx": better}}
            ),
        ),
        replace(base, materials=replace(base.materials, libraries={"torch": "2.13.1", "onnx": "1.19.1"})),
        replace(base, steps=base.steps[1:]),
    ]
    digests = [
        read_manifest(write_bundle(tmp_path / str(i), "a", draft)).content_digest
        for i, draft in enumerate([base, *changed])
    ]
    assert len(set(digests)) == len(digests)


def test_an_older_bundle_is_replaced_and_an_interrupted_one_changes_nothing(tmp_path, draft_of, monkeypatch):
    place = write_bundle(tmp_path, "a", draft_of())
    write_bundle(tmp_path, "a", draft_of(verdict="pass"))
    assert read_manifest(place).verdict == "pass"
    before = contents(place)

    def fail(manifest: Manifest) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(bundle_module, "render_html", fail)
    with pytest.raises(BundleError, match="disk full"):
        write_bundle(tmp_path, "a", draft_of())
    assert contents(place) == before
    assert sorted(os.listdir(tmp_path)) == ["a", "exported"]


def test_what_is_no_bundle_is_not_replaced(tmp_path, draft_of):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="in the way"):
        write_bundle(tmp_path, "a", draft_of())
    assert (tmp_path / "a" / "thesis.tex").read_text() == "years of work"
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(BundleError, match="in the way"):
        write_bundle(tmp_path, "b", draft_of())
    with pytest.raises(BundleError, match="name"):
        write_bundle(tmp_path, "../a", draft_of())


def test_an_artifact_that_is_not_what_its_row_says_is_refused(tmp_path, draft_of):
    draft = draft_of()
    draft.files["model.onnx"].write_bytes(b"swapped")
    with pytest.raises(BundleError) as caught:
        write_bundle(tmp_path, "a", draft)
    assert caught.value.where == "model.onnx"
    without = {path: source for path, source in draft.files.items() if path != "model.onnx"}
    with pytest.raises(BundleError, match="no file"):
        write_bundle(tmp_path, "a", replace(draft, files=without))
    outside = {**without, "../model.onnx": draft.files["model.onnx"]}
    with pytest.raises(BundleError, match="leaves the bundle"):
        write_bundle(tmp_path, "a", replace(draft, files=outside))
    assert not (tmp_path / "a").exists()


def test_a_wrong_source_date_epoch_is_refused(tmp_path, draft_of):
    with pytest.raises(BundleError, match="SOURCE_DATE_EPOCH"):
        write_bundle(tmp_path, "a", draft_of(), {"SOURCE_DATE_EPOCH": "yesterday"})


def test_parity_samples_read_back_with_any_reader(tmp_path, draft_of):
    draft = draft_of()
    tensors = load_file(write_bundle(tmp_path, "a", draft) / "parity.safetensors")
    assert sorted(tensors) == [
        "codes/model.onnx/logits",
        "input/x",
        "output/model.fp32.onnx/logits",
        "output/model.onnx/logits",
        "output/model.tensorrt.onnx/logits",
    ]
    assert tensors["codes/model.onnx/logits"].dtype == "int8"
    assert (tensors["output/model.onnx/logits"] == draft.samples.expected["model.onnx"].outputs["logits"]).all()


def test_a_folder_left_by_a_killed_build_is_removed(tmp_path, draft_of):
    with building_folder(tmp_path, "a") as left:
        lock = left.with_name(left.name + ".lock")
    left.mkdir()
    lock.touch()
    write_bundle(tmp_path, "a", draft_of())
    assert sorted(os.listdir(tmp_path)) == ["a", "exported"]
