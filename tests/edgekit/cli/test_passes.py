import re

from edgekit.schema.pass_options import PASS_OPTIONS


def test_list_names_every_pass_and_its_source(edgekit, edgekit_json):
    result = edgekit("passes", "list")
    assert result.exit_code == 0
    assert any("reparam" in line and "arXiv:2101.03697" in line for line in result.stdout.splitlines())
    _, document = edgekit_json("passes", "list")
    assert [row["name"] for row in document["passes"]] == list(PASS_OPTIONS)


def test_show_gives_each_option_with_values_and_default(edgekit, edgekit_json):
    result = edgekit("passes", "show", "prune")
    assert result.exit_code == 0
    lines = [line for line in result.stdout.splitlines() if re.match(r" \w", line)][1:]
    rows = {line.split()[0]: line for line in lines}
    assert set(rows) == set(PASS_OPTIONS["prune"].model_fields)
    cells = re.split(r"  +", rows["channel_ratio"].strip())
    assert cells[1:3] == ["number > 0, < 1 or none", "none"]
    assert "share of channels" in cells[3]
    assert "magnitude | bn_scale | taylor" in rows["importance"]
    _, document = edgekit_json("passes", "show", "prune")
    assert document["options"]["importance"]["default"] == "magnitude"


def test_every_pass_can_be_shown(edgekit):
    for name in PASS_OPTIONS:
        assert edgekit("passes", "show", name).exit_code == 0


def test_show_of_what_is_not_there_names_the_nearest(edgekit):
    result = edgekit("passes", "show", "quantise")
    assert result.exit_code == 1
    assert "did you mean 'quantize'?" in result.stderr
