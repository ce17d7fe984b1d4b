"""What can be checked of a translation without reading it; a fault is a line that says what is wrong.

Roles, formulas, code, targets of links, numbers and the holes of a template are the same on both sides; so is the number of
words in bold and in italics, as Markdown sees them. Where the English has a term of glossary.toml, the Chinese has its own.
A translator's comment makes an exception and says why: ``# differs: numbers, since ...`` or ``# glossary: margin, since ...``.
"""

from __future__ import annotations

import calendar
import functools
import re
import tomllib
from collections import Counter
from collections.abc import Iterator

from markdown_it import MarkdownIt

from catalogue import FOLDER, Row
from labbook.words import HOLE

CODE = re.compile(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)")
PARTS = {
    "roles": re.compile(r"\{[\w:-]+\}`[^`]*`"),
    "code": CODE,
    "formulas": re.compile(r"\$[^$]+\$"),
    "links": re.compile(r"\]\([^)]*\)"),
    "holes": HOLE,
    "numbers": re.compile(r"(?<!\bL)(?<!\bl)\d+(?:[.,]\d+)*"),  # L2 may be a formula
}
MONTHS = list(calendar.month_name)
CAPTION = re.compile(r"\*\*(Figure|Table) ([\dA-Z]+\.\d+)\. |\[(Figure|Table) ([\dA-Z]+\.\d+)\]")
HALF = re.compile(r"[\u4e00-\u9fff][,;?!]|[\u4e00-\u9fff]\.(?=[\s*]|$)")
WORDS = {"Figure": "图", "Table": "表"}


@functools.cache
def glossary() -> list[tuple[str, re.Pattern[str], tuple[str, ...]]]:
    """The terms: English, what finds it, and the Chinese words of which one must be there."""
    found = tomllib.loads((FOLDER / "glossary.toml").read_text())["term"]
    for term in found:
        if not set(term) <= {"english", "chinese", "also"}:
            raise ValueError(f"glossary.toml: a term has english, chinese and perhaps also, not {sorted(term)}")
    finds = {t["english"]: re.compile(rf"(?<![\w-]){re.escape(t['english'])}(?:s|es)?(?![\w-])", re.I) for t in found}
    rows = [(t["english"], finds[t["english"]], (t["chinese"], *t.get("also", ()))) for t in found]
    return sorted(rows, key=lambda row: -len(row[0]))


def parts(text: str) -> dict[str, Counter[str]]:
    """What of a text must be the same in both languages, by kind; each kind is looked for outside of those before it."""
    found = {}
    for kind, pattern in PARTS.items():
        found[kind] = Counter(match[0] for match in pattern.finditer(text))
        text = pattern.sub(" ", text)
    return found


def marks(text: str) -> Counter[str]:
    """How many words in bold and in italics Markdown sees."""
    plain = PARTS["formulas"].sub("x", PARTS["roles"].sub("x", text))
    tokens = MarkdownIt("commonmark").parseInline(plain)[0].children or []
    return Counter(t.type for t in tokens if t.type in ("strong_open", "em_open"))


def excused(row: Row, word: str) -> set[str]:
    """What the comments of a row allow: ``# differs: numbers, since ...``."""
    lines = [line.partition(":")[2] for line in row.comments if line.startswith(f"{word}:")]
    return {name.strip() for line in lines for name in re.split(r",|\bsince\b", line)}


def faults(row: Row) -> Iterator[str]:
    """What is wrong with a translation."""
    differs, terms = excused(row, "differs"), excused(row, "glossary")
    mine, theirs = parts(row.text), parts(row.english)
    for month in MONTHS[1:]:
        if re.search(rf"\b{month} \d", row.english):
            theirs["numbers"][str(MONTHS.index(month))] += 1
    for kind, wanted in theirs.items():
        if mine[kind] != wanted and kind not in differs:
            less, more = list((wanted - mine[kind]).elements()), list((mine[kind] - wanted).elements())
            yield f"{kind}: the English has {less}, the Chinese has {more}"
    if marks(row.text) != marks(row.english) and "marks" not in differs:
        yield f"marks: bold and italics are {dict(marks(row.english))} in English, {dict(marks(row.text))} in Chinese"
    for found in CAPTION.finditer(row.english):
        kind, number = (found[1], found[2]) if found[1] else (found[3], found[4])
        if f"{WORDS[kind]} {number}" not in row.text:
            yield f"{WORDS[kind]} {number} is to be there, where the English has {kind} {number}"
    plain = PARTS["links"].sub(" ", CODE.sub(" ", PARTS["roles"].sub(" ", row.english)))
    for english, finds, chinese in glossary():  # longest first: "batch norm" is no norm
        asked, plain = finds.search(plain), finds.sub(" ", plain)
        kept = finds.search(row.text)  # a title, or words that someone searched for
        if asked and not kept and not any(word in row.text for word in chinese) and english not in terms:
            yield f"glossary: {english} is {' or '.join(chinese)}"
    if (half := HALF.search(PARTS["formulas"].sub("", CODE.sub("", row.text)))) and "signs" not in differs:
        yield f"signs: {half[0]!r} has a sign of half width"
