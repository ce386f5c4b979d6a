import io
import tarfile

import numpy as np
import pytest

from edgekit.data.loaders import (
    digits,
    imagenet_sample,
    npz,
    packed_cifar10,
    packed_mnist,
    packed_speech_commands_audio,
    packed_speech_commands_mfcc,
)
from edgekit.data.table import LOADERS, find_loader
from edgekit.errors import DataError


def pack(images):
    """(N, H, W, 3) uint8 -> (3, N, H, W): planes G, R - G, B - G, differences down, then across."""
    red, green, blue = (images[..., c] for c in range(3))
    planes = np.stack([green, red - green, blue - green])
    down = np.diff(planes, axis=2, prepend=np.zeros_like(planes[:, :, :1]))
    return np.diff(down, axis=3, prepend=np.zeros_like(down[:, :, :, :1]))


def test_digits_are_split_without_loss_or_overlap():
    from sklearn.datasets import load_digits

    parts = digits()
    assert {name: len(part.labels) for name, part in parts.items()} == {"train": 1244, "selection": 138, "test": 415}
    everything = np.concatenate([part.inputs[0] for part in parts.values()])
    labels = np.concatenate([part.labels for part in parts.values()])
    wanted = load_digits()
    assert everything.shape == (1797, 8, 8, 1)
    assert everything.dtype == np.uint8
    key = {image.tobytes() + bytes([label]) for image, label in zip(everything, labels, strict=True)}
    assert key == {
        image.astype(np.uint8).tobytes() + bytes([label])
        for image, label in zip(wanted.images, wanted.target, strict=True)
    }
    assert np.array_equal(parts["test"].inputs[0][3, :, :, 0], wanted.images[15])  # 2, 6, 10, then 15
    for part in parts.values():
        assert np.bincount(part.labels, minlength=10).min() > 0.04 * len(part.labels)


def test_packed_images_are_unpacked_to_the_last_bit(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 7, 6, 3)).astype(np.uint8)
    np.savez(tmp_path / "t.npz", delta=pack(images), labels=np.arange(5, dtype=np.uint8))
    parts = packed_cifar10(str(tmp_path), test="t.npz", train="t.npz")
    assert set(parts) == {"train", "test"}
    assert np.array_equal(parts["test"].inputs[0], images)
    assert parts["test"].labels.dtype == np.int64
    assert set(packed_cifar10(str(tmp_path), test="t.npz")) == {"test"}


def test_cifar10_has_the_published_mean_and_deviation(data_folder):
    test = packed_cifar10(str(data_folder), test="cifar10_test.npz")["test"]
    assert test.inputs[0].shape == (10000, 32, 32, 3)
    # of all 60,000 images .4914 .4822 .4465 and .2470 .2435 .2616
    assert test.inputs[0].mean((0, 1, 2)) / 255 == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.005)
    assert test.inputs[0].std((0, 1, 2)) / 255 == pytest.approx([0.2470, 0.2435, 0.2616], abs=0.005)
    assert np.bincount(test.labels).tolist() == [1000] * 10


def test_other_packed_sets_have_their_shapes(data_folder):
    mnist = packed_mnist(str(data_folder / "mnist.npz"))
    assert mnist["test"].inputs[0].shape == (10000, 28, 28, 1)
    assert len(mnist["train"].labels) == 20000
    speech = packed_speech_commands_mfcc(str(data_folder / "speech_commands_1000.npz"))["all"]
    assert speech.inputs[0].shape == (1000, 49, 10, 1)
    assert speech.inputs[0].dtype == np.int8


def _packed_audio(path, audio):
    differences = np.diff(audio.astype(np.int32), axis=1, prepend=0).astype(np.int16)
    np.savez(
        path,
        audio_hi=(differences >> 8).astype(np.int8),
        audio_lo=(differences & 255).astype(np.uint8),
        labels=np.array([0, 1, 2], np.uint8),
        classes=np.array([b"down", b"go", b"silence"]),
    )


def test_recordings_are_unpacked_and_labelled_in_the_order_of_the_network(tmp_path):
    audio = np.array([[0, 5, -7, 300], [-32768, 32767, -32768, 0], [256, 255, -256, -257]], np.int16)
    _packed_audio(tmp_path / "a.npz", audio)
    made = packed_speech_commands_audio(str(tmp_path / "a.npz"), ["silence", "down", "go"])["all"]
    np.testing.assert_array_equal(made.inputs[0], audio)
    assert made.inputs[0].dtype == np.int16
    assert made.labels.tolist() == [1, 2, 0]
    with pytest.raises(DataError) as caught:
        packed_speech_commands_audio(str(tmp_path / "a.npz"), ["silence", "down", "stop"])
    assert "down, go, silence" in caught.value.what


def test_any_npz_by_the_names_of_its_arrays(tmp_path):
    x, y = np.zeros((3, 2), np.float32), np.array([1, 0, 1], np.uint8)
    np.savez(tmp_path / "d.npz", xs=x, ys=y, inputs=x + 1, labels=y)
    path = str(tmp_path / "d.npz")
    assert npz(path)["all"].inputs[0][0, 0] == 1
    parts = npz(path, {"test": ("xs", "ys")})
    assert parts["test"].labels.tolist() == [1, 0, 1]
    with pytest.raises(DataError) as caught:
        npz(path, {"test": ("xs", "yss")})
    assert "did you mean 'ys'" in caught.value.fix


@pytest.mark.parametrize("labels", [np.zeros(2, np.int64), np.zeros(3, np.float32), np.zeros((3, 1), np.int64)])
def test_labels_must_be_one_integer_a_sample(tmp_path, labels):
    np.savez(tmp_path / "d.npz", inputs=np.zeros((3, 2)), labels=labels)
    with pytest.raises(DataError):
        npz(str(tmp_path / "d.npz"))


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "d.npz", inputs=np.array([{}], dtype=object), labels=np.zeros(1, np.int64))
    with pytest.raises(DataError) as caught:
        npz(str(tmp_path / "d.npz"))
    assert "plain arrays" in caught.value.what


def test_a_missing_file_names_the_variable(tmp_path):
    for load in (npz, packed_mnist, packed_speech_commands_mfcc, imagenet_sample):
        with pytest.raises(DataError) as caught:
            load(str(tmp_path / "absent"))
        assert "EDGEKIT_DATA" in caught.value.fix


def image_tar(path, count):
    from PIL import Image

    with tarfile.open(path, "w") as archive:
        for i in reversed(range(count)):
            buffer = io.BytesIO()
            Image.fromarray(np.full((8, 8, 3), i * 20, np.uint8)).save(buffer, "JPEG", quality=100)
            member = tarfile.TarInfo(f"{i:04}_n.jpg")
            member.size = buffer.tell()
            buffer.seek(0)
            archive.addfile(member, buffer)


def test_images_of_a_tar_are_spread_by_the_stride(tmp_path):
    pytest.importorskip("PIL")
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


def test_a_loader_by_name_or_by_reference():
    assert find_loader("digits") is LOADERS["digits"]
    assert find_loader("edgekit.data.loaders:npz") is npz
    with pytest.raises(DataError) as caught:
        find_loader("digit")
    assert "did you mean 'digits'" in caught.value.fix
