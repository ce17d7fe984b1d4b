"""The book in two languages: a switch on every page, and what the Chinese pages need besides their text (book/edition.py).

In Chinese, {english}`EN` marks what has no translation; sections keep the ids of the English ones, so that links and the
switch lead to the same place; the search cuts Chinese into pairs of signs; and a page carries the table of words by which
words.js says what figures and outputs say.
"""

import functools
import json
import re
from pathlib import Path
from typing import Any

from babel.messages.pofile import read_po
from docutils import nodes
from docutils.parsers.rst.states import Inliner
from myst_parser.mdit_to_docutils.base import DocutilsRenderer, default_slugify
from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish
from sphinx_proof.directive import ProofDirective

from labbook import words

HEADER = '<div class="article-header-buttons">'
SWITCH = re.compile(r'<a class="advlab-language[^>]*>[^<]*</a>')
NAMED = re.compile(r'(?<=\s)(title|aria-label|placeholder|data-bs-title)="([A-Z][^"<>]*)"')  #: the theme's own words
SPLITTER = """
var pairsOf = (word) => (/\\p{Script=Han}/u.test(word) && word.length > 2
  ? Array.from({ length: word.length - 1 }, (_, i) => word.slice(i, i + 2)) : [word]);
var splitQuery = (query) => query.split(/[^\\p{Letter}\\p{Number}_]+/gu)
  .flatMap((word) => word.match(/\\p{Script=Han}+|[^\\p{Script=Han}]+/gu) ?? []).flatMap(pairsOf);
"""


def with_switch(text: str, page: Path, to: str) -> str:
    """A built page, at ``page`` in its book, with its link to the other language; ``to`` is that one's folder, or ".."."""
    href = "../" * (len(page.parts) - 1) + f"{to}/{page.as_posix()}"
    tag, name = ("en", "English") if to == ".." else ("zh-CN", "中文")
    keeps = 'onclick="this.hash = location.hash"'
    switch = f'<a class="advlab-language btn" href="{href}" hreflang="{tag}" lang="{tag}" {keeps}>{name}</a>'
    return SWITCH.sub(switch, text) if SWITCH.search(text) else text.replace(HEADER, HEADER + switch, 1)


def link(app: Sphinx, exception: Exception | None) -> None:
    """The switch, on the pages that there are in both languages."""
    if exception or app.builder.name != "html":
        return
    own, chinese = Path(app.outdir), app.config.language != "en"
    other = own.parent if chinese else own / "zh"
    for path in other.rglob("*.html") if other.exists() else ():
        page = path.relative_to(other)
        if (own / page).exists() and "_static" not in page.parts and page.parts[0] != "zh":
            text = with_switch((own / page).read_text(), page, ".." if chinese else "zh")
            (own / page).write_text(NAMED.sub(lambda m: f'{m[1]}="{words.said(m[2])}"', text) if chinese else text)


def english(role: str, raw: str, text: str, line: int, inliner: Inliner, *_: Any) -> tuple[list[nodes.Node], list]:
    mark = nodes.inline(raw, text, classes=["advlab-english"])
    return [mark], []


class Pairs(SearchEnglish):
    """Chinese in pairs of neighbouring signs, as the page's own ``splitQuery`` cuts what is looked for; no dictionary."""

    lang, language_name = "zh", "Chinese"
    js_splitter_code = SPLITTER

    def split(self, input: str) -> list[str]:
        runs = re.findall(r"[\u3400-\u9fff]+", input)
        pairs = [run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1))]
        return pairs + re.findall(r"[a-zA-Z0-9_]+", input)

    def word_filter(self, word: str) -> bool:
        return len(word) > 1 and super().word_filter(word)


def keep_ids(app: Sphinx) -> None:
    """Sections have the ids and anchors of the English headings, which book/edition.py lists."""
    known = json.loads((Path(app.srcdir) / "headings.json").read_text())
    plain = DocutilsRenderer.generate_heading_target

    def target(self: Any, token: Any, level: int, node: Any, title_node: Any) -> None:
        told, done = known.get(self.sphinx_env.docname, []), self.__dict__.setdefault("advlab_headings", [])
        if len(done) >= len(told):
            return plain(self, token, level, node, title_node)
        done.append(told[len(done)])
        inside = [t for inline in self.md.parseInline(done[-1]) for t in inline.children or []]
        name = "".join(t.content for t in inside)
        node["names"].append(nodes.fully_normalize_name(name))
        self.document.note_implicit_target(node, node)
        if level <= self.md_config.heading_anchors:
            slug = default_slugify("".join(t.content for t in inside if t.type in ("text", "code_inline")))
            same = sum(s == slug or s.startswith(f"{slug}-") for s in self._heading_slugs)
            node["slug"] = slug = slug if slug not in self._heading_slugs else f"{slug}-{same}"
            self._heading_slugs[slug] = (node.line, node["ids"][0], title_node.astext())
        return None

    DocutilsRenderer.generate_heading_target = target


def name_proofs() -> None:
    """The word before a proof, which its directive writes in English."""
    plain = ProofDirective.run

    def run(self: Any) -> list[nodes.Node]:
        self.content[0] = f"{words.said('Proof')}。 {self.content[0]}"
        made = plain(self)
        for text in [t for node in made for t in node.findall(nodes.Text) if t.startswith("Proof. ")]:
            text.parent.replace(text, nodes.Text(text.removeprefix("Proof. ")))
        return made

    ProofDirective.run = run


@functools.cache
def rows(path: Path) -> list[list[str]]:
    with path.open("rb") as file:
        return [[str(m.id), str(m.string)] for m in read_po(file, locale="zh_CN") if m.id and m.string]


def table(page: str) -> list[list[str]]:
    """The rows of words that a page may need: those of all pages, and of its chapter with its appendices."""
    stem = page.rpartition("/")[2]
    number = stem[:2] if page.startswith("notebooks/") else "00" if page == "book/index" else ""
    chosen = [path for path in sorted(words.FOLDER.glob("*.po")) if path.stem == "common" or path.stem[:2] == number]
    return [row for path in chosen for row in rows(path)]


def add_table(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if context.get("body") and (found := table(page)):
        held = json.dumps(found, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
        context["body"] += f'<script type="application/json" id="advlab-words">{held}</script>'


def begin(app: Sphinx, config: Any) -> None:
    if config.language != "en":
        keep_ids(app)
        name_proofs()
        app.add_search_language(Pairs)
        app.connect("html-page-context", add_table, priority=950)


def setup(app: Sphinx) -> dict:
    app.add_role("english", english)
    app.connect("config-inited", begin)
    app.connect("build-finished", link, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
