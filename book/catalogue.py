"""The translations of the book, one PO file a chapter and page, in book/locale/zh_CN/.

What is translated is known by its English words and by nothing else: a message whose English has changed has no translation
any more, and nothing old is ever shown. Where a message stands may change, and so may the numbers that the chore ``dress``
writes into captions and references; the translation goes along. A translator's comments stay with it.
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
import yaml
from babel.messages.pofile import read_po

import messages

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "book" / "locale" / "zh_CN"
HEAD = r"""msgid ""
msgstr ""
"Language: zh_CN\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Content-Transfer-Encoding: 8bit\n"
"""
DRESSED = re.compile(
    r"(?P<before>^\*\*(?:Figure|Table|图|表) |\[(?:Figure|Table|图|表) )(?P<number>[\dA-Z]+\.\d+)(?P<to>\]\(#[\w-]+\))?"
)

LINE = re.compile(r'(?:#.*|(?:(?:msgctxt|msgid|msgstr) )?"(?:[^"\\]|\\.)*")?')  #: of a PO file

Key = tuple[str, str]  #: context and English words


@dataclass
class Row:
    """A message of a PO file; ``text`` is empty where nobody has translated it."""

    context: str
    english: str
    text: str = ""
    comments: list[str] = field(default_factory=list)


def write(path: Path, rows: Iterable[Row]) -> bool:
    """Write a PO file; whether it is another than it was."""

    def said(word: str, text: str) -> str:
        return f"{word} {json.dumps(text, ensure_ascii=False)}\n"

    parts = [HEAD]
    for row in rows:
        context = said("msgctxt", row.context) if row.context else ""
        comments = "".join(f"# {line}\n" for line in row.comments)
        parts.append(comments + context + said("msgid", row.english) + said("msgstr", row.text))
    text = "\n".join(parts)
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def read(path: Path) -> list[Row]:
    """The rows of a PO file. Raises ValueError where it does not parse, or holds an entry that is called fuzzy."""
    text = path.read_text()
    if odd := next((line for line in text.split("\n") if not LINE.fullmatch(line)), None):
        raise ValueError(f"{path.name} is no PO file: {odd!r}")
    found = [m for m in read_po(io.StringIO(text), locale="zh_CN", abort_invalid=True) if m.id]
    if fuzzy := [m.id for m in found if m.fuzzy]:
        raise ValueError(f"{path.name} holds a fuzzy entry, which is never shown: {fuzzy[0]!r}")
    return [Row(m.context or "", str(m.id), str(m.string), list(m.user_comments)) for m in found]


def files() -> list[Path]:
    return sorted(FOLDER.rglob("*.po"))


def documents() -> dict[str, Path]:
    """PO file, without its ending -> the text twin or page that it translates, in the order of the book."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    found, waiting = {}, [toc["root"]]
    for entry in (entry for part in toc["parts"] for entry in part["chapters"]):
        waiting += [entry["file"], *(section["file"] for section in entry.get("sections", ()))]
    for name in waiting:
        folder, _, stem = name.partition("/")
        found[stem.partition("_")[0] if folder == "notebooks" else stem] = ROOT / f"{name}.md"
    return found | {"readme": ROOT / "README.md"}


def texts(path: Path) -> list[str]:
    """The Markdown of a page, or of each cell of prose of a text twin."""
    if path.parent.name != "notebooks":
        return [path.read_text()]
    return [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "markdown"]


def asked(path: Path) -> list[Key]:
    """The messages of a page or a text twin, each once."""
    reader = messages.Reader()
    return list(dict.fromkeys((m.context, m.text) for text in texts(path) for m in reader.messages(text)))


@functools.cache
def undressed(text: str) -> str:
    """A message without the numbers of captions, by which it is known though they change.

    >>> undressed("**Figure 3.1. Two.** See [Table 3.2](#tab-a).")
    '**Figure . Two.** See [Table ](#tab-a).'
    """
    return DRESSED.sub(lambda found: found["before"] + (found["to"] or ""), text)


def renumbered(text: str, english: str) -> str:
    """A translation with the numbers of captions that its ``english`` has now.

    >>> renumbered("**图 3.1. 两个。** 见[表 3.2](#tab-a)。", "**Figure 3.4. Two.** See [Table 3.5](#tab-a).")
    '**图 3.4. 两个。** 见[表 3.5](#tab-a)。'
    """
    now = {found["to"]: found["number"] for found in DRESSED.finditer(english)}
    return DRESSED.sub(lambda m: m["before"] + now.get(m["to"], m["number"]) + (m["to"] or ""), text)


class Memory:
    """All translations there are, by their English words; of several, that with the same headings above it."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._exact: dict[Key, Row] = {}
        self._loose: dict[str, Row] = {}
        for row in rows:
            if row.text:
                self._exact[row.context, undressed(row.english)] = row
                self._loose.setdefault(undressed(row.english), row)

    def row(self, context: str, english: str) -> Row:
        """The row for a message; its text is empty where there is no translation."""
        plain = undressed(english)
        found = self._exact.get((context, plain)) or self._loose.get(plain)
        if found is None:
            return Row(context, english)
        return Row(context, english, renumbered(found.text, english), found.comments)


def everything() -> dict[str, list[Row]]:
    """The rows of all PO files, by file without its ending."""
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): read(path) for path in files()}


def memory(known: Mapping[str, list[Row]], name: str = "") -> Memory:
    """The translations of all files; where two differ, those of the file ``name`` go first."""
    return Memory(row for file in sorted(known, key=lambda file: file != name) for row in known[file])


def readme() -> str:
    """The README in Chinese; what has no translation is in English."""
    held, text = memory(everything(), "readme"), (ROOT / "README.md").read_text()
    found = list(messages.Reader().messages(text))
    return messages.replaced(text, found, lambda m: held.row(m.context, m.text).text or m.text)
