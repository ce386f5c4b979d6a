import pytest

from edgekit.errors import SchemaError
from edgekit.schema.yaml_file import digest_of, dump_yaml, parse_yaml, read_mapping


def test_scalars_are_those_of_yaml_1_2():
    text = "{a: no, b: on, c: 1e-4, d: 1:30, e: 010, f: true, g: 3, h: -0.5, i: ~, j: 2024-01-02, k: .5}"
    assert parse_yaml(text, "x") == {
        "a": "no",
        "b": "on",
        "c": 1e-4,
        "d": "1:30",
        "e": "010",
        "f": True,
        "g": 3,
        "h": -0.5,
        "i": None,
        "j": "2024-01-02",
        "k": 0.5,
    }


def test_what_is_written_reads_back_as_itself():
    content = {"s": ["no", "1e-4", "3", "true", "", "~", "<<", "a: b", "010"], "n": [1e-05, 3, 0.1], "b": [True, None]}
    assert parse_yaml(dump_yaml(content), "x") == content


def test_a_key_written_twice_is_named_with_its_line():
    with pytest.raises(SchemaError) as caught:
        parse_yaml("seed: 1\nmodel: {}\nseed: 2\n", "kws.yaml")
    assert "'seed'" in caught.value.what
    assert caught.value.where == "kws.yaml, line 3"


def test_a_merged_key_may_be_written_again():
    assert parse_yaml("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", "x")["b"] == {"p": 1, "q": 3}


def test_an_alias_bomb_is_refused_before_it_unfolds():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]  # 10 ** 12 nodes
    with pytest.raises(SchemaError, match="100000 nodes"):
        parse_yaml("\n".join(levels), "bomb.yaml")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: &x [*x]", "contains it"),
        ("a: [1, 2", "not YAML"),
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !!int x", "not YAML"),
        ("1: a", "not a string"),
        ("[a]: b", "no key"),
        ("[" * 3000, "nested too deeply"),
        ("a: 1\n---\nb: 2", "not YAML"),
    ],
)
def test_what_is_not_plain_data_is_refused(text, what):
    with pytest.raises(SchemaError, match=what):
        parse_yaml(text, "x.yaml")


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    for text, found in (("", "nothing"), ("- a", "list"), ("word", "str")):
        path.write_text(text)
        with pytest.raises(SchemaError, match=found):
            read_mapping(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SchemaError, match="UTF-8"):
        read_mapping(path)
    with pytest.raises(SchemaError, match="No such file"):
        read_mapping(tmp_path / "absent.yaml")


def test_order_of_keys_does_not_change_a_digest_but_order_of_lists_does():
    # sha256 of {"a":[1,2],"b":"x"}, by coreutils
    assert digest_of({"b": "x", "a": [1, 2]}) == "d0f56dda38d34376527524ddd98f7ec117d5cbfb240f86e11bfb9d2d01a717d9"
    assert digest_of({"a": [2, 1], "b": "x"}) != digest_of({"a": [1, 2], "b": "x"})
