"""Zeros in the terminal and in the page; nothing of them where no step made any."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.report.html import render_html
from edgekit.report.sparsity import made, sparsity_block, sparsity_section
from edgekit.schema.sparsity import SparseArtifact, SparseLayer, SparsityRow

ROW = SparsityRow(
    method="gradual",
    pattern="unstructured",
    scope="layer",
    steps=1200,
    begin=120,
    every=72,
    updates=10,
    recovery_steps=360,
    zeros=800,
    prunable_weights=1000,
    all_weights=1250,
    layers=(SparseLayer(weight="conv/<b>.weight", zeros=800, weights=1000),),
    left_dense={"stem.weight": "first convolution"},
    size_bytes=5000,
    deflated_bytes=2100,
    bitmask_bytes=1900,
)
FILE = SparseArtifact(
    artifact="model.onnx",
    zeros=790,
    weights=1000,
    size_bytes=6000,
    deflated_bytes=3000,
    bitmask_bytes=2000,
    tensors=2,
    two_of_four=0,
    runtime="onnxruntime",
    faster="no",
    reason="its kernels are dense",
    source="somewhere & elsewhere",
)


@pytest.fixture
def manifest(tmp_path, draft_of):
    draft = draft_of(sparse=(FILE,))
    first, *others = draft.steps
    draft = replace(draft, steps=(first.model_copy(update={"sparsity": ROW}), *others))
    return read_manifest(write_bundle(tmp_path, "a", draft))


def _text(manifest) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(sparsity_block(manifest))
    return console.file.getvalue()


def test_the_terminal_says_how_many_when_and_whether_it_is_faster(manifest):
    text = _text(manifest)
    assert "80.00 % of 1,000 weights of 1 layers are zero, 64.00 % of all 1,250" in text
    assert "weights 5.0 KB, zipped 2.1 KB, as bitmask and values 1.9 KB" in text
    assert "from step 120 to 840 in 10 updates, one in 72 steps, then 360 of 1,200 steps to recover" in text
    assert "79.00 %" in text
    assert "no: its kernels are dense" in text


def test_the_page_names_layers_reasons_and_sources_and_escapes_them(manifest):
    page = render_html(manifest)
    assert "Zeros among the weights" in page
    assert "conv/&lt;b&gt;.weight" in page
    assert "dense: first convolution" in page
    assert "somewhere &amp; elsewhere" in page


def test_methods_and_patterns_are_told_apart():
    once = ROW.model_copy(update={"method": "one_shot", "pattern": "2:4", "recovery_steps": 60})
    assert made(once)[1] == "2:4; all at once, then 60 steps under the mask"
    held = ROW.model_copy(update={"method": "hold"})
    assert made(held)[1] == "held as they were, through 1,200 steps"
    ranked = ROW.model_copy(update={"scope": "global"})
    assert made(ranked)[1].startswith("unstructured, ranked over all layers; along")


def test_without_zeros_there_is_nothing_to_say(tmp_path, draft_of):
    manifest = read_manifest(write_bundle(tmp_path, "a", draft_of()))
    assert sparsity_block(manifest) is None
    assert sparsity_section(manifest) == ""
