import json
import os
from dataclasses import replace

import numpy as np
import pytest

from edgekit.errors import BundleError, DeviceError
from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.release.content import content_digest, evidence_digest
from edgekit.release.parity import Tolerance
from edgekit.release.paths import unsafe_path
from edgekit.release.verify import MANIFEST, Answers, Limits, verify_bundle


@pytest.fixture
def bundle(tmp_path, draft_of):
    return write_bundle(tmp_path / "dist", "a", draft_of())


def problems(report):
    return [(problem.kind, problem.path) for problem in report.problems]


def rewrite(bundle, **changes):
    document = json.loads((bundle / "manifest.json").read_text())
    document.update(changes)
    (bundle / "manifest.json").write_text(json.dumps(document))


def test_a_bundle_as_written_is_right(bundle):
    report = verify_bundle(bundle)
    assert (report.ok, report.problems, report.files) == (True, (), 10)


@pytest.mark.parametrize(
    "name",
    ["model.onnx", "parity.safetensors", "sbom.cdx.json", "evidence/report.html", "evidence/profiles/local.json"],
)
def test_one_altered_byte_of_any_file_is_found(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    report = verify_bundle(bundle)
    assert not report.ok
    assert problems(report) == [("altered", name)]


def test_missing_and_added_files_are_named(bundle):
    (bundle / "model.fp32.onnx").unlink()
    (bundle / "evidence" / "more").write_text("x")
    assert problems(verify_bundle(bundle)) == [("added", "evidence/more"), ("missing", "model.fp32.onnx")]


def test_an_altered_manifest_fails_its_content_digest(bundle):
    document = json.loads((bundle / "manifest.json").read_text())
    document["metrics"]["per_artifact"]["model.onnx"]["top1"]["value"] = 0.999
    rewrite(bundle, metrics=document["metrics"])
    assert problems(verify_bundle(bundle)) == [("content digest", MANIFEST), ("evidence digest", MANIFEST)]


def test_a_verdict_that_its_gates_do_not_make_is_found_even_where_it_was_digested_again(bundle):
    changed = read_manifest(bundle).model_copy(update={"verdict": "pass"})
    rewrite(bundle, verdict="pass")
    assert problems(verify_bundle(bundle)) == [("evidence digest", MANIFEST), ("manifest", MANIFEST)]
    rewrite(bundle, verdict="pass", evidence_digest=evidence_digest(changed.model_dump(mode="json")))
    assert problems(verify_bundle(bundle)) == [("manifest", MANIFEST)]


def test_a_bundle_of_an_older_edgekit_that_lacks_keys_of_ours_is_right(bundle):
    document = json.loads((bundle / MANIFEST).read_text())
    for row in document["artifacts"]:
        del row["conformance"]
    document["content_digest"] = content_digest(document)
    document["evidence_digest"] = evidence_digest(document)
    rewrite(bundle, **document)
    assert verify_bundle(bundle).problems == ()


def test_a_measured_value_that_was_edited_is_found(bundle):
    rows = json.loads((bundle / MANIFEST).read_text())["profiles"]
    rows[0]["p50_ms"] = 0.001
    rewrite(bundle, profiles=rows)
    assert problems(verify_bundle(bundle)) == [("evidence digest", MANIFEST)]


def test_a_manifest_that_is_none_is_named_in_one_line(bundle):
    (bundle / MANIFEST).write_text('{"recipe": 1}')
    (problem,) = verify_bundle(bundle).problems
    assert problem.kind == "manifest"
    assert "https" not in problem.detail
    assert "(and" in problem.detail


def test_the_bundles_inside_a_folder_are_suggested(bundle):
    with pytest.raises(BundleError) as caught:
        verify_bundle(bundle.parent)
    assert str(bundle) in caught.value.fix
    with pytest.raises(BundleError) as caught:
        verify_bundle(bundle / MANIFEST)
    assert "a file" in caught.value.what


def test_a_file_swapped_with_its_digest_still_fails(bundle):
    (bundle / "model.onnx").write_bytes(b"other")
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    files["model.onnx"] = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"  # sha256 of b"other"
    rewrite(bundle, files=files)
    assert problems(verify_bundle(bundle)) == [
        ("manifest", "model.onnx"),
        ("content digest", MANIFEST),
        ("evidence digest", MANIFEST),
    ]


def test_files_that_every_bundle_has_must_be_listed(bundle):
    (bundle / "parity.safetensors").unlink()
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    del files["parity.safetensors"]
    rewrite(bundle, files=files)
    assert ("missing", "parity.safetensors") in problems(verify_bundle(bundle))


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "a//b", "./a", "a\\b", "a\0b", "", "c:x", "a" * 500]
)
def test_a_path_that_leaves_the_bundle_is_refused(bundle, path):
    assert unsafe_path(path)
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    rewrite(bundle, files={**files, path: "00" * 32})
    report = verify_bundle(bundle)
    assert [problem.kind for problem in report.problems] == ["unsafe"]
    assert report.manifest is None


def test_an_artifact_row_that_points_elsewhere_is_refused(bundle):
    document = json.loads((bundle / "manifest.json").read_text())
    document["artifacts"][0]["path"] = "../../etc/passwd"
    rewrite(bundle, artifacts=document["artifacts"])
    assert problems(verify_bundle(bundle)) == [("unsafe", "'../../etc/passwd'")]


def test_links_and_pipes_are_refused_unread(bundle, tmp_path):
    (tmp_path / "real").write_bytes((bundle / "model.onnx").read_bytes())
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to(tmp_path / "real")
    (bundle / "folder").symlink_to(tmp_path)
    os.mkfifo(bundle / "pipe")  # reading it would block for ever
    assert problems(verify_bundle(bundle)) == [("unsafe", "folder"), ("unsafe", "model.onnx"), ("unsafe", "pipe")]
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").symlink_to(tmp_path / "real")
    assert ("unsafe", "manifest.json") in problems(verify_bundle(bundle))


def test_what_is_too_large_is_refused(bundle):
    assert problems(verify_bundle(bundle, limits=Limits(file_bytes=50_000))) == [("oversize", "model.fp32.onnx")]
    assert problems(verify_bundle(bundle, limits=Limits(manifest_bytes=100))) == [("oversize", "manifest.json")]
    assert problems(verify_bundle(bundle, limits=Limits(total_bytes=100_000))) == [("oversize", ".")]
    assert problems(verify_bundle(bundle, limits=Limits(files=3))) == [("oversize", ".")]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 2}', "[" * 100_000])
def test_what_is_no_manifest_is_said(bundle, text):
    (bundle / "manifest.json").write_text(text)
    assert problems(verify_bundle(bundle)) == [("manifest", "manifest.json")]


def test_what_is_no_bundle_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BundleError) as caught:
            verify_bundle(path)
        assert caught.value.where == str(path)


def expected_answers(draft, shift=0.0, code_shift=0):
    def rerun(path, row, inputs, layouts):
        assert path.name == row.path
        assert layouts == {"x": "NC"}
        np.testing.assert_array_equal(inputs["x"], draft.samples.inputs["x"])
        expected = draft.samples.expected[row.path]
        codes = {name: value.astype(np.int32) + code_shift for name, value in expected.codes.items()}
        return Answers({name: value + shift for name, value in expected.outputs.items()}, codes, "fake 1")

    return rerun


def test_parity_is_run_again_and_compared_with_the_stored_tolerance(bundle, draft_of_bundle):
    same = verify_bundle(bundle, expected_answers(draft_of_bundle))
    assert same.ok
    assert [(check.artifact, check.samples, check.max_code_error) for check in same.parity] == [
        ("model.onnx", 16, 0),
        ("model.fp32.onnx", 16, None),
        ("model.tensorrt.onnx", 16, None),
    ]
    shifted = verify_bundle(bundle, expected_answers(draft_of_bundle, shift=0.04, code_shift=1))
    assert problems(shifted) == [("parity", "model.fp32.onnx")]  # its tolerance is 1e-5, the others' 0.05 and one code
    codes = verify_bundle(bundle, expected_answers(draft_of_bundle, code_shift=2))
    assert problems(codes) == [("parity", "model.onnx")]
    assert "codes by 2 (allowed 1)" in codes.problems[0].detail
    assert not verify_bundle(bundle, expected_answers(draft_of_bundle, shift=float("nan"))).ok


def test_missing_answers_and_a_runtime_that_fails_are_problems(bundle, draft_of_bundle):
    empty = verify_bundle(bundle, lambda *_: Answers({}, {}, "fake 1"))
    assert [(check.passed, check.max_abs_error) for check in empty.parity] == [(False, None)] * 3
    assert "without an output" in empty.problems[0].detail

    def fail(*_):
        raise DeviceError("litert is not installed", "local", "install it")

    report = verify_bundle(bundle, fail)
    assert [problem.detail for problem in report.problems] == ["could not be run: litert is not installed"] * 3


def test_parity_is_not_run_when_a_digest_is_wrong(bundle):
    (bundle / "model.onnx").write_bytes(b"evil")

    def never(*_):
        raise AssertionError("an altered artifact was loaded")

    assert problems(verify_bundle(bundle, never)) == [("altered", "model.onnx")]


def test_an_artifact_without_stored_answers_is_a_problem(tmp_path, draft_of_bundle):
    draft = draft_of_bundle
    kept = {"model.onnx": replace(draft.samples.expected["model.onnx"], tolerance=Tolerance(output=0, code=0))}
    draft = replace(draft, samples=replace(draft.samples, expected=kept))
    bundle = write_bundle(tmp_path, "b", draft)
    report = verify_bundle(bundle, expected_answers(draft))
    assert problems(report) == [("parity", "model.fp32.onnx"), ("parity", "model.tensorrt.onnx")]
    assert report.parity[0].passed
    assert read_manifest(bundle).verdict == report.manifest.verdict


@pytest.fixture
def draft_of_bundle(draft_of):
    return draft_of()
