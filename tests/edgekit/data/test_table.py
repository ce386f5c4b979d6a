import inspect
import re
from pathlib import Path

import pytest

from edgekit.data.loaders.images import imagenet_sample
from edgekit.data.loaders.npz import npz
from edgekit.data.loaders.packed import packed_mnist, packed_speech_commands_mfcc
from edgekit.data.metrics import METRICS
from edgekit.data.table import LOADERS, find_loader
from edgekit.errors import DataError
from edgekit.schema.tensors import Preprocess, Resize


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


def test_the_page_on_data_has_every_loader_argument_metric_and_key_of_preprocessing():
    page = (Path(__file__).parents[3] / "docs" / "your-data.md").read_text(encoding="utf-8")
    page = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    named = set(re.findall(r"[a-z0-9_]+", " ".join(re.findall(r"`[^`]+`", page))))
    own = {
        name: load
        for name, load in LOADERS.items()
        if not name.startswith(("packed_", "digit", "pasted_", "imagenet_"))
    }
    arguments = {argument for load in own.values() for argument in inspect.signature(load).parameters}
    assert {*LOADERS, *METRICS, *arguments, *Preprocess.model_fields, *Resize.model_fields} - named <= {
        name for name in LOADERS if name.startswith("packed_")
    }
