"""What was pruned, in the terminal and in the page; nothing of it where nothing was."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.report.html import render_html
from edgekit.report.pruning import pruning_block, pruning_section, said
from edgekit.schema.pruned import PrunedGroup, PruneRow

ROW = PruneRow(
    method="search",
    budget_name="latency_ratio",
    budget=0.5,
    groups=(PrunedGroup(name="conv<b>", before=64, after=48), PrunedGroup(name="stem", before=16, after=16)),
    blocks=("layer1.2",),
    whole={"linear": "its channels are an output & stay"},
)


@pytest.fixture
def manifest(tmp_path, draft_of):
    draft = draft_of()
    first, *others = draft.steps
    draft = replace(draft, steps=(first.model_copy(update={"prune": ROW}), *others))
    return read_manifest(write_bundle(tmp_path, "a", draft))


def test_the_terminal_counts_groups_blocks_and_what_stayed(manifest):
    console = Console(file=io.StringIO(), width=200)
    console.print(pruning_block(manifest))
    text = "by search to latency_ratio 0.5: 1 of 2 groups of channels are narrower, 1 block removed, 1 could lose"
    assert text in console.file.getvalue()


def test_the_page_names_each_with_widths_and_reasons(manifest):
    page = render_html(manifest)
    assert "What was pruned" in page
    assert "conv&lt;b&gt;" in page
    assert '<td class="n">64</td><td class="n">48</td>' in page
    assert "removed as a whole" in page
    assert "whole: its channels are an output &amp; stay" in page


def test_a_share_of_every_group_has_no_budget():
    row = ROW.model_copy(update={"method": "ranking", "budget_name": None, "budget": None, "blocks": (), "whole": {}})
    assert said(row) == "by ranking to channel_ratio: 1 of 2 groups of channels are narrower"


def test_without_pruning_there_is_nothing_to_say(tmp_path, draft_of):
    manifest = read_manifest(write_bundle(tmp_path, "a", draft_of()))
    assert pruning_block(manifest) is None
    assert pruning_section(manifest) == ""
