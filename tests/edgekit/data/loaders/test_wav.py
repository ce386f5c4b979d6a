import io
import math
import struct
import wave

import numpy as np
import pytest

from edgekit.data.loaders.files import File
from edgekit.data.loaders.wav import read_wave, wav_folder
from edgekit.errors import DataError


def packed(channels, width=2, rate=8000):
    """(T, C) integers of `width` bytes as a file."""
    values = np.asarray(channels, np.int64)
    if width == 1:
        data = (values + 128).astype(np.uint8).tobytes()
    else:
        data = b"".join(int(v).to_bytes(width, "little", signed=True) for v in values.ravel())
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((values.shape[1], width, rate, 0, "NONE", ""))
        file.writeframes(data)
    return buffer.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize(("width", "unit"), [(1, 1 / 256), (2, 1), (3, 256), (4, 65536)])
def test_every_width_in_units_of_16_bits(width, unit):
    wanted = np.array([[0], [1], [-1], [100], [-128], [127]])
    found, rate = read_wave(File("a.wav", packed(wanted, width, 22050)), "d")
    np.testing.assert_array_equal(found * unit, wanted[:, 0])
    assert rate == 22050
    ends = [[-(1 << 8 * width - 1)], [(1 << 8 * width - 1) - 1]]
    low, high = read_wave(File("a.wav", packed(ends, width)), "d")[0]
    assert low == -32768
    assert 32767 - 255 <= high < 32768


def test_folders_are_classes_channels_are_averaged_and_clips_have_one_length(tmp_path):
    write(tmp_path / "yes" / "b.wav", packed([[1, 3], [5, 6], [7, 8]]))
    write(tmp_path / "yes" / "a.WAV", packed([[9, 9]]))
    write(tmp_path / "no" / "c.wav", packed([[10 << 8], [(11 << 8) + 129]], width=3))
    write(tmp_path / "no" / "readme.txt", b"not audio")
    made = wav_folder(str(tmp_path), rate_hz=8000, samples=2)["all"]
    assert made.labels.tolist() == [0, 1, 1]
    assert made.inputs[0].dtype == np.int16
    # 11.5039 rounds up; 5.5 to the even 6
    np.testing.assert_array_equal(made.inputs[0], [[10, 12], [9, 0], [2, 6]])
    assert wav_folder(str(tmp_path), 8000, 2, classes=["yes", "no"])["all"].labels.tolist() == [1, 0, 0]


def test_a_list_labels_files_and_leaves_out_what_it_does_not_name(tmp_path):
    for name in "abc":
        write(tmp_path / "clips" / f"{name}.wav", packed([[ord(name)]]))
    (tmp_path / "list.csv").write_text("file,label\nclips/c.wav,up\nclips/a.wav,down\n")
    made = wav_folder(str(tmp_path), 8000, labels="list.csv")["all"]
    np.testing.assert_array_equal(made.inputs[0], [[97], [99]])
    assert made.labels.tolist() == [0, 1]


def test_another_rate_is_refused_unless_it_is_to_be_changed(tmp_path):
    time = np.arange(4000) / 16000
    write(tmp_path / "a" / "1.wav", packed(np.rint(8000 * np.sin(2 * np.pi * 440 * time))[:, None], rate=16000))
    with pytest.raises(DataError) as caught:
        wav_folder(str(tmp_path), 8000)
    assert caught.value.what == "16000 samples a second, and rate_hz is 8000"
    assert "resample: true" in caught.value.fix
    (wanted,) = wav_folder(str(tmp_path), 8000, resample=True)["all"].inputs
    assert wanted.shape == (1, 2000)
    tone = 8000 * np.sin(2 * np.pi * 440 * np.arange(2000) / 8000)
    assert np.abs(wanted[0] - tone)[50:-50].max() < 20  # of 8000


def test_lengths_that_differ_are_named(tmp_path):
    write(tmp_path / "a" / "1.wav", packed([[1], [2]]))
    write(tmp_path / "a" / "2.wav", packed([[1]]))
    with pytest.raises(DataError) as caught:
        wav_folder(str(tmp_path), 8000)
    assert caught.value.what == "a/1.wav has 2 samples, and a/2.wav has 1"
    assert "samples: N" in caught.value.fix


def _floats():
    riff = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 40, b"WAVE", b"fmt ", 16, 3, 1, 8000, 32000, 4, 32, b"data", 4)
    return riff + struct.pack("<f", 0.5)


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"not a recording at all", packed([[1], [2]])[:-2], packed(np.zeros((0, 1))), _floats()]
)
def test_a_damaged_recording_is_named(tmp_path, content):
    write(tmp_path / "a" / "1.wav", content)
    with pytest.raises(DataError) as caught:
        wav_folder(str(tmp_path), 8000)
    assert caught.value.where.endswith("a/1.wav")


@pytest.mark.parametrize("arguments", [{"rate_hz": 0}, {"rate_hz": math.pi}, {"rate_hz": 8000, "samples": 0}])
def test_counts_are_whole_numbers(tmp_path, arguments):
    with pytest.raises(DataError) as caught:
        wav_folder(str(tmp_path), **arguments)
    assert "give a whole number" in caught.value.fix
