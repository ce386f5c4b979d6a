import pytest

from edgekit.data.loaders.images import imagenet_sample
from edgekit.data.loaders.npz import npz
from edgekit.data.loaders.packed import packed_mnist, packed_speech_commands_mfcc
from edgekit.data.table import LOADERS, find_loader
from edgekit.errors import DataError


def test_a_loader_by_name_or_by_reference():
    assert find_loader("digits") is LOADERS["digits"]
    assert find_loader("edgekit.data.loaders.npz:npz") is npz
    with pytest.raises(DataError) as caught:
        find_loader("digit")
    assert "did you mean 'digits'" in caught.value.fix


def test_a_missing_file_names_the_variable(tmp_path):
    for load in (npz, packed_mnist, packed_speech_commands_mfcc, imagenet_sample):
        with pytest.raises(DataError) as caught:
            load(str(tmp_path / "absent"))
        assert "EDGEKIT_DATA" in caught.value.fix
