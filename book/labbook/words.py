"""The words of figures, tables and checks in another language, as a reader sees them.

What is said is English, everywhere in the code. ``book/locale/zh_CN/live/`` has a table a chapter: English words, and theirs
in Chinese; ``{1}``, ``{2}`` stand for what changes, and are looked up in turn, ``{#1}`` for what has no words, such as a
number. What no table has stays English. The static page does the same, by words.js. The environment's ``ADVLAB_LANG`` is
the language, "zh" or nothing.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "locale" / "zh_CN" / "live"
HOLE = re.compile(r"\{(#?\d+)\}")
SENTENCES = re.compile(r"(?<=[.?!]) |(?<=[.?!]”) ")
PARTS = re.compile(r"(?<=[.?!,;:]) |(?<=[.?!]”) ")
WITHIN = r"((?:[^.?!]|[.?!](?! ))+?)"  #: what may stand in a hole: no end of a sentence
NUMBER = r"((?:(?![a-z]{2})(?:[^.?!]|[.?!](?! )))+?)"  #: and in one of numbers
SIGNS = {",": "，", ";": "；", ":": "：", ".": "。"}
STOPS = ("，", "；", "：", "。", "！", "？")
WIDE = re.compile(r"[\u2e80-\uffef“”]")


def language() -> str:
    """The language that readers asked for: "zh", or "en"."""
    return "zh" if os.environ.get("ADVLAB_LANG", "").startswith("zh") else "en"


def pattern(english: str) -> re.Pattern[str]:
    """What matches the words of a row, with something in each of its holes."""
    fits = [
        re.escape(part) if k % 2 == 0 else NUMBER if part[0] == "#" else WITHIN for k, part in enumerate(HOLE.split(english))
    ]
    return re.compile("".join(fits) + "$", re.S)


class Words:
    """A table of words. Of several rows that fit, the one with the most words of its own is taken.

    >>> words = Words([("{1} of {2} digits", "{2} 个数字中的{1}个"), ("It is right.", "读对了。"), ("none", "没有")])
    >>> words.said("none of 7 digits"), words.said("It is right. none of 7 digits"), words.said("It is wrong.")
    ('7 个数字中的没有个', '读对了。7 个数字中的没有个', 'It is wrong.')
    """

    def __init__(self, rows: Iterable[tuple[str, str]]) -> None:
        self._exact = {english: text for english, text in rows if text}
        held = sorted((e for e in self._exact if HOLE.search(e)), key=lambda e: -len(HOLE.sub("", e)))
        self._open = [(pattern(e), HOLE.findall(e), self._exact[e]) for e in held]

    def _row(self, text: str) -> str | None:
        for form in (text, text[:1].swapcase() + text[1:]):  # a row may be for the middle of a sentence
            if form in self._exact:
                return self._exact[form]
        if not re.search(r"[a-z]{2}", text):  # a number, a formula, a name such as DDN-100
            return text
        for fits, numbers, said in self._open:
            if found := fits.match(text):
                held = dict(zip(numbers, found.groups(), strict=True))
                return HOLE.sub(lambda hole, held=held: self.said(held[hole[1]]), said)
        if text[-1] in SIGNS and (found := self._row(text[:-1])) is not None:
            return found + SIGNS[text[-1]]
        return None

    def _whole(self, text: str) -> str | None:
        """The words by a row, or by several for the parts between signs, as much at once as there is a row for."""
        if (found := self._row(text)) is not None:
            return found
        parts = PARTS.split(text)
        for k in range(len(parts) - 1, 0, -1):
            if (first := self._row(" ".join(parts[:k]))) is not None:
                rest = self._whole(" ".join(parts[k:]))
                return None if rest is None else joined(first, rest)
        return None

    def said(self, text: str) -> str:
        """The words in the other language: as one, or sentence by sentence."""
        bare = text.strip()
        if (found := self._whole(bare)) is None:
            said = [(self._whole(part), part) for part in SENTENCES.split(bare)]
            if all(whole is None for whole, _ in said):
                return text
            found = functools.reduce(joined, [part if whole is None else whole for whole, part in said])
        return text.replace(bare, found) if bare else text


def joined(first: str, rest: str) -> str:
    """Two sentences; between Chinese ones stands no blank.

    >>> joined("对。", "错。"), joined("对", "No.")
    ('对。错。', '对 No.')
    """
    if first[-1:] in (",", ";", ":") and WIDE.match(rest):
        first = first[:-1] + SIGNS[first[-1]]
    return first + ("" if first[-1:] in STOPS or (WIDE.match(first[-1:]) and WIDE.match(rest)) else " ") + rest


def rows() -> list[tuple[str, str]]:
    """All rows of the tables."""
    from babel.messages.pofile import read_po

    found = []
    for path in sorted(FOLDER.glob("*.po")):
        with path.open("rb") as file:
            found += [(str(m.id), str(m.string)) for m in read_po(file, locale="zh_CN") if m.id and m.string]
    return found


@functools.cache
def _words() -> Words:
    return Words(rows())


def said(text: str) -> str:
    """The words in the reader's language; as they are where that is English, or no table has them.

    >>> said("It is right.")
    'It is right.'
    """
    return text if language() == "en" else _words().said(text)
