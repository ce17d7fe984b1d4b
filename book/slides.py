"""Slides of each chapter, from the notebook that is the chapter:  python book/slides.py [--to FOLDER] [NOTEBOOK.ipynb ...]

A heading begins a slide, and an exercise; a cell that shows a live figure, a picture or a table is a slide of its own;
of anything else, four blocks fill one. Where a slide would be full of words, it shows the first sentence of a paragraph
and keeps the whole in its notes (key n). Hints and solutions stay in the book. A cell tagged ``skip-slide`` is left out.
"""

from __future__ import annotations

import argparse
import html
import importlib.util
import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_role import myst_role_plugin
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
VIEW, STATE = (f"application/vnd.jupyter.widget-{what}+json" for what in ("view", "state"))
BLOCKS, WORDS, LINES = 4, 90, 9  #: on a slide; of code that is shown at once
LEFT_OUT = ("solution", "exercise-end", "solution-start", "solution-end")


@dataclass
class Slide:
    heading: str
    level: int
    first: bool = True
    body: list[tuple[str, str]] = field(default_factory=list)  # each block as HTML, and a paragraph's Markdown


class Chapter:
    """The slides of a notebook. ``labels`` are the words for its references: "(3.1)" for an equation, "Theorem 3.1"."""

    def __init__(self, notebook: NotebookNode) -> None:
        self.notebook = notebook
        self.slides: list[Slide] = []
        self.labels = self._labels()
        self.md = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, allow_labels=True, double_inline=True)
        self.md.use(colon_fence_plugin).use(myst_role_plugin)
        rules = self.md.renderer.rules  # pyrefly: ignore[missing-attribute]
        rules["math_inline"] = lambda tokens, i, *_: rf"\({html.escape(tokens[i].content)}\)"
        rules["math_block"] = lambda tokens, i, *_: rf"\[{html.escape(tokens[i].content)}\]"
        rules["fence"] = lambda tokens, i, *_: self._fence(tokens[i])
        rules["math_inline_double"] = rules["math_block"]
        rules["myst_role"] = lambda tokens, i, *_: html.escape(self.labels.get(tokens[i].content) or tokens[i].content)
        rules["colon_fence"] = lambda tokens, i, *_: self._box(tokens[i])
        for cell in notebook.cells:
            if "skip-slide" not in cell.metadata.get("tags", []):
                (self._prose if cell.cell_type == "markdown" else self._code)(cell)

    def _labels(self) -> dict[str, str]:
        text = "\n".join(c.source for c in self.notebook.cells if c.cell_type == "markdown")
        labels = re.findall(r"^:label: (\S+)\n:enumerator: (\S+)", text, flags=re.M)
        found = re.findall(r"^:{3,}\{(?:prf:)?(\w+)\}.*\n:label: (\S+)", text, flags=re.M)
        kind_of = {label: kind for kind, label in found}
        return {label: f"{kind_of[label].capitalize()} {n}" if label in kind_of else f"({n})" for label, n in labels}

    def _fence(self, token: Token) -> str:
        """Code, or a numbered formula."""
        if token.info != "{math}":
            return f"<pre><code>{html.escape(token.content)}</code></pre>"
        options, body = parted(token)
        return rf"\[{html.escape(body)} \tag{{{options['enumerator']}}}\]"

    def _box(self, token: Token) -> str:
        kind, title = directive(token)
        options, body = parted(token)
        kind = kind.removeprefix("prf:")
        numbered = f"{kind.capitalize()} {options.get('enumerator', '')}".rstrip()
        name = title if kind in ("admonition", "note", "tip") else f"{numbered}{': ' * bool(title)}{title}"
        return f'<div class="box"><p class="name">{self.md.renderInline(name)}</p>{self.md.render(body)}</div>'

    def _new(self, heading: str, level: int, first: bool = True) -> Slide:
        self.slides.append(Slide(heading, level, first))
        return self.slides[-1]

    def _room(self) -> Slide:
        """The slide that takes the next block: the last one, or one that continues it."""
        last = self.slides[-1]
        return last if len(last.body) < BLOCKS else self._new(last.heading, last.level, first=False)

    def _prose(self, cell: NotebookNode) -> None:
        text = re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", cell.source)  # the book's pages are not beside a deck
        lines = text.splitlines()
        for token in self.md.parse(text):
            if token.level or token.nesting < 0 or token.map is None:
                continue
            source = "\n".join(lines[token.map[0] : token.map[1]])
            if token.type == "heading_open":
                self._new(source.lstrip("# "), int(token.tag[1]))
                continue
            if token.type == "colon_fence":
                kind, title = directive(token)
                if kind in LEFT_OUT or ":class: dropdown" in token.content:
                    continue
                if kind == "exercise":
                    self._new(f"Exercise: {title}", 3)
            block = re.sub(r"^\((\S+)\)=$", "", source, flags=re.M)
            if not block.strip():
                continue
            if block.startswith("**Figure ") and self.slides[-1].body:  # with its figure, whose slide this is
                self.slides[-1].body.insert(0, (self.md.render(block), ""))
                continue
            self._room().body.append((self.md.render(block), block if token.type == "paragraph_open" else ""))

    def shown(self, slide: Slide) -> tuple[list[str], list[str]]:
        """The blocks of a slide as it shows them, and the paragraphs that its notes have in full."""
        if sum(len(re.sub("<[^>]+>", " ", block).split()) for block, _ in slide.body) <= WORDS:
            return [block for block, _ in slide.body], []
        body = [self.md.render(shortened(text)) if text else block for block, text in slide.body]
        return body, [block for block, text in slide.body if text and shortened(text) != text]

    def _code(self, cell: NotebookNode) -> None:
        printed, displays = "", []
        for output in cell.outputs:
            if output.output_type == "stream":
                printed += output.text
            elif made := display(output):
                displays.append(made)
        lines = cell.source.count("\n") + 1
        code = f"<pre><code>{html.escape(cell.source)}</code></pre>"
        if displays or lines > LINES:
            code = f"<details><summary>code, {lines} line{'s' * (lines > 1)}</summary>{code}</details>"
        if printed:
            code += f'<pre class="output">{html.escape(printed.rstrip())}</pre>'
        if not displays:
            self._room().body.append((code, ""))
            return
        last = self.slides[-1]
        slide = self._new(last.heading, last.level, first=False) if last.body else last
        slide.body += [(block, "") for block in (*displays, code)]
        slide.body += [("", "")] * (BLOCKS - len(slide.body))  # full: the next block begins a slide


def directive(token: Token) -> tuple[str, str]:
    """The name and the title of ``:::{name} title``."""
    found = re.match(r"\{([\w:-]+)\}\s*(.*)", token.info)
    return (found[1], found[2]) if found else ("", token.info)


def parted(token: Token) -> tuple[dict[str, str], str]:
    """The options of a directive, and its body."""
    lines = token.content.splitlines()
    options = {}
    while lines and (not lines[0] or re.match(r":[\w-]+:", lines[0])):
        name, _, value = lines.pop(0).strip(":").partition(":")
        options[name] = value.strip()
    return options, "\n".join(lines)


def shortened(paragraph: str) -> str:
    """The first sentence of a paragraph, with the next one where the first is only a few words or ends in a colon."""
    masked = re.sub(r"\$[^$]+\$|`[^`]+`|\[[^\]]*\]\([^)]*\)", lambda m: "x" * len(m[0]), paragraph)
    for end in re.finditer(r"[.?!](?:\*\*|\*|\")?(?= |$)", masked):
        said = paragraph[: end.end()]
        if len(said.split()) > 4 and not re.search(r"\b(?:et al|e\.g|i\.e|vs|Fig|Eq)\.$", said) and said.count("**") % 2 == 0:
            return said
    return paragraph


def display(output: NotebookNode) -> str:
    """The HTML of what a cell shows: a live figure, a picture or a table; empty for the rest."""
    data = output.get("data", {})
    if VIEW in data:
        return f'<div class="live"><script type="{VIEW}">{json.dumps(data[VIEW])}</script></div>'
    if "image/png" in data:
        alt = output.metadata.get("image/png", {}).get("alt") or data.get("text/plain", "")
        return f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{data["image/png"].strip()}"></figure>'
    return data["text/html"] if "<table" in data.get("text/html", "") else ""


def page(notebook: NotebookNode) -> str:
    """The deck of a notebook, one HTML page that needs the files beside it (:func:`assets`) and no network."""
    chapter = Chapter(notebook)
    title = chapter.md.renderInline(chapter.slides[0].heading)
    sections = []
    for i, slide in enumerate(chapter.slides, 1):
        heading = chapter.md.renderInline(slide.heading)
        tag, more = ("h1" if slide.level == 1 and slide.first else "h2"), "" if slide.first else " <small>continued</small>"
        body, kept = chapter.shown(slide)
        notes = f'<aside class="notes" aria-label="notes">{"".join(kept)}</aside>' if kept else ""
        label = html.escape(f"{i} of {len(chapter.slides)}: {re.sub('[$*`]', '', slide.heading)}")
        sections.append(
            f'<section class="slide" role="group" aria-roledescription="slide" aria-label="{label}" tabindex="-1">'
            f'<div class="all"><{tag}>{heading}{more}</{tag}>{"".join(body)}{notes}</div></section>'
        )
    state = json.dumps(notebook.metadata.get("widgets", {}).get(STATE, {"state": {}})).replace("</", "<\\/")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(re.sub("<[^>]+>", "", title))}</title><link rel="stylesheet" href="assets/deck.css">
<script>window.MathJax = {{ options: {{ enableMenu: false }} }};</script><script defer src="assets/tex-svg.js"></script></head>
<body data-title="Adversarial Lab"><main>{"".join(sections)}</main>
<nav aria-label="slides"><button id="back" aria-label="previous slide">←</button>
<span id="place" role="status"></span><button id="on" aria-label="next slide">→</button>
<button id="notes" aria-pressed="false">notes</button></nav>
<script type="{STATE}">{state}</script><script src="assets/live_host.js"></script><script src="assets/deck.js"></script>
</body></html>
"""


def assets(folder: Path) -> None:
    """What a deck needs beside it: MathJax, the host of the live figures, the deck's script and style."""
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise RuntimeError("sphinx-mathjax-offline is not installed: pip install 'advlab[book]'")
    folder.mkdir(parents=True, exist_ok=True)
    mathjax = Path(spec.origin).parent / "static" / "mathjax" / "tex-svg.js"
    for source in (mathjax, *(ROOT / "book" / name for name in ("_static/live_host.js", "deck/deck.js", "deck/deck.css"))):
        shutil.copy(source, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "slides")
    told = parser.parse_args()
    assets(told.to / "assets")
    for path in told.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb")):
        made = page(nbformat.read(path, 4))
        (told.to / f"{path.stem}.html").write_text(made)
        print(f"{told.to / path.stem}.html: {made.count('<section')} slides")


if __name__ == "__main__":
    main()
