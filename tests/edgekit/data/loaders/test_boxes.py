import numpy as np
import pytest

from edgekit.data.loaders.boxes import fill_boxes, place_boxes, read_boxes
from edgekit.data.loaders.images import image_folder
from edgekit.errors import DataError

Image = pytest.importorskip("PIL.Image")

LIST = """file,label,x_min,y_min,x_max,y_max
shots/b.png,car,2,3,6,7
./shots/a.png,van,0,0,1.5,2
shots/b.png,van,8,0,12,6
shots/c.png,,,,,
"""


def test_a_list_has_a_box_a_line_and_images_without_any(tmp_path):
    (tmp_path / "boxes.csv").write_text(LIST)
    found = read_boxes("boxes.csv", str(tmp_path), ())
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "shots/a.png": [[1, 0, 0, 1.5, 2]],
        "shots/b.png": [[0, 2, 3, 6, 7], [1, 8, 0, 12, 6]],
        "shots/c.png": [],
    }
    turned = read_boxes("boxes.csv", str(tmp_path), ["van", "car"])
    assert turned["shots/b.png"][:, 0].tolist() == [1, 0]


@pytest.mark.parametrize(
    "line", ["a.png,car,1,2,3", "a.png,car,1,2,x,4", "a.png,car,3,2,3,4", "a.png,car,0,5,3,4", "a.png,car,0,nan,3,4"]
)
def test_a_line_that_is_no_box_is_named(tmp_path, line):
    (tmp_path / "b.csv").write_text(f"a.png,car,0,0,1,1\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_boxes(str(tmp_path / "b.csv"), "", ())
    assert caught.value.what == f"{line!r} is no box"
    assert caught.value.where.endswith("b.csv, line 2")


def test_boxes_move_with_their_image():
    boxes = np.array([[3, 0, 0, 40, 20], [1, 10, 5, 20, 10]], np.float64)
    size = (20, 40)  # height, width
    assert place_boxes(boxes, size, None, "w") is boxes
    stretched = place_boxes(boxes, size, {"size": (40, 10)}, "w")
    assert stretched.tolist() == [[3, 0, 0, 10, 40], [1, 2.5, 10, 5, 20]]
    # 40 x 20 becomes 20 x 10, five rows below the top
    boxed = place_boxes(boxes, size, {"size": (20, 20), "mode": "letterbox"}, "w")
    assert boxed.tolist() == [[3, 0, 5, 20, 15], [1, 5, 7.5, 10, 10]]
    for outside in ([-1, 0, 4, 4], [0, 0, 41, 4], [0, 0, 4, 21]):
        with pytest.raises(DataError) as caught:
            place_boxes(np.array([[0, *outside]], np.float64), size, None, "d: a.png")
        assert "reaches out of the image of 40 x 20 pixels" in caught.value.what
        assert caught.value.where == "d: a.png"


def test_images_with_fewer_boxes_are_filled_up():
    made = fill_boxes([np.zeros((0, 5)), np.array([[2, 1, 2, 3, 4.0]])], 2)
    assert made.dtype == np.float32
    assert made[:, :, 0].tolist() == [[-1, -1], [2, -1]]
    assert made[1, 0].tolist() == [2, 1, 2, 3, 4]


def test_a_folder_of_images_of_several_sizes_has_its_boxes_on_what_they_were_on(tmp_path):
    (tmp_path / "shots").mkdir()
    for name, (height, width) in (("a", (8, 16)), ("b", (24, 12)), ("c", (5, 5)), ("unlisted", (9, 9))):
        Image.new("L", (width, height)).save(tmp_path / "shots" / f"{name}.png")
    dark = Image.new("L", (12, 24))
    dark.paste(255, (2, 4, 6, 16))  # left, top, right, bottom
    dark.save(tmp_path / "shots" / "b.png")
    (tmp_path / "boxes.csv").write_text(LIST.replace("2,3,6,7", "2,4,6,16"))
    made = image_folder(
        str(tmp_path),
        channels=1,
        boxes="boxes.csv",
        resize={"size": [48, 48], "mode": "letterbox"},
        classes=["car", "van"],
    )["all"]
    assert made.inputs[0].shape == (3, 48, 48, 1)
    assert made.labels.shape == (3, 2, 5)
    assert (made.labels[2, :, 0] == -1).all()
    label, *corners = made.labels[1, 0].tolist()
    assert label == 0
    rows, columns = np.nonzero(made.inputs[0][1, :, :, 0] > 127)
    assert corners == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [16, 8, 24, 32]
    (tmp_path / "shots" / "c.png").unlink()
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path), channels=1, boxes="boxes.csv", resize=[8, 8])
    assert caught.value.what == "'shots/c.png' is listed, and there is no such file"
