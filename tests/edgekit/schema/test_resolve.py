import pytest

from edgekit.errors import SchemaError
from edgekit.schema.resolve import assign, expand, merge, parse_assignment

VARIABLES = {"A": "one", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${A}/x/${A}", "one/x/one"),
        ("${B:-two}", "two"),
        ("${A:-two}", "one"),
        ("${EMPTY:-two}", "two"),  # as in a shell: empty counts as not set
        ("${B:-}", ""),
        ("$${A}", "${A}"),
        ("$A costs $5", "$A costs $5"),
    ],
)
def test_expansion(text, expanded):
    assert expand({"k": [text]}, "x", VARIABLES) == {"k": [expanded]}


@pytest.mark.parametrize(
    ("text", "what"), [("${B}", "B is not set"), ("${EMPTY}", "EMPTY"), ("${A", "without"), ("${1}", "without")]
)
def test_what_cannot_be_expanded_is_named(text, what):
    with pytest.raises(SchemaError, match=what) as caught:
        expand({"k": [0, text]}, "x.yaml", VARIABLES)
    assert caught.value.where == "x.yaml: k.1"


def test_only_locations_keep_their_reference():
    content = {"path": "${A}", "url": "${A}/b", "observer": "${A}", "plain": "$${A}"}
    kept = expand(content, "x", VARIABLES, keep_locations=True)
    assert kept == {"path": "${A}", "url": "${A}/b", "observer": "one", "plain": "$${A}"}


def test_assign_leaves_what_it_is_given_as_it_was():
    content = {"a": [{"b": 1}, 2]}
    assert assign(content, ("a", 0, "c"), 3, "x") == {"a": [{"b": 1, "c": 3}, 2]}
    assert content == {"a": [{"b": 1}, 2]}
    assert assign({"a": None}, ("a", "b", "c"), 1, "x") == {"a": {"b": {"c": 1}}}


def test_an_assignment_is_split_at_the_first_equals_sign():
    assert parse_assignment("a.0.b=x=y") == (("a", 0, "b"), "x=y")
    assert parse_assignment("a=") == (("a",), None)
    assert parse_assignment("a={p: [1, no]}") == (("a",), {"p": [1, "no"]})


def test_merge_replaces_a_mapping_by_a_scalar_and_back():
    assert merge({"a": {"x": 1}, "b": 2}, {"a": None, "b": {"y": 3}}) == {"a": None, "b": {"y": 3}}
