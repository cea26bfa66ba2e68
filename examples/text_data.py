"""Text for the language model: where it comes from, its words, its vocabulary, and its batches.

A corpus is either three files in the format of the Penn Treebank set (one tokenised sentence a line), or any
text, which is tokenised and split here. By default that is the documentation that ships inside Python.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc_data import topics

import numpy as np
import numpy.typing as npt

__all__ = [
    "END",
    "UNKNOWN",
    "Corpus",
    "DataError",
    "batch_count",
    "batches",
    "documentation",
    "load_corpus",
    "readable",
]

END = "<eos>"  # closes every sentence
UNKNOWN = "<unk>"  # stands for every word outside the vocabulary
PARTS = ("train", "valid", "test")

Ids = npt.NDArray[np.int32]

_TOKEN = re.compile(r"<unk>|\d+(?:[.,]\d+)*(?!\w)|\w+(?:['\u2019.-]\w+)*|\(\)|\.\.\.|[^\w\s]")
_NUMBER = re.compile(r"\d[\d.,]*")
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+(?=[^a-z])")
_PROSE = re.compile(r"[A-Z\u201c_].*[.:?!][')]*(?: \[\d+\])?", re.DOTALL)
# What is written without a space before it.
_ATTACHED = {".", ",", ":", ";", "?", "!", ")", "]", "()", "...", "\u2019", "\u201d", "'", "%"}
_CODE = re.compile(r"::=|>>>|\w\(\w.*\):$")
_MARKUP = re.compile(r"^(?:\* |\d+\. )|[*\"]")  # bullets and item numbers; marks of emphasis and of code


class DataError(Exception):
    """The text asked for is missing, or there is too little of it; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Three texts as word numbers, and the words behind the numbers."""

    name: str
    vocabulary: list[str]  # [V]
    train: Ids  # [words]
    valid: Ids  # [words]
    test: Ids  # [words]


def load_corpus(path: Path | None, largest_vocabulary: int) -> Corpus:
    """Reads a directory of ptb.*.txt files, any other text file, or (path None) Python's own documentation.

    The vocabulary is the `largest_vocabulary` most frequent words of the training part that occur in it at
    least twice; every other word becomes `<unk>`. Raises DataError, with the reason in one sentence.
    """
    if path is None:
        name, parts = "the documentation that ships inside Python", _split(documentation())
    elif path.is_dir():
        name, parts = str(path), {part: _sentences_by_line(path / f"ptb.{part}.txt") for part in PARTS}
    else:
        name, parts = str(path), _split(_paragraphs(_read(path)))
    counts = Counter(word for sentence in parts["train"] for word in sentence)
    del counts[UNKNOWN], counts[END]
    frequent = counts.most_common(largest_vocabulary - 2)
    vocabulary = [END, UNKNOWN, *(word for word, count in frequent if count > 1)]
    number = {word: i for i, word in enumerate(vocabulary)}

    def ids(sentences: list[list[str]]) -> Ids:
        words = (word for sentence in sentences for word in [*sentence, END])
        return np.array([number.get(word, number[UNKNOWN]) for word in words], np.int32)

    return Corpus(name, vocabulary, ids(parts["train"]), ids(parts["valid"]), ids(parts["test"]))


def batch_count(words: Ids, batch: int, steps: int) -> int:
    """How many batches [batch, steps] a text gives; 0 if it is too short for one."""
    return max(0, len(words) // batch - 1) // steps


def batches(words: Ids, batch: int, steps: int) -> Iterator[tuple[Ids, Ids]]:
    """Pairs of words and the words that follow them, both [batch, steps].

    Row b of a batch goes on in row b of the next one, so that a state can be carried from batch to batch.
    """
    rows = words[: len(words) // batch * batch].reshape(batch, -1)
    for i in range(batch_count(words, batch, steps)):
        start = i * steps
        yield rows[:, start : start + steps], rows[:, start + 1 : start + steps + 1]


def readable(words: Sequence[str], width: int) -> str:
    """Words and punctuation as a paragraph: a capital opens each sentence, lines have `width` letters."""
    text, opening, quoted, capital = "", True, False, True
    for word in words:
        if word == END:
            capital = True
            continue
        attached = word in _ATTACHED or (word == '"' and quoted)
        text += ("" if opening or attached else " ") + (word[:1].upper() + word[1:] if capital else word)
        quoted ^= word == '"'
        opening = word in {"(", "[", "\u201c"} or (word == '"' and quoted)
        capital = capital and opening
    return "\n".join(textwrap.wrap(text, width))


def documentation() -> list[str]:
    """The prose of Python's documentation topics in paragraphs, without listings, grammar and repetitions."""
    paragraphs: dict[str, None] = {}  # a dict keeps the order and drops what several topics share
    for _, text in sorted(topics.topics.items()):
        for block in text.split("\n\n"):
            paragraph = " ".join(line.strip() for line in block.splitlines()).strip()
            paragraph = _MARKUP.sub("", paragraph)
            if len(paragraph.split()) > 3 and _PROSE.fullmatch(paragraph) and not _CODE.search(paragraph):
                paragraphs[paragraph] = None
    return list(paragraphs)


def _paragraphs(text: str) -> list[str]:
    """Paragraphs between empty lines, or the lines where the text has no empty ones."""
    blocks = re.split(r"\n\s*\n", text)
    return blocks if len(blocks) > 1 else text.splitlines()


def _split(paragraphs: list[str]) -> dict[str, list[list[str]]]:
    """Sentences of the three parts: of every twenty paragraphs 18 train, one validates and one tests."""
    parts: dict[str, list[list[str]]] = {part: [] for part in PARTS}
    for i, paragraph in enumerate(paragraphs):
        part = parts["valid" if i % 20 == 9 else "test" if i % 20 == 19 else "train"]
        for sentence in _SENTENCE_END.split(paragraph):
            tokens = [_NUMBER.sub("N", token) for token in _TOKEN.findall(sentence.lower())]
            if tokens:
                part.append(tokens)
    return parts


def _sentences_by_line(path: Path) -> list[list[str]]:
    return [line.split() for line in _read(path).splitlines() if line.strip()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(f"cannot read {path}: {reason}") from error
