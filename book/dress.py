"""What a chore writes into the chapters: their numbers, and which cells are folded. Each has one rule.

**Numbers** count by chapter: Theorem 3.1, Exercise 3.2, Figure 3.3, Table 3.4, equation (3.5). They stand in the text, so
that the book, JupyterLab, paper and the plain notebooks cannot differ: in a directive as ``:enumerator: 3.1``, in a caption
as its first words. A caption is a paragraph ``**Figure. What it shows.** More words.``, under the cell that shows the figure;
a table's title, ``**Table. What it lists.**``, stands over it. With ``(fig-name)=`` on the line before, ``[Figure](#fig-name)``
is a reference to it; its number is filled in.

**Folded** is every cell that a reader need not read to follow the argument: set-up, pictures, tables, numbers from the
manifest, assertions, and whatever is longer than 25 lines. The stub of an exercise is always open.
"""

from __future__ import annotations

import ast
import re
from collections import Counter

from nbformat import NotebookNode

LONGEST = 25  #: lines of code that stand open
FOLD = "hide-input"
EQUATION = re.compile(r"^\$\$\n((?:(?!\$\$).*\n)+)\$\$ \(([\w-]+)\)$", re.M)
DIRECTIVE = re.compile(
    r"^(?P<head>:{3,}\{(?:prf:(?!proof\b)(?P<proof>\w+)|(?P<exercise>exercise))\}.*\n|```\{math\}\n)"
    r"(?P<options>(?::[\w-]+:.*\n)*)",
    re.M,
)
CAPTION = re.compile(r"^(?P<target>\((?P<label>[\w-]+)\)=\n)?\*\*(?P<kind>Figure|Table)(?: [\dA-Z]+\.\d+)?\. ", re.M)
REFERENCE = re.compile(r"\[(?:Figure|Table)(?: [\dA-Z]+\.\d+)?\]\(#(?P<label>[\w-]+)\)")


def chapter_number(stem: str) -> str:
    """The number of a chapter or an appendix, from the name of its notebook.

    >>> chapter_number("03_relu_stability"), chapter_number("02a_the_laboratory")
    ('3', '2A')
    """
    found = re.match(r"(\d+)([a-z]?)_", stem)
    if not found:
        raise ValueError(f"{stem!r} does not begin with its chapter's number: call it 06_{stem}, or 06a_{stem} for an appendix")
    return f"{int(found[1])}{found[2].upper()}"


class Numbers:
    """Counts what a chapter numbers, cell by cell. ``labels`` has the words for each label: "Theorem 3.1", "(3.2)".

    >>> Numbers("3").numbered("**Figure. Two inputs.** A box.")
    '**Figure 3.1. Two inputs.** A box.'
    """

    def __init__(self, chapter: str) -> None:
        self.chapter = chapter
        self.labels: dict[str, str] = {}
        self._count: Counter[str] = Counter()

    def _next(self, kind: str) -> str:
        self._count[kind] += 1
        return f"{self.chapter}.{self._count[kind]}"

    def _directive(self, found: re.Match[str]) -> str:
        kind = found["proof"] or found["exercise"] or "equation"
        number = self._next(kind)
        options = [line for line in found["options"].splitlines() if not line.startswith(":enumerator:")]
        for line in options:
            if line.startswith(":label:"):
                self.labels[line[7:].strip()] = f"({number})" if kind == "equation" else f"{kind.capitalize()} {number}"
        return found["head"] + "\n".join([*options, f":enumerator: {number}"]) + "\n"

    def _caption(self, found: re.Match[str]) -> str:
        words = f"{found['kind']} {self._next(found['kind'])}"
        if found["label"]:
            self.labels[found["label"]] = words
        return f"{found['target'] or ''}**{words}. "

    def numbered(self, source: str) -> str:
        """The Markdown of a cell with its numbers; references wait for :meth:`referred`."""
        source = EQUATION.sub(r"```{math}\n:label: \2\n\1```", source)
        return CAPTION.sub(self._caption, DIRECTIVE.sub(self._directive, source))

    def referred(self, source: str) -> str:
        """The Markdown with its references to figures and tables filled in. Raises ValueError for a label that nothing has."""

        def words(found: re.Match[str]) -> str:
            if found["label"] not in self.labels:
                raise ValueError(
                    f"chapter {self.chapter} refers to {found['label']!r}, which no caption there is labelled with"
                )
            return f"[{self.labels[found['label']]}](#{found['label']})"

        return REFERENCE.sub(words, source)


def shows(node: ast.stmt, book: set[str]) -> bool:
    """Whether the statement uses what the book, and not the library, provides, or draws."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return bool(names & (book | {"Figure"}))


def imported(tree: ast.AST) -> set[str]:
    """The names that code imports from the book's own package."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "labbook":
            found |= {name.asname or name.name for name in node.names}
    return found


def folded(source: str, book: set[str]) -> bool:
    r"""Whether a code cell is folded. ``book`` has the names imported from the book's package so far.

    >>> folded("w = net.weight\nprint(w.norm())", set()), folded("results.table('start_here')", {"results"})
    (False, True)
    """
    if "raise NotImplementedError" in source:
        return False
    body = [node for node in ast.parse(source).body if not isinstance(node, ast.Import | ast.ImportFrom)]
    says = any(isinstance(n, ast.Name) and n.id == "print" for node in body for n in ast.walk(node))
    makes = any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign) for node in body)
    return len(source.splitlines()) > LONGEST or any(shows(node, book) for node in body) or not (says or makes)


def dressed(notebook: NotebookNode, chapter: str) -> NotebookNode:
    """The notebook of a chapter, its own cells changed: numbers in the text, tags on the code that is folded."""
    numbers, book = Numbers(chapter), set()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = numbers.numbered(cell.source)
        elif cell.cell_type == "code":
            book |= imported(ast.parse(cell.source))
            tags = [tag for tag in cell.metadata.get("tags", []) if tag != FOLD]
            tags += [FOLD] * folded(cell.source, book)
            cell.metadata.pop("tags", None)
            if tags:
                cell.metadata["tags"] = tags
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = numbers.referred(cell.source)
    return notebook
