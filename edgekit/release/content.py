"""`content_digest`: what makes two builds the same; `evidence_digest`: everything else that a manifest says.

docs/bundle.md lists every key that enters the first, and why.
"""

from edgekit.schema.manifest import Manifest
from edgekit.store.digests import json_sha256

EVIDENCE = "evidence/"
# Only what this machine's runtime did with the file: another machine's may fuse otherwise.
_OBSERVED = {"fused", "in_float"}
_STEP_KEYS = {"name", "model", "options", "before", "after"}


def content_digest(manifest: Manifest) -> str:
    """Sha256 of the canonical JSON of what is deterministic in a build; `manifest.content_digest` is not read."""
    document = manifest.model_dump(mode="json")
    return json_sha256(
        {
            "recipe": document["recipe"],
            "target": document["target"],
            "overrides": sorted(row["digest"] for row in document["overrides"]),
            "inputs": document["inputs"],
            "outputs": document["outputs"],
            "artifacts": [
                {key: value for key, value in row.items() if key not in _OBSERVED} for row in document["artifacts"]
            ],
            "metrics": document["metrics"],
            "steps": [{key: row[key] for key in sorted(_STEP_KEYS)} for row in document["steps"]],
            "files": {path: digest for path, digest in document["files"].items() if not path.startswith(EVIDENCE)},
        }
    )


def evidence_digest(manifest: Manifest) -> str:
    """Sha256 of the canonical JSON of the whole manifest but this key: gates, profiles, times and verdict too.

    It finds a manifest that was edited, not one that was forged: whoever edits it on purpose can digest it again.
    """
    return json_sha256(manifest.model_dump(mode="json", exclude={"evidence_digest"}))
