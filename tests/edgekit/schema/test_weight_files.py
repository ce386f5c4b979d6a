import hashlib
import json

import pytest

from edgekit.errors import DataError
from edgekit.schema.weight_files import check_sha256, files_of, sha256_of


def test_an_index_stands_for_itself_and_its_shards_in_order(tmp_path):
    for name in ("b.safetensors", "a.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "a.safetensors"}}))
    files = files_of(index, "model.checkpoint.path")
    assert [path.name for path in files] == ["index.json", "a.safetensors", "b.safetensors"]
    digest = hashlib.sha256(index.read_bytes() + b"a.safetensorsb.safetensors").hexdigest()
    assert sha256_of(files) == digest
    check_sha256(files, digest, "model.checkpoint.sha256")
    (tmp_path / "b.safetensors").write_bytes(b"altered")
    with pytest.raises(DataError) as caught:
        check_sha256(files, digest, "model.checkpoint.sha256")
    assert caught.value.where == f"model.checkpoint.sha256: {index}"
