import numpy as np
import pytest

from edgekit.data.loaders.packed import (
    packed_cifar10,
    packed_mnist,
    packed_speech_commands_audio,
    packed_speech_commands_mfcc,
)
from edgekit.errors import DataError


def pack(images):
    """(N, H, W, 3) uint8 -> (3, N, H, W): planes G, R - G, B - G, differences down, then across."""
    red, green, blue = (images[..., c] for c in range(3))
    planes = np.stack([green, red - green, blue - green])
    down = np.diff(planes, axis=2, prepend=np.zeros_like(planes[:, :, :1]))
    return np.diff(down, axis=3, prepend=np.zeros_like(down[:, :, :, :1]))


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
