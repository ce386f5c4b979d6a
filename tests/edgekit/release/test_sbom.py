import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from edgekit.release.sbom import Materials, software_bill


def bill(draft, **libraries):
    materials = Materials(libraries or draft.materials.libraries, draft.materials.data, {"w.pth": "ef" * 32})
    return software_bill("a-b", draft.recipe, draft.artifacts, materials)


def test_the_bill_names_the_model_its_files_its_data_and_its_libraries(draft_of):
    draft = draft_of()
    document = json.loads(bill(draft))
    found = {row["bom-ref"]: row for row in document["components"]}
    assert found["model"]["type"] == "machine-learning-model"
    assert found["file/model.onnx"]["hashes"] == [{"alg": "SHA-256", "content": draft.artifacts[0].sha256}]
    assert found["data/digits"]["licenses"] == [{"license": {"name": "CC BY 4.0"}}]
    assert found["pypi/torch"]["purl"] == "pkg:pypi/torch@2.13.0"
    assert found["model"]["properties"] == [{"name": "edgekit:checkpoint:w.pth", "value": f"sha256:{'ef' * 32}"}]
    needs = {row["ref"]: row.get("dependsOn", []) for row in document["dependencies"]}
    assert needs["file/model.onnx"] == ["model", "pypi/onnx", "pypi/torch"]
    assert needs["model"] == ["data/digits"]


def test_the_same_facts_give_the_same_bytes_and_no_time(draft_of):
    first = bill(draft_of(), torch="2.13.0", onnx="1.19.1")
    assert bill(draft_of(), onnx="1.19.1", torch="2.13.0") == first
    assert b"timestamp" not in first
    serial = json.loads(first)["serialNumber"]
    assert json.loads(bill(draft_of(), torch="2.13.1"))["serialNumber"] != serial


def test_the_bill_meets_the_published_schema(draft_of):
    pytest.importorskip("jsonschema", reason="the schema is checked where jsonschema is installed")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill(draft_of()).decode()) is None
