"""sbom.cdx.json: what is in a bundle and what made it, as CycloneDX 1.6. The same facts give the same bytes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from edgekit.schema.manifest import ArtifactRow, RecipeRow
from edgekit.store.digests import json_sha256

# Names under which edgekit's own serial numbers stand: made once with uuid4, then fixed.
_NAMESPACE = uuid.UUID("72a57273-6c87-4c71-9ec8-9d5f07b71b2f")


@dataclass(frozen=True)
class DataSet:
    """What the model was trained, calibrated and tested on."""

    name: str
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True)
class Materials:
    """What a bundle was made from.

    Attributes:
        libraries: name on the Python Package Index -> version, of those that made the artifacts.
        checkpoints: name -> sha256 of weights that the model started from.
    """

    libraries: Mapping[str, str]
    data: tuple[DataSet, ...] = ()
    checkpoints: Mapping[str, str] = field(default_factory=dict)


def software_bill(name: str, recipe: RecipeRow, artifacts: tuple[ArtifactRow, ...], materials: Materials) -> bytes:
    """CycloneDX JSON: the bundle, its model, its files, the data sets and the libraries.

    There is no time in it, and its serial number is derived from what it lists, so two equal builds have equal bills.
    """
    model = Component(
        name=recipe.name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        version=recipe.digest,
        properties=[
            Property(name=f"edgekit:checkpoint:{key}", value=f"sha256:{digest}")
            for key, digest in sorted(materials.checkpoints.items())
        ],
    )
    files = [
        Component(
            name=row.path,
            type=ComponentType.FILE,
            bom_ref=f"file/{row.path}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=row.sha256)],
            properties=[
                Property(name="edgekit:convention", value=row.convention),
                Property(name="edgekit:format", value=row.format),
                Property(name="edgekit:precision", value=row.precision),
            ],
        )
        for row in artifacts
    ]
    data = [
        Component(
            name=item.name,
            type=ComponentType.DATA,
            bom_ref=f"data/{item.name}",
            licenses=_licences(item.licence),
            description=item.citation or None,
        )
        for item in materials.data
    ]
    libraries = [
        Component(
            name=library,
            type=ComponentType.LIBRARY,
            bom_ref=f"pypi/{library}",
            version=version,
            purl=PackageURL("pypi", None, library.lower().replace("_", "-"), version),
        )
        for library, version in materials.libraries.items()
    ]
    bom = Bom(components=[model, *files, *data, *libraries])
    bundle = Component(name=name, type=ComponentType.FIRMWARE, bom_ref="bundle")
    bom.metadata.component = bundle
    bom.register_dependency(bundle, [model, *files])
    for file in files:
        bom.register_dependency(file, [model, *libraries])
    bom.register_dependency(model, data)
    return _bytes(bom)


def _licences(name: str) -> list[DisjunctiveLicense]:
    return [DisjunctiveLicense(name=name)] if name else []


def _bytes(bom: Bom) -> bytes:
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"], document["serialNumber"]
    document["serialNumber"] = uuid.uuid5(_NAMESPACE, json_sha256(document)).urn
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode()
