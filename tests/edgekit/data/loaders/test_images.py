import io
import tarfile

import numpy as np
import pytest

from edgekit.data.loaders.images import image_folder, imagenet_sample
from edgekit.errors import DataError

Image = pytest.importorskip("PIL.Image")


def image_tar(path, count):
    with tarfile.open(path, "w") as archive:
        for i in reversed(range(count)):
            buffer = io.BytesIO()
            Image.fromarray(np.full((8, 8, 3), i * 20, np.uint8)).save(buffer, "JPEG", quality=100)
            member = tarfile.TarInfo(f"{i:04}_n.jpg")
            member.size = buffer.tell()
            buffer.seek(0)
            archive.addfile(member, buffer)


def test_images_of_a_tar_are_spread_by_the_stride(tmp_path):
    image_tar(tmp_path / "i.tar", 7)
    part = imagenet_sample(str(tmp_path / "i.tar"), stride=3)["all"]
    assert part.labels.tolist() == [0, 3, 6, 2, 5, 1, 4]
    assert part.inputs[0].shape == (7, 8, 8, 3)
    assert part.inputs[0][:, 4, 4, 0].tolist() == pytest.approx([label * 20 for label in part.labels], abs=2)
    with pytest.raises(DataError) as caught:
        imagenet_sample(str(tmp_path / "i.tar"), stride=14)
    assert "stride 14" in caught.value.what


def test_what_is_no_tar_of_images_is_refused(tmp_path):
    (tmp_path / "i.tar").write_bytes(b"x" * 2000)
    with pytest.raises(DataError):
        imagenet_sample(str(tmp_path / "i.tar"))


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def colour(*rgb, size=(4, 6)):
    return np.broadcast_to(np.array(rgb, np.uint8), (*size, 3))


def test_folders_are_classes_and_files_are_sorted(tmp_path):
    save(tmp_path / "dog" / "2.png", colour(3, 0, 1))
    save(tmp_path / "dog" / "10.PNG", colour(2, 0, 1))
    save(tmp_path / "cat" / "x.bmp", colour(1, 5, 9))
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"no image")
    made = image_folder(str(tmp_path))["all"]
    assert made.inputs[0].shape == (3, 4, 6, 3)
    assert made.inputs[0].dtype == np.uint8
    assert made.inputs[0][:, 0, 0].tolist() == [[1, 5, 9], [2, 0, 1], [3, 0, 1]]
    assert made.labels.tolist() == [0, 1, 1]
    assert image_folder(str(tmp_path), classes=["dog", "cat"])["all"].labels.tolist() == [1, 0, 0]
    grey = image_folder(str(tmp_path), channels=1)["all"].inputs[0]
    assert grey.shape == (3, 4, 6, 1)
    assert grey[0, 0, 0, 0] == round(0.299 * 1 + 0.587 * 5 + 0.114 * 9)


def test_parts_are_folders_and_share_their_classes(tmp_path):
    save(tmp_path / "train" / "b" / "1.png", colour(1, 1, 1))
    save(tmp_path / "train" / "a" / "2.png", colour(2, 2, 2))
    save(tmp_path / "val" / "b" / "3.png", colour(3, 3, 3))
    made = image_folder(str(tmp_path), parts={"train": "train", "test": "val/"})
    assert {part: samples.labels.tolist() for part, samples in made.items()} == {"train": [0, 1], "test": [1]}
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path), parts={"test": "vall"})
    assert caught.value.where.endswith("/vall")
    assert "did you mean 'val'" in caught.value.fix


def packed(path, files, mode="w", **member):
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in member.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_is_read_as_the_folder_that_it_was(tmp_path, mode):
    files = [("./b/1.png", png(colour(9, 8, 7))), ("./a/1.png", png(colour(1, 2, 3))), ("a/._1.png", b"finder")]
    packed(tmp_path / "i.tar", files, mode)
    made = image_folder(str(tmp_path / "i.tar"))["all"]
    assert made.inputs[0][:, 0, 0].tolist() == [[1, 2, 3], [9, 8, 7]]
    assert made.labels.tolist() == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.tar"]


def test_a_list_names_classes_in_a_tar_too(tmp_path):
    packed(tmp_path / "i.tar", [("1.png", png(colour(1, 1, 1))), ("2.png", png(colour(2, 2, 2))), ("3.png", b"bad")])
    (tmp_path / "l.csv").write_text("2.png,up\n1.png,down\n")
    made = image_folder(str(tmp_path / "i.tar"), labels=str(tmp_path / "l.csv"), classes=["up", "down"])["all"]
    assert made.labels.tolist() == [1, 0]
    (tmp_path / "l.csv").write_text("2.png,up\n4.png,down\n5.png,down\n")
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path / "i.tar"), labels=str(tmp_path / "l.csv"))
    assert caught.value.what == "'4.png' is listed, and 1 more, and there is no such file"


def test_images_without_labels(tmp_path):
    save(tmp_path / "1.png", colour(1, 1, 1))
    assert image_folder(str(tmp_path), labels="none", classes=["up", "down"])["all"].labels.tolist() == [0]
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path))
    assert caught.value.what == "'1.png' lies in no folder of a class"
    assert "labels: none" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "member", "what"),
    [
        ("../a/1.png", {}, "a name that leads out of the tar"),
        ("/a/1.png", {}, "a name that leads out of the tar"),
        ("a/1.png", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0}, "a link or a device, and no file"),
        ("a/1.png", {"type": tarfile.LNKTYPE, "linkname": "a/2.png", "size": 0}, "a link or a device, and no file"),
        ("a/1.png", {"type": tarfile.FIFOTYPE, "size": 0}, "a link or a device, and no file"),
    ],
)
def test_a_tar_cannot_reach_outside(tmp_path, name, member, what):
    packed(tmp_path / "i.tar", [(name, png(colour(1, 1, 1)))], **member)
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path / "i.tar"))
    assert caught.value.what == what
    assert name in caught.value.where


def test_a_member_that_claims_to_be_huge_is_refused_unread(tmp_path):
    info = tarfile.TarInfo("a/1.png")
    info.size = 1 << 40
    (tmp_path / "i.tar").write_bytes(info.tobuf() + b"\0" * 1024)
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path / "i.tar"))
    assert "1,099,511,627,776 bytes" in caught.value.what


def test_sizes_that_differ_are_named_and_brought_to_one(tmp_path):
    halves = np.zeros((8, 16, 3), np.uint8)
    halves[:, 8:] = 200
    save(tmp_path / "a" / "1.png", halves)
    save(tmp_path / "a" / "2.png", colour(100, 100, 100, size=(4, 4)))
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path))
    assert caught.value.what == "a/1.png is 16 x 8 pixels, and a/2.png is 4 x 4"
    assert "`resize: [height, width]`" in caught.value.fix
    made = image_folder(str(tmp_path), resize={"size": [8, 8], "mode": "letterbox", "pad": 7, "antialias": True})["all"]
    witness = np.asarray(Image.fromarray(halves).resize((8, 4), Image.Resampling.BILINEAR))
    assert (made.inputs[0][0, [0, 1, 6, 7]] == 7).all()
    assert np.abs(made.inputs[0][0, 2:6].astype(int) - witness).max() <= 1  # both round
    assert (made.inputs[0][1] == 100).all()
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path), resize={"size": [8, 8], "mod": "letterbox"})
    assert "resize is" in caught.value.what


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "a damaged image"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 40, "a damaged image"),
        (png(np.arange(1200).reshape(20, 20, 3) % 251)[:-60], "a damaged image"),
    ],
)
def test_a_damaged_image_is_named(tmp_path, content, what):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(content)
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path))
    assert what in caught.value.what
    assert caught.value.where.endswith(": a/1.png")


def test_what_has_no_8_bit_channels_or_too_many_pixels_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "a" / "1.png")
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path))
    assert "mode I;16" in caught.value.what
    monkeypatch.setattr("edgekit.data.loaders.images._MOST_PIXELS", 15)
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path))
    assert caught.value.what == "an image of 4 x 4 pixels"


def test_classes_and_folders_must_agree(tmp_path):
    save(tmp_path / "cat" / "1.png", colour(1, 1, 1))
    for classes, what in ((["cats"], "no class is called 'cat'"), (["cat", "dog"], "class 'dog' has no sample")):
        with pytest.raises(DataError) as caught:
            image_folder(str(tmp_path), classes=classes)
        assert caught.value.what == what
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path / "absent"))
    assert caught.value.what == "there is no such folder or tar"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        image_folder(str(tmp_path / "empty"))
    assert caught.value.what == "there are no files of this kind"
