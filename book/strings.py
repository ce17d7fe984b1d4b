"""The words of live figures, of outputs and of checks: what the tables in book/locale/zh_CN/live/ have rows for.

A chapter's table has what its notebook shows (the state of its widgets, alt texts, tables), what its exercises and claims
say, and the texts in the scripts of its figures; ``common`` has those of several chapters and of the book's extensions. In
texts with values ``{1}``, ``{2}`` stand for these. A row that a translator added by hand, such as a whole sentence that a
script puts together, lives as long as each of its English pieces stands in one of these places.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat

from catalogue import ROOT, Key, Row, documents
from labbook.words import HOLE, SENTENCES, pattern

BOOK = ROOT / "book"
LIVE = BOOK / "labbook" / "live"
STATE = "application/vnd.jupyter.widget-state+json"
#: Keys of a widget's state whose texts are words even if they are one.
SAID = ("alt", "question", "label", "options", "classes", "description", "across", "up", "unit", "names", "titles")
ALONE = re.compile(  # what stands before a word that is a text by itself
    r"(?:\b(?:slider|choice|panel|field|toggle|button|check)\(|\btitle: |\b\w+, |\[[^\[\],]+, |\"aria-\w+\": "
    r"|\{\}, |textContent = |\blegend\(.*|\? |: |\|\| |\[)$"
)
UNSAID = ("name", "printed", "value", "weights")
#: Templates of scripts that would match nearly anything, and tear sentences apart: whole sentences have rows by hand.
LOOSE = (
    *("{1} and {2}", "{1} {2}on", "{1} at {2} {3}", "{1} times {2}", "{1} bits {2}", "{1} median {2}", "{1} layer {2}"),
    *("{1} not decided,", "{1} of {2} rows.", "Within {1},", "Step {1}. {2}.", "Step {1} of {2}. {3}"),
    "{1}\u00a0% of {2} images (95\u00a0% interval {3} to {4})",
    "Of {1} image{2} you read {3} as another class, the panel {4}; both name the same other class for {5}.",
)
PIECES = re.compile(r"[:,] ")
COMMON = (
    *("{#1} to {#2}", "Guess before you see.", "Paper: {1}.", "Answer: {1}.", "Show the code", "Hide the code", "never"),
    *("{#1} min", "{#1} s", "{#1} min ({2})", "CPU s", "{#1} trainings", "{#1} draws", "{#1} seeds", "{#1} of {#2}"),
    *("{1} (read)", "{1} (abstract only)", "Bold: ours.", "Small: 95 % interval.", "Italic: the paper's.", "†: unconfirmed."),
    "Numbers of ours with their 95 % intervals, {#1}, {#2} of them beside the paper's, which lies in our interval {#3} times.",
    *("Link to this heading", "Link to this equation", "Link to this definition", "Link to this term", "Link to this table"),
    *("Toggle hidden content", "Toggle primary sidebar", "Toggle secondary sidebar", "System Settings", "Color mode", "Page"),
    *("Main", "Search...", "Download this page", "Download source file", "Print to PDF", "Fullscreen mode", "Click to show"),
    *(
        "Click to hide",
        "Pages under {1}",
        "easy",
        "medium",
        "hard",
        "{#1} easy",
        "{#1} medium",
        "{#1} hard",
        "solved",
        "wrong",
        "Solved.",
        "Wrong.",
        "Not yet.",
    ),
    *("{#1} (n = {#2})", "{#1} (n = {#2}, 95 % interval {#3} to {#4})"),
    *("Numbers of ours with their 95 % intervals, {#1}.", "The table under the picture lists them."),
)
#: of the strings of scripts, those that are the browser's own
BROWSERS = {"svg", "input", "select", "status", "img", "end", "middle", "button", "group", "start", "none", "hidden", "click"}
BROWSERS |= {"visible", "null", "submit", "radio", "col", "row", "checkbox", "any", "off", "empty", "number", "text", "class"}
BROWSERS |= {"pointerdown", "pointermove", "pointerup", "keydown", "range", "label", "layers", "weights", "fixed"}
GENERAL = re.compile(r"\s*Paper: [^:]*$|\s*Guess before you see\.$")  #: what common rows say, at the end of a text
NAMES = re.compile(
    r"[\d.,%±−\- ]*(?: to [\d.,%±−\- ]+)?|\d+ (?:trainings|draws|seeds)|[a-z_]+\.[a-z_.]+|https?:.*|[A-Z]\S*[A-Z]\S*"
    r"|[a-z]+(?:-[a-z]+)+|[a-z_\d]+_[a-z_\d]+"
)


def words(text: str) -> bool:
    """Whether a text has words of a sentence in it, rather than names.

    >>> words("the network reads {1}"), words("line dashed-2"), words("M{1} {2}L{3}")
    (True, False, False)
    """
    plain = HOLE.sub(" ", text)
    found = re.findall(r"(?<![\w#.\-/])[A-Za-z][a-z]*(?![\w(=/-])", plain)
    long, enough = max(map(len, found), default=0) > 1, len(found) > (0 if re.search(r"\} | \{", text) else 1)
    return long and enough and not re.search(r"[<>{}]|\w=|\bvar\(|;\s*\w+:", plain)


class _Script:
    """The texts of a script in JavaScript: of strings and templates, each with what stands before it."""

    SKIP = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
    PATTERN = re.compile(r"(?<=[(,=:?&|!\[])\s*/(?![/*])(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\n])+/[a-z]*")

    def __init__(self, source: str) -> None:
        self.source, self.at, self.found = source, 0, list[tuple[str, str]]()

    def code(self, end: str) -> None:
        """Read code up to the sign ``end`` that nothing opened, or to the end of the script."""
        depth = 0
        while self.at < len(self.source):
            here = self.source[self.at]
            if skip := self.SKIP.match(self.source, self.at) or self.PATTERN.match(self.source, self.at):
                self.at = skip.end()
            elif here in "\"'`":
                self.text(here)
            elif here == end and not depth:
                return
            else:
                depth += (here == "{") - (here == "}")
                self.at += 1

    def text(self, mark: str) -> None:
        before, held, holes = self.source[max(0, self.at - 60) : self.at], "", 0
        self.at += 1
        while self.source[self.at] != mark:
            if mark == "`" and self.source.startswith("${", self.at):
                holes += 1
                held += f"{{{holes}}}"
                self.at += 2
                self.code("}")
                self.at += 1
            elif self.source[self.at] == "\\":
                code = re.compile(r"\\(u[0-9a-f]{4}|.)", re.S).match(self.source, self.at)
                assert code is not None
                held += chr(int(code[1][1:], 16)) if len(code[1]) > 1 else {"n": "\n"}.get(code[1], code[1])
                self.at = code.end()
            else:
                held += self.source[self.at]
                self.at += 1
        self.at += 1
        self.found.append((before, held))


@cache
def classes() -> set[str]:
    """Names that styles know: a text that is nothing else is no text."""
    sheets = [path.read_text() for path in (*LIVE.glob("*.css"), BOOK / "_static" / "book.css")]
    return {name for sheet in sheets for name in re.findall(r"\.([a-z][\w-]*)", sheet)}


def merged(text: str) -> str:
    """A template whose values that stand side by side are one.

    >>> merged("{1}, {2}{3}: {4}")
    '{1}, {2}: {3}'
    """
    count = iter(range(1, 99))
    return re.sub(r"(?:\{\d+\})+", lambda _: f"{{{next(count)}}}", text)


def of_script(source: str) -> list[str]:
    """The texts of a script that a reader may see.

    >>> of_script('say(`${n} of ${m} digits: ${n ? "some are wrong" : "none"}`); node.id = "a";')
    ['{1} of {2} digits: {3}', 'some are wrong', 'none']
    """
    script = _Script(source)
    script.code("")
    found = []
    for before, text in sorted(script.found, key=lambda pair: source.find(pair[1][:12])):
        bare = merged(text).strip().lstrip(".,;: ")
        names = re.fullmatch(r"[\w.:-]+( [\w-]+)*", bare) and set(re.split(r"[ .]", bare)) <= classes()
        alone = re.fullmatch(r"[A-Za-z][\w ’'-]*[?.]?", bare) and ALONE.search(before)
        if not names and "class:" not in before[-12:] and "import(" not in before[-10:] and (words(bare) or alone):
            found.append(bare)
    return list(dict.fromkeys(found))


class _Cells(HTMLParser):
    """The texts between the tags of an output."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.texts, self._silent = list[str](), False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent = tag in ("script", "style")
        self.texts += [value for name, value in attrs if name == "alt" and value]

    def handle_data(self, data: str) -> None:
        if not self._silent and re.search(r"[A-Za-z]{2}", data):
            self.texts.append(data.strip())


def _values(value: Any, name: str = "") -> Iterator[str]:
    """The words in the state of a widget."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _values(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from _values(part, name)
    elif isinstance(value, str) and re.search(r"^(?!IPY_MODEL_).*[A-Za-z]{2}", value) and _seen(name, value):
        yield value


def _seen(name: str, value: str) -> bool:
    """Whether a trait is one that a reader sees."""
    return name in SAID or (name[:1] != "_" and name not in UNSAID and len(value) < 600 and words(value))


def of_notebook(path: Path) -> tuple[list[str], list[str]]:
    """What a notebook's outputs say, and the scripts of its figures."""
    notebook, shown = nbformat.read(path, 4), list[str]()
    states = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    scripts = [r["state"]["value"] for r in states.values() if r["model_name"] == "WidgetModel" and "value" in r["state"]]
    for record in states.values():
        if record["model_name"] == "HTMLModel":
            shown += _Cells(record["state"].get("value", "")).texts
        elif record["model_name"] not in ("WidgetModel", "LayoutModel"):
            shown += _values(record["state"])
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shown += _Cells(output.get("data", {}).get("text/html", "")).texts
            shown += [m["alt"] for m in output.get("metadata", {}).values() if isinstance(m, dict) and "alt" in m]
    return shown, [s for s in scripts if s.lstrip().startswith("//")]  # the others are styles


def of_python(source: str, calls: str) -> list[str]:
    """The texts in the arguments of calls whose names match; values in them become holes.

    >>> of_python('require(n == 2, f"Return {n} numbers.")', "require")
    ['Return {1} numbers.']
    """

    def text(node: ast.AST) -> str | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        if isinstance(node, ast.JoinedStr):
            holes = iter(range(1, 99))
            return "".join(str(v.value) if isinstance(v, ast.Constant) else f"{{{next(holes)}}}" for v in node.values)
        return None

    found = []
    for call in ast.walk(ast.parse(source)):
        name = getattr(call.func, "id", getattr(call.func, "attr", "")) if isinstance(call, ast.Call) else ""
        if isinstance(call, ast.Call) and re.fullmatch(calls, name):
            for part in [*call.args, *(k.value for k in call.keywords)]:
                inner = [part.body, part.orelse] if isinstance(part, ast.IfExp) else getattr(part, "elts", [part])
                found += [t for node in inner if (t := text(node)) and re.search(r"[a-z]{2}", t)]
    return found


CHECKS = "require|close|Wrong|Outcome|exercise"


def of_chapter(chapter: str) -> list[tuple[str, str]]:
    """What a chapter's exercises and claims say, with where it stands."""
    from labbook import results

    folder = BOOK / "labbook" / chapter
    found = [(e, "check") for path in sorted(folder.glob("exercises*.py")) for e in of_python(path.read_text(), CHECKS)]
    found = [(where, text) for text, where in found if not re.fullmatch(r"[a-z_]+\.\w+|\w+", text)]
    for entry in results.load(chapter).values():
        found += [("number", text) for text in (entry.title, entry.note, entry.over) if text]
    return found


def of_extensions() -> list[str]:
    """What the book's extensions, its host of figures and the common part of the checks say."""
    said = [t for path in sorted((BOOK / "_ext").glob("*.py")) for t in of_python(path.read_text(), "said|grid")]
    said += of_python((BOOK / "labbook" / "exercises.py").read_text(), "said|Wrong|Outcome")
    said += of_script((BOOK / "_static" / "live_host.js").read_text())
    return said


@cache
def sources() -> dict[str, tuple[list[tuple[str, str]], list[str]]]:
    """Chapter or appendix -> its texts, each with where it stands, and its scripts."""
    found = {}
    for name, path in documents().items():
        if path.parent.name == "notebooks":
            shown, scripts = of_notebook(path.with_suffix(".ipynb"))
            chapter = path.stem.partition("_")[2] if re.match(r"\d+_", path.stem) else ""
            found[name] = ([("output", text) for text in shown] + (of_chapter(chapter) if chapter else []), scripts)
    return found


def tables() -> dict[str, list[Key]]:
    """The messages of each table; what several chapters say is in that of ``common``."""
    texts = {name: said + [("figure", t) for s in scripts for t in of_script(s)] for name, (said, scripts) in sources().items()}
    often = Counter(text for said in texts.values() for text in {text for _, text in said})
    shared = {text for text, n in often.items() if n > 1}
    common = [("book", text) for text in [*titles(), *COMMON, *of_extensions()]]
    common += [(where, text) for said in texts.values() for where, text in said if text in shared]
    made = {"live/common": _once(common)}
    own = {text for _, text in made["live/common"]}
    return made | {f"live/{name}": _once((w, t) for w, t in said if t not in own) for name, said in texts.items()}


def titles() -> list[str]:
    """The words of the configuration and of the table of contents."""
    import yaml

    config = yaml.safe_load((BOOK / "_config.yml").read_text())
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    footer = config["sphinx"]["config"]["html_theme_options"]["extra_footer"]
    return [config["title"], config["author"], footer, *(part["caption"] for part in toc["parts"])]


def _once(rows: Iterable[tuple[str, str]]) -> list[Key]:
    """The rows, each text once, without those that hold no word."""
    known: dict[str, str] = {}
    common = [pattern(text) for text in COMMON if HOLE.search(text)]
    for where, text in rows:
        text = text.strip() if text.strip() in COMMON else GENERAL.sub("", text.strip())
        new = [part for part in SENTENCES.split(text) if part not in COMMON and not any(c.match(part) for c in common)]
        if text in COMMON or (new and re.search(r"[a-z]{2}", text) and not NAMES.fullmatch(text) and text not in BROWSERS):
            known.setdefault(text, where)
    pieces = Counter(piece for text in known if HOLE.search(text) is None for piece in set(PIECES.split(text)[1:]))
    made: dict[str, str] = {}
    for text, where in known.items():
        often = where != "figure" and ". " not in text and any(pieces[piece] > 2 for piece in PIECES.split(text)[1:])
        for part in PIECES.split(text) if often else [text]:
            if part in COMMON or re.search(r"[a-z]{2}", part):
                made.setdefault(part, where)
    return [(where, text) for text, where in made.items() if text not in LOOSE]


def alive(english: str, said: Callable[[str], bool]) -> bool:
    """Whether each piece of a row that was added by hand still stands somewhere, as ``said`` tells."""
    return all(said(piece) for piece in HOLE.split(english) if re.search(r"[A-Za-z]{2}", piece))


def by_hand(name: str, known: Iterable[Row], rows: Iterable[Row]) -> list[Row]:
    """Of the ``known`` rows of a table those that a translator added and that still live."""
    have = {row.english for row in rows}
    scripts = [s for _, scripts in sources().values() for s in scripts]
    python = [path.read_text() for folder in ("labbook", "_ext") for path in sorted((BOOK / folder).rglob("*.py"))]
    shown = [text for said, _ in sources().values() for _, text in said]
    hay = "\n".join([*scripts, *python, *shown, (BOOK / "_static" / "live_host.js").read_text()]).replace("\\u00a0", "\u00a0")
    own = (row for row in known if row.context == "by hand" and row.english not in have)
    return [row for row in own if alive(row.english, lambda piece: piece in hay)]
