"""The page for users lists the operators of the table."""

from pathlib import Path

from edgekit.nets.from_onnx.table import OPERATORS

PAGE = Path(__file__).parents[4] / "docs" / "onnx-in.md"


def test_the_page_lists_every_operator_that_is_taken():
    text = PAGE.read_text(encoding="utf-8")
    rows = text.partition("| kind | operators |")[2].partition("\n\n")[0].splitlines()[2:]
    listed = [name.strip() for row in rows for name in row.split("|")[2].split(",")]
    assert listed == list(OPERATORS)
