"""`content_digest`: what makes two builds the same; `evidence_digest`: everything else that a manifest says.

docs/bundle.md lists every key that enters the first, and why.
"""

from collections.abc import Mapping
from typing import Any

from edgekit.store.digests import json_sha256

Document = Mapping[str, Any]  # plain data, as manifest.json holds them
EVIDENCE = "evidence/"
# Only what this machine's runtime did with the file: another machine's may fuse otherwise.
_OBSERVED = {"fused", "fused_by", "in_float"}
_STEP_KEYS = {"name", "model", "options", "before", "after"}


def content_digest(document: Document) -> str:
    """Sha256 of the canonical JSON of what is deterministic in a build.

    Args:
        document: the manifest as it is written. Not as it is read: a newer edgekit knows keys that an older one did not
            write, and would digest their defaults.
    """
    return json_sha256(
        {
            **{key: document[key] for key in ("recipe", "target", "inputs", "outputs", "postprocess", "metrics")},
            "overrides": sorted(row["digest"] for row in document.get("overrides", ())),
            "artifacts": [
                {key: value for key, value in row.items() if key not in _OBSERVED} for row in document["artifacts"]
            ],
            "steps": [{key: row[key] for key in row if key in _STEP_KEYS} for row in document.get("steps", ())],
            "files": {
                path: digest for path, digest in document.get("files", {}).items() if not path.startswith(EVIDENCE)
            },
        }
    )


def evidence_digest(document: Document) -> str:
    """Sha256 of the canonical JSON of the whole manifest but this key: gates, profiles, times and verdict too.

    It finds a manifest that was edited, not one that was forged: whoever edits it on purpose can digest it again.
    """
    return json_sha256({key: value for key, value in document.items() if key != "evidence_digest"})
