import numpy as np
import pytest

from edgekit.data.loaders.tables import csv_file
from edgekit.errors import DataError

FLOWERS = "length,width,kind,weight\n5.1,3.5,rose,0.2\n4.9,3,iris,1e-1\n\n6,2,rose,.5\n"


@pytest.fixture
def flowers(tmp_path):
    (tmp_path / "f.csv").write_text(FLOWERS)
    return str(tmp_path / "f.csv")


def test_classes_are_counted_in_the_order_in_which_they_are_named(flowers):
    made = csv_file(flowers, label="kind", classes=["rose", "iris"])["all"]
    np.testing.assert_array_equal(made.inputs[0], np.array([[5.1, 3.5, 0.2], [4.9, 3, 0.1], [6, 2, 0.5]], np.float32))
    assert made.inputs[0].dtype == np.float32
    assert made.labels.tolist() == [0, 1, 0]
    assert csv_file(flowers, label=2, classes=["iris", "rose"])["all"].labels.tolist() == [1, 0, 1]


def test_numbers_to_predict_and_columns_that_are_chosen(flowers):
    made = csv_file(flowers, targets=["weight", 0], features=["width"])["all"]
    np.testing.assert_array_equal(made.inputs[0], [[3.5], [3], [2]])
    np.testing.assert_array_equal(made.labels, np.array([[0.2, 5.1], [0.1, 4.9], [0.5, 6]], np.float32))


def test_the_last_column_is_the_class_and_a_header_may_be_absent(tmp_path):
    (tmp_path / "a").write_text("1;2;3;4;0\n5;6;7;8;2\n")
    (tmp_path / "b").write_text("0;0;0;0;1\n")
    parts = {"train": str(tmp_path / "a"), "test": str(tmp_path / "b")}
    made = csv_file(parts=parts, header=False, delimiter=";", shape=[2, 2])
    np.testing.assert_array_equal(made["train"].inputs[0], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert made["train"].labels.tolist() == [0, 2]
    assert made["test"].labels.tolist() == [1]
    # names of the classes may be given beside their indices
    assert csv_file(parts=parts, header=False, delimiter=";", classes=["a", "b", "c"])["train"].labels.tolist() == [
        0,
        2,
    ]


@pytest.mark.parametrize(
    ("arguments", "what", "where", "fix"),
    [
        ({"label": "kin"}, "no column is called 'kin'", "f.csv", "did you mean 'kind'"),
        ({"label": 4}, "no column 4", "f.csv", "there are 4"),
        ({"label": "kind"}, "'rose' is no class index", "line 2, column kind", "`classes: [iris, rose]`"),
        ({"label": "kind", "classes": ["rose", "tulip"]}, "no class is called 'iris'", "line 3, column kind", "tulip"),
        ({"label": "weight"}, "'0.2' is no class index", "line 2, column weight", "`targets`"),
        ({"targets": ["weight"]}, "'rose' is no finite number", "line 2, column kind", "`features`"),
        ({"targets": ["weight"], "label": 0}, "both label and targets", "loader csv", ""),
        ({"label": 2, "classes": ["rose", "iris"], "shape": [2]}, "3 columns for a sample of shape [2]", "f.csv", ""),
        ({"parts": {"a": "x"}}, "neither or both of path and parts", "loader csv", ""),
        ({"delimiter": "::"}, "delimiter is '::'", "f.csv", ""),
    ],
)
def test_what_does_not_fit_is_named(flowers, arguments, what, where, fix):
    with pytest.raises(DataError) as caught:
        csv_file(flowers, **arguments)
    assert caught.value.what == what
    assert where in caught.value.where
    assert fix in caught.value.fix


@pytest.mark.parametrize("cell", ["", "nan", "inf", "-inf", "1e39", "1,5", "x"])
def test_a_cell_that_is_no_number_is_named_by_line_and_column(tmp_path, cell):
    quoted = f'"{cell}"' if "," in cell else cell
    (tmp_path / "d.csv").write_text(f"a,b,c\n1,2,0\n\n3,{quoted},1\n")
    with pytest.raises(DataError) as caught:
        csv_file(str(tmp_path / "d.csv"))
    assert caught.value.what == (f"{cell!r} is no finite number" if cell else "the cell is empty")
    assert caught.value.where.endswith("d.csv, line 4, column b")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "there are no samples"),
        (b"a,b\n", "there are no samples"),
        (b"a,b\n1,2\n1,2,3\n", "3 columns, and the first line has 2"),
        (b"a,b\n\xff\xfe\x00,1\n", "not text in UTF-8"),
        (b"a,b\n1,-2\n", "'-2' is no class index"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, what):
    (tmp_path / "d.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        csv_file(str(tmp_path / "d.csv"))
    assert what in caught.value.what
