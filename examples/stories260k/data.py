"""Stories as token ids, and for every step the token that comes next."""

import gzip
import struct
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

BEGIN = 1  # the token that every story starts with
NOTHING = -1  # the label of a step behind the end of its story
_BYTES = 3  # tokens 3 to 258 are single bytes
_OPENINGS = ("Once upon", "One day, ", "Once there")

Part = tuple[np.ndarray, np.ndarray]


def stories(text: str, tokenizer: str, steps: int) -> Mapping[str, Part]:
    """Part `all`: token ids (N, steps) int64, and what comes next (N, steps) int64, NOTHING behind a story's end.

    Args:
        text: a gzip file of stories and their paragraphs, blank lines between both alike.
        tokenizer: scored pieces, as llama2.c stores them.
        steps: longer stories are cut.
    """
    encode = Tokenizer(Path(tokenizer))
    told = read_stories(Path(text))
    tokens = np.zeros((len(told), steps), np.int64)
    following = np.full((len(told), steps), NOTHING, np.int64)
    for row, story in enumerate(told):
        ids = [BEGIN, *encode(story)][: steps + 1]
        tokens[row, : len(ids) - 1] = ids[:-1]
        following[row, : len(ids) - 1] = ids[1:]
    return {"all": (tokens, following)}


def read_stories(path: Path) -> list[str]:
    """Stories of ASCII, their paragraphs joined by one newline, which is all that the network has seen."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        paragraphs = file.read().replace("\r", "").split("\n\n")
    told: list[str] = []
    for paragraph in paragraphs:
        if told and not paragraph.startswith(_OPENINGS):
            told[-1] += "\n" + paragraph
        else:
            told.append(paragraph)
    return [story.strip() for story in told if story.isascii()]  # the file has quotes that were decoded wrongly


class Tokenizer:
    """Text -> ids: characters first, then the two neighbours whose join has the highest score, again and again.

    Source: Sennrich et al., arXiv:1508.07909, with the scores of github.com/google/sentencepiece.
    """

    def __init__(self, path: Path) -> None:
        content, place = path.read_bytes(), 4  # the first number is the longest piece's length
        self.pieces: list[bytes] = []
        self.scores: list[float] = []
        while place < len(content):
            score, length = struct.unpack_from("<fi", content, place)
            place += 8 + length
            self.pieces.append(content[place - length : place])
            self.scores.append(score)
        self.ids = {piece: number for number, piece in reversed(list(enumerate(self.pieces)))}
        self._word = cache(self._join)

    def __call__(self, text: str) -> list[int]:
        """Ids of ` text`. No piece has a space behind its first character, so words are joined one by one."""
        words = f" {text}".replace(" ", "\0 ").split("\0")[1:]
        return [number for word in words for number in self._word(word)]

    def _join(self, word: str) -> list[int]:
        found: list[int] = []
        for character in word:
            piece = character.encode()
            found += [self.ids[piece]] if piece in self.ids else [byte + _BYTES for byte in piece]
        while True:
            joins = [self.ids.get(self.pieces[a] + self.pieces[b]) for a, b in pairwise(found)]
            scored = [(self.scores[join], -place) for place, join in enumerate(joins) if join is not None]
            if not scored:
                return found
            place = -max(scored)[1]  # the first of equals
            found[place : place + 2] = [joins[place]]  # type: ignore[list-item]
