"""The book on paper: a notebook's HTML tables become the document's own, and wide or long tables fit the page.

LaTeX drops HTML and would show a table's plain text, which runs off the page. Live figures need nothing here: a notebook
stores their stills beside them.
"""

import re
from typing import Any

from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

INLINE = {"b": nodes.strong, "strong": nodes.strong, "i": nodes.emphasis, "em": nodes.emphasis, "sup": nodes.superscript}
SIZES = {"small": 84, "footnotesize": 96, "scriptsize": 112, "tiny": 140}  #: LaTeX's size -> characters on a line


def inline(tag: Tag) -> list[nodes.Node]:
    found: list[nodes.Node] = []
    for child in tag.children:
        if isinstance(child, NavigableString):
            found.append(nodes.Text(str(child)))
        elif isinstance(child, Tag):
            inner = inline(child)
            found += [INLINE[child.name]("", "", *inner)] if child.name in INLINE else inner
    return found


def cell(tag: Tag) -> nodes.entry:
    """A cell; each line of it (``<br>``) is a paragraph."""
    entry, line = nodes.entry(), nodes.paragraph()
    for child in [*tag.children, BeautifulSoup("<br>", "html.parser").br]:
        if isinstance(child, Tag) and child.name == "br":
            entry += line
            line = nodes.paragraph()
        else:
            line += inline(BeautifulSoup(str(child), "html.parser"))
    if tag.name == "th" and tag.find_parent("tbody"):
        entry[0].children = [nodes.strong("", "", *entry[0].children)]
    return entry


def table(source: Tag) -> nodes.table:
    """The document's table for a ``<table>`` with a head, a body and perhaps a caption."""
    rows = {part: [[cell(c) for c in tr(["th", "td"])] for tr in source.select(f"{part} tr")] for part in ("thead", "tbody")}
    columns = max(len(row) for row in rows["tbody"] + rows["thead"])
    group = nodes.tgroup("", *[nodes.colspec(colwidth=1) for _ in range(columns)], cols=columns)
    for kind, part in ((nodes.thead, "thead"), (nodes.tbody, "tbody")):
        if rows[part]:
            group += kind("", *[nodes.row("", *cells) for cells in rows[part]])
    return nodes.table("", group, classes=["advlab-results"])


def fit(made: nodes.table) -> list[nodes.Node]:
    """The table in letters small enough for its words, with columns as wide as these need, free to break over pages."""
    columns = list(zip(*([entry.astext() for entry in row.children] for row in made.findall(nodes.row)), strict=True))
    words = [max((len(w) for text in column for w in re.split(r"[ \n]", text)), default=1) + 2 for column in columns]
    full = [max((len(line) for text in column for line in text.split("\n")), default=1) + 2 for column in columns]
    wanted = [min(f, 60) - min(w, 60) for w, f in zip(words, full, strict=True)]
    size = next((s for s, room in SIZES.items() if sum(words) + sum(wanted) / 3 <= room), "tiny")
    share = max(0.0, min(1.0, (SIZES[size] - sum(words)) / (sum(wanted) or 1)))
    widths = [round(word + share * want) for word, want in zip(words, wanted, strict=True)]
    made["classes"].append("longtable")
    spec = addnodes.tabular_col_spec()
    spec["spec"] = "".join(rf">{{\raggedright\arraybackslash}}\X{{{w}}}{{{sum(widths)}}}" for w in widths)
    return [nodes.raw("", f"{{\\{size}", format="latex"), spec, made, nodes.raw("", "}", format="latex")]


class OnPaper(SphinxPostTransform):
    """Before myst-nb chooses what to show of an output."""

    default_priority = 3
    builders = ("latex",)

    def run(self, **_: Any) -> None:
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            html = "".join(raw.astext() for raw in bundle.findall(nodes.raw) if raw.get("format") == "html")
            if found := BeautifulSoup(html, "html.parser").find_all("table"):
                notes = [nodes.paragraph("", "", nodes.emphasis("", t.caption.get_text())) for t in found if t.caption]
                bundle.replace_self([*map(table, found), *notes])
        for made in list(self.document.findall(nodes.table)):
            if "advlab-results" in made["classes"]:
                at, parent = made.parent.index(made), made.parent
                parent[at : at + 1] = fit(made)


def setup(app: Sphinx) -> dict:
    app.add_post_transform(OnPaper)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
