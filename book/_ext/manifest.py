"""Numbers from the manifest in the book's pages: a role, a table, and the page of execution times.

{result}`start_here.clean` is our value; {result}`start_here.clean paper` another part of the entry (value, interval,
paper, n, full). ```{results-table} start_here``` is a chapter's table; ```{execution-times}``` how long notebooks run;
{reading}`00_start_here` how long a chapter takes. A value that raised honesty flags names them, each with a link to its
page. What is not in the manifest is a warning, and warnings are errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import nbformat
from docutils import nodes
from nbformat import NotebookNode
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective, SphinxRole

from labbook import results
from labbook.tables import Table
from labbook.words import said

ROOT = Path(__file__).resolve().parents[2]
VIEW = "application/vnd.jupyter.widget-view+json"
WORDS_A_MINUTE, SECONDS_A_LINE, SECONDS_A_FIGURE = 180, 5, 60  #: of prose, of open code, of a live figure: for a student


def depends_on(env: BuildEnvironment, name: str) -> Path:
    """A file of the manifest; the page is built again when it changes."""
    path = results.folder() / name
    env.note_dependency(str(path))
    return path


def flag_links(env: BuildEnvironment, flags: tuple[str, ...]) -> list[nodes.Node]:
    """The flags' ids, each a link to its page ``flags/ID``, with commas between."""
    to = {"refdomain": "std", "reftype": "doc", "refdoc": env.docname, "refexplicit": True, "refwarn": True}
    found: list[nodes.Node] = []
    for id in flags:
        found += [nodes.Text(", "), addnodes.pending_xref("", nodes.inline("", id), reftarget=f"/book/flags/{id}", **to)]
    return found[1:]


class Result(SphinxRole):
    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        id, _, what = self.text.strip().partition(" ")
        depends_on(self.env, f"{id.partition('.')[0]}.json")
        try:
            entry = results.get(id)
            text = said(entry.show(what or "value"))
        except (KeyError, ValueError) as e:
            return [], [self.inliner.reporter.warning(str(e), line=self.lineno)]
        found: list[nodes.Node] = [nodes.inline(self.rawtext, "", *powers(text), classes=["result"])]
        if entry.flags and what in ("", "value", "full"):
            found += [nodes.Text(said(" (flagged: ")), *flag_links(self.env, entry.flags), nodes.Text(")")]
        return found, []


def powers(text: str) -> list[nodes.Node]:
    """The text with its exponents raised: 10^−6.1 becomes a power of ten."""
    parts = re.split(r"10\^(−?[\d.]+)", text)  # words, exponent, words, ...
    raised = [[nodes.Text(f"{words}10"), nodes.superscript("", up)] for words, up in zip(parts[::2], parts[1::2], strict=False)]
    return [node for pair in raised for node in pair] + [nodes.Text(parts[-1])]


Cell = str | list[nodes.Node]


def grid(head: Sequence[Cell], rows: Sequence[Sequence[Cell]], classes: Sequence[str] = ()) -> nodes.table:
    table = nodes.table(classes=["advlab-results", *classes])
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]

    def paragraph(cell: Cell) -> nodes.paragraph:
        return nodes.paragraph("", said(cell)) if isinstance(cell, str) else nodes.paragraph("", "", *cell)

    def row(cells: Sequence[Cell]) -> nodes.row:
        return nodes.row("", *[nodes.entry("", paragraph(cell)) for cell in cells])

    group += nodes.thead("", row(head))
    group += nodes.tbody("", *[row(cells) for cells in rows])
    table += group
    return table


class ResultsTable(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        chapter = self.arguments[0]
        depends_on(self.env, f"{chapter}.json")
        entries = results.load(chapter).values()
        if not entries:
            return [self.state.document.reporter.warning(f"the manifest has nothing of {chapter!r}", line=self.lineno)]
        notes = nodes.definition_list()
        for e in entries:
            if words := " ".join(filter(None, [f"Paper: {e.where}." if e.where else "", e.note])):
                note = nodes.definition("", nodes.paragraph("", said(words)))
                notes += nodes.definition_list_item("", nodes.term("", said(e.title)), note)
        words = folded(said("Notes, and where a paper has its number"), notes) if len(notes) else []
        return [*row_filter(len(entries)), by_subject(self.env, tuple(entries)), *words, *made(entries)]


def row_filter(rows: int) -> list[nodes.Node]:
    """A field that leaves those rows of the next table that have its words, where there are many (row_filter.js)."""
    if rows < 20:
        return []
    said_of_it = said("Show rows with")
    return [
        nodes.raw("", f'<p class="advlab-filter" hidden><label>{said_of_it} <input type="search"></label></p>', format="html")
    ]


def by_subject(env: BuildEnvironment, entries: Sequence[results.Entry]) -> nodes.table:
    """The entries' numbers; those that speak of one thing, the words before their last colon, under a heading of their own."""
    of: dict[str, list[results.Entry]] = {}
    for e in entries:
        of.setdefault(e.title.rpartition(": ")[0], []).append(e)
    table = grid(("claim", "paper", "ours", "95 % interval", "n"), [])
    table["classes"].append("subjects")
    body = next(iter(table.findall(nodes.tbody)))
    for subject, some in of.items():
        alike = subject != "" and len(some) > 1
        if alike:
            heading = nodes.entry("", nodes.paragraph("", said(subject)), morecols=4, classes=["subject"])
            body += nodes.row("", heading)
        for e, row in zip(some, Table(tuple(some)).rows(), strict=True):
            name = row[0].removeprefix(f"{subject}: ") if alike else row[0]
            cells = [nodes.paragraph("", said(cell)) for cell in (name, *row[1:5])]
            if e.flags:
                cells[2] += [nodes.Text(said(" (flagged: ")), *flag_links(env, e.flags), nodes.Text(")")]
            body += nodes.row("", *[nodes.entry("", cell) for cell in cells], classes=["of-subject"] if alike else [])
    return table


def made(entries: Iterable[results.Entry]) -> list[nodes.Node]:
    """When, where and how each number was made: a table that opens on a click, and stands open on paper."""
    rows: list[tuple[Cell, ...]] = []
    for e in entries:
        used = [f"{name} {digest[:12]}{digest[64:]}" for name, digest in e.inputs.items()]  # evidence has version and day
        code: Cell = [nodes.Text(said("code ")), nodes.literal("", e.code)]
        # pyrefly: ignore[unsupported-operation]
        code += [node for text in used for node in (nodes.Text(", "), nodes.literal("", text))]
        how: Cell = [nodes.literal("", e.command), nodes.Text(said(f", tier {e.tier}, {e.cpu_seconds:.1f} CPU s"))]
        rows.append((e.title, f"{e.date}, advlab {e.version}", where(e.machine), how, code))
    head = ("claim", "when", "where", "how", "of what")
    return folded(said("When, where and how each number was made"), grid(head, rows, classes=["fixed"]))


def folded(summary: str, inside: nodes.Node) -> list[nodes.Node]:
    """What opens on a click, and stands open on paper."""
    opening = nodes.raw("", f'<details class="advlab-made"><summary>{summary}</summary>', format="html")
    return [opening, inside, nodes.raw("", "</details>", format="html")]


def where(machine: Mapping[str, str | int]) -> str:
    if not machine:
        return said("not recorded")
    parts = "{processor}, {cores} cores, Python {python}, torch {torch}, threads: {threads}, {device}, {executor}"
    return said(parts.format(**machine))


class ExecutionTimes(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        measured = json.loads(depends_on(self.env, "execution_times.json").read_text())
        rows = [(name, f"{t['seconds']} s", t["machine"], t["date"], t["by"]) for name, t in sorted(measured.items())]
        rows.append(("together", f"{sum(t['seconds'] for t in measured.values())} s", "", "", ""))
        return [grid(("notebook", "to run all cells", "machine", "measured", "by"), rows, classes=["fixed"])]


def shown(env: BuildEnvironment, stem: str) -> NotebookNode:
    """A notebook as this book shows it: in its language."""
    path = Path(env.srcdir) / "notebooks" / f"{stem}.ipynb"
    env.note_dependency(str(path))
    return nbformat.read(path, 4)


def unmarked(text: str) -> str:
    """Without the mark of what has no translation."""
    return re.sub(r" \{english\}`\w+`", "", text)


def reading(env: BuildEnvironment, stem: str) -> int:
    """Minutes to read a notebook and try its figures: prose but solutions and hints, code that stands open, live figures."""
    path = ROOT / "notebooks" / f"{stem}.ipynb"
    env.note_dependency(str(path))
    seconds = 0.0
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"^(:{3,})\{solution\}.*?^\1$", "", cell.source, flags=re.M | re.S)
            text = re.sub(r"^:::\{admonition\} Hint .*?^:::$", "", text, flags=re.M | re.S)
            seconds += 60 * len(text.split()) / WORDS_A_MINUTE
        elif cell.cell_type == "code":
            opened = [] if "hide-input" in cell.metadata.get("tags", []) else cell.source.split("\n")
            seconds += SECONDS_A_LINE * sum(bool(line.strip()) for line in opened)
            seconds += SECONDS_A_FIGURE * any(VIEW in output.get("data", {}) for output in cell.outputs)
    return max(1, round(seconds / 60))


class Reading(SphinxRole):
    """Minutes to read a chapter and try it, and seconds to run it (as measured)."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        seconds = json.loads(depends_on(self.env, "execution_times.json").read_text())[self.text]["seconds"]
        return [nodes.Text(said(f"{reading(self.env, self.text)} minutes to read and try, {seconds} seconds to run"))], []


def setup(app: Sphinx) -> dict:
    app.add_role("result", Result())
    app.add_role("reading", Reading())
    app.add_directive("results-table", ResultsTable)
    app.add_directive("execution-times", ExecutionTimes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
