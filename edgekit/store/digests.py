"""Digests: one canonical form of JSON, and sha256 of it and of files. Nothing here writes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces and no NaN: equal values give equal bytes.

    Raises:
        TypeError: `value` holds something that JSON has no word for.
        ValueError: `value` holds a NaN or an infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def json_sha256(value: Mapping[str, object]) -> str:
    """Hexadecimal sha256 of the canonical JSON of `value`; raises as `canonical_json` does."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
