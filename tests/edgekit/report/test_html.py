import re
from dataclasses import replace
from html.parser import HTMLParser

from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.report.html import render_html
from edgekit.schema.calibration import CalibrationRow
from edgekit.schema.manifest import Finding, Manifest


class Page(HTMLParser):
    """Text of every table row, and every tag and attribute seen."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # well nested

    def handle_data(self, data):
        if "tr" in self.open:
            self.rows[-1] = " ".join(f"{self.rows[-1]} {data}".split())


def manifest_of(tmp_path, draft) -> Manifest:
    return read_manifest(write_bundle(tmp_path, "a", draft))


def test_every_part_of_the_manifest_is_a_row(tmp_path, draft_of):
    page = Page(render_html(manifest_of(tmp_path, draft_of())))
    assert page.open == []
    for row in (
        "size_bytes model.onnx 30,000 at most 25000 failed",
        "teacher: train 1.235 M 98.7 M 4,938.3 99.10 % 0.1 cached",
        "as loaded 269.7 k 40.81 M 1,078.9 –",
        "Q/DQ program in PyTorch model.onnx 0.031 0.05 1 100.00 % passed",
        "model.onnx model.fp32.onnx local stand-in 1.61 1.58 … 1.66 50 % faster",
        "conv1.weight weight int8 per channel (axis 0) symmetric 0.002 … 0.009 0",
        "conv1 activation uint8 per tensor affine 0.0123 128 add1",
        "head.softmax Softmax the convention keeps it in float",
        "residual adds are quantised 9 not met add3 is not",
        "signature bundle no key given",
    ):
        assert row in page.rows


def test_a_recurrent_network_shows_its_form_and_the_nodes_of_both(tmp_path, draft_of):
    draft = draft_of()
    whole = draft.artifacts[0].model_copy(update={"nodes": {"step": 61, "unrolled": 1412}})
    text = render_html(manifest_of(tmp_path, replace(draft, artifacts=(whole, *draft.artifacts[1:]))))
    assert "unrolled: 1,412 nodes; one step: 61" in text


def test_the_page_needs_no_network_and_no_script(tmp_path, draft_of):
    text = render_html(manifest_of(tmp_path, draft_of()))
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "onclick"} & {name for name, _ in page.attributes}
    assert not re.search(r"https?://|url\(|@import", text)


def test_what_the_manifest_says_is_escaped(tmp_path, draft_of):
    draft = draft_of()
    evil = draft.recipe.model_copy(update={"text": "</pre><script>alert(1)</script>", "name": "<img src=x>"})
    text = render_html(manifest_of(tmp_path, replace(draft, recipe=evil)))
    assert "<script>" not in text
    assert "<img" not in text
    assert "&lt;/pre&gt;&lt;script&gt;alert(1)" in text


def test_the_same_manifest_gives_the_same_page(tmp_path, draft_of):
    manifest = manifest_of(tmp_path, draft_of())
    again = Manifest.model_validate_json(manifest.model_dump_json())
    assert render_html(again) == render_html(manifest)


def test_a_bundle_of_little_content_still_has_a_page(tmp_path, draft_of):
    draft = draft_of(measured=False, full_profiles=(), speed=(), gates=(), steps=(), parity=(), verdict="pass")
    text = render_html(manifest_of(tmp_path, draft))
    assert "Not measured." in text
    assert "Neither the recipe nor the target sets one." in text


def test_findings_and_synthetic_ranges_are_on_the_page(tmp_path, draft_of):
    draft = draft_of()
    plain = render_html(manifest_of(tmp_path, draft))
    assert "Look at the data" not in plain
    assert "synthetic samples" not in plain
    row = CalibrationRow(source="synthetic", count=64, digest="d", seed=0)
    steps = tuple(step.model_copy(update={"calibration": row}) for step in draft.steps)
    found = Finding(what="2 copies", where="own-data, calibration", fix="leave them out")
    page = Page(render_html(manifest_of(tmp_path, replace(draft, steps=steps, findings=(found,)))))
    assert page.open == []
    assert "2 copies own-data, calibration leave them out" in page.rows
    assert "quantize ranges from synthetic samples 120 k 20.3 M 121.2 97.12 % 12.3" in page.rows
