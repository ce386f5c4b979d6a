"""Paths as a bundle may hold them: relative, inside it, and the same on every system."""

from pathlib import PurePosixPath

_MAX_CHARACTERS = 400


def unsafe_path(path: str) -> str:
    """Why `path` may not be the path of a file in a bundle; empty when it may."""
    if not path or len(path) > _MAX_CHARACTERS:
        return "empty or too long"
    if any(ord(letter) < 32 or letter in '\\:*?"<>|' for letter in path):
        return "it holds a character that is not portable"
    pure = PurePosixPath(path)
    if pure.is_absolute():
        return "it is absolute"
    if ".." in pure.parts:
        return "it leaves the bundle"
    if str(pure) != path or path == ".":
        return "it is not in its shortest form"
    return ""
