import re
from pathlib import Path

from edgekit.schema.markdown import render_reference
from edgekit.schema.pass_options import PASS_OPTIONS
from edgekit.schema.recipe import Recipe

PAGE = Path(__file__).parents[3] / "docs" / "reference.md"


def test_the_page_is_what_the_schemas_say():
    assert PAGE.read_text(encoding="utf-8") == render_reference(), "run `make docs`"


def test_every_key_of_a_recipe_and_every_option_of_a_pass_is_in_it():
    page = render_reference()
    for key in Recipe.model_fields:
        assert f"| `{key}` |" in page.partition("## Calibration set")[0], key
    for name, options in PASS_OPTIONS.items():
        section = page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        for option in options.model_fields:
            assert f"| `{option}` |" in section, (name, option)


def test_every_link_leads_to_a_section_and_no_two_sections_share_a_title():
    page = render_reference()
    titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    assert len(titles) == len(set(titles))
    anchors = {re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= anchors


def test_every_row_has_four_cells():
    for line in render_reference().splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line
