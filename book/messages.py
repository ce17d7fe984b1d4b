"""The messages of a text in MyST Markdown: what a translator translates, and where it stands.

A message is a heading, a paragraph, an item of a list, a cell of a table, a title of a box, or an alt text, each as it stands
in its line: a paragraph is one line in this book. Code, formulas, labels and options are none, nor is what holds no word
outside of them. A message's context is the path of headings above it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

FENCE = re.compile(r"^\s*(?P<marks>`{3,}|~{3,}|:{3,})(?:\{(?P<name>[\w:-]+)\}[ \t]*(?P<title>.*))?")
OPTION = re.compile(r"^\s*:(?P<key>[\w-]+):[ \t]*(?P<value>.*)$")
HEADING = re.compile(r"^(?P<marks>#{1,6})[ \t]+(?P<text>.*)$")
LEAD = re.compile(r"^\s*(?:> ?)*(?:(?:[-*+]|\d+[.)])[ \t]+|:[ \t]+)?")
BESIDE = re.compile(r"^\s*(?:\([\w-]+\)=|<!--.*|%.*|\+\+\+.*|\|[ :|-]*\|)?\s*$")
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
WORDLESS = re.compile(
    r"\{[\w:-]+\}`[^`]*`|(`+)(?!`).*?(?<!`)\1(?!`)|\$\$?[^$]*\$\$?|\]\([^)]*\)|<[^>]*>|https?://\S+|!\[|&\w+;"
)
CELL = re.compile(r"(?<!\\)\|")
TITLED = re.compile(r"(?:admonition|exercise|prf:\w+|dropdown|card|tab-item)$")  #: directives whose argument is prose
TOLD = re.compile(r"(?:admonition|note|tip|warning|glossary|button-ref|margin|figure)$")  #: whose body is, in backticks
ALTS = ("alt", "caption", "title", "summary")  #: options that are prose


@dataclass(frozen=True)
class Message:
    """A message: its ``text``, where it stands (line, and columns of it), and the headings above it."""

    text: str
    context: str
    line: int
    start: int


def prose(text: str) -> bool:
    """Whether there is a word to translate.

    >>> prose("A box, $x < 1$."), prose("$x < 1$"), prose("`make book`"), prose("98 %")
    (True, False, False, False)
    """
    name = re.fullmatch(r"[a-z_]+(?:\.[a-z_]+)+", text.strip())
    return name is None and re.search(r"[^\W\d_]", WORDLESS.sub(" ", text)) is not None


class Reader:
    r"""Reads texts one after another; headings go on from one to the next, as in the cells of a notebook.

    >>> [(m.context, m.text) for m in Reader().messages("# One\n\n- An item.\n\n| a | 1 |\n")]
    [('', 'One'), ('One', 'An item.'), ('One', 'a')]
    """

    def __init__(self) -> None:
        self.headings: list[str] = []  #: all that were met, messages or not
        self._above: list[str] = []

    def _made(self, text: str, line: int, start: int) -> Iterator[Message]:
        lead = len(text) - len(text.lstrip())
        if prose(text):
            yield Message(text.strip(), " / ".join(filter(None, self._above)), line, start + lead)

    def _heading(self, found: re.Match[str], line: int) -> Iterator[Message]:
        level, text = len(found["marks"]), found["text"].strip()
        self._above = (self._above + [""] * level)[: level - 1]
        yield from self._made(found["text"], line, found.start("text"))
        self._above.append(text)
        self.headings.append(text)

    def _line(self, text: str, line: int) -> Iterator[Message]:
        if found := HEADING.match(text):
            yield from self._heading(found, line)
        elif text.lstrip().startswith("|"):
            at = 0
            for part in CELL.split(text):
                yield from self._made(part, line, at)
                at += len(part) + 1
        else:
            lead = LEAD.match(text)
            start = lead.end() if lead else 0
            yield from self._made(text[start:], line, start)

    def messages(self, source: str) -> Iterator[Message]:
        """The messages of a text, in its order."""
        opened: list[tuple[str, bool]] = []  # fences around the line: their marks, and whether prose stands in them
        options = formula = False
        lines = source.split("\n")
        front = lines[0] == "---" and "---" in lines[1:]
        for k, text in enumerate(lines):
            if front:
                front = k == 0 or text != "---"
                continue
            bare = text.strip()
            if opened and re.fullmatch(rf"{opened[-1][0][0]}{{{len(opened[-1][0])},}}", bare):
                opened.pop()
                options = False
            elif (not opened or opened[-1][1]) and not formula and (found := FENCE.match(text)):
                yield from self._opening(found, k, opened)
                options = found["name"] is not None
            elif options and (found := OPTION.match(text)):
                if found["key"] in ALTS:
                    yield from self._made(found["value"], k, found.start("value"))
            elif opened and not opened[-1][1]:
                continue
            elif bare.startswith("$$"):
                formula = not formula and bare.count("$$") == 1
                options = False
            elif not formula and not BESIDE.match(text):
                options = False
                yield from self._line(text, k)

    def _opening(self, found: re.Match[str], line: int, opened: list[tuple[str, bool]]) -> Iterator[Message]:
        name, marks = found["name"] or "", found["marks"]
        opened.append((marks, TOLD.match(name) is not None if marks[0] != ":" else not name.endswith("math")))
        if TITLED.match(name):
            yield from self._made(found["title"], line, found.start("title"))


def replaced(source: str, messages: Iterable[Message], say: Callable[[Message], str]) -> str:
    """The text with each of its messages replaced by what ``say`` gives for it.

    >>> text = "| a | 1 |"
    >>> replaced(text, Reader().messages(text), lambda m: m.text.upper())
    '| A | 1 |'
    """
    lines = source.split("\n")
    for message in sorted(messages, key=lambda m: (m.line, m.start), reverse=True):
        line, end = lines[message.line], message.start + len(message.text)
        lines[message.line] = line[: message.start] + say(message) + line[end:]
    return "\n".join(lines)
