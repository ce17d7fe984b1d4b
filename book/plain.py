"""The notebooks as plain Markdown, for GitHub, VS Code, Colab and a Lab without MyST:  python book/plain.py [--to FOLDER]

Theorems, admonitions, exercises, formulas, references and captions become what every reader of notebooks shows; cells of
code and their outputs stay as they are. The numbers are those of the book, which stand in the text (book/dress.py).
"""

from __future__ import annotations

import argparse
import copy
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

import dress

ROOT = Path(__file__).resolve().parents[1]
OPENING = re.compile(r"(?P<fence>:{3,}|`{3,})\{(?P<name>[\w:-]+)\}\s*(?P<title>.*)$")
ROLE = re.compile(r"\{(?:prf:ref|eq|ref|numref)\}`(?P<label>[\w-]+)`")
PAGE = re.compile(r"\]\(\.\./(?P<path>(?!notebooks/)[^)]*)\)")


def parted(lines: list[str]) -> tuple[dict[str, str], str]:
    """The options of a directive, and its body."""
    options: dict[str, str] = {}
    while lines and (found := re.match(r":([\w-]+):\s*(.*)", lines[0])):
        options[found[1]] = found[2]
        lines = lines[1:]
    return options, "\n".join(lines).strip("\n")


def box(name: str, title: str, options: dict[str, str], body: str, labels: dict[str, str]) -> str:
    """A directive as plain Markdown; its body is plain already."""
    number, label = options.get("enumerator", ""), options.get("label", "")
    anchor = f'<a id="{label}"></a>\n\n' if label else ""
    if name == "math":
        return f"{anchor}$$\n{body} \\tag{{{number}}}\n$$" if number else f"{anchor}$$\n{body}\n$$"
    kind = name.removeprefix("prf:")
    if kind == "solution":
        return f"<details><summary>Solution of {labels[title]}</summary>\n\n{body}\n\n</details>"
    if "dropdown" in options.get("class", ""):
        return f"<details><summary>{title or kind.capitalize()}</summary>\n\n{body}\n\n</details>"
    if kind == "proof":
        return f"*Proof.* {body} ∎"
    if number:
        return f"{anchor}**{kind.capitalize()} {number}{f' ({title})' * bool(title)}.** {body}"
    head = f"**{title or kind.capitalize()}**\n\n{body}"
    return head if "$$" in head or "```" in head else "\n".join(f"> {line}".rstrip() for line in head.splitlines())


def plain(source: str, labels: dict[str, str]) -> str:
    """The Markdown of a cell without directives and roles; ``labels`` as :class:`dress.Numbers` has them.

    Raises KeyError for a reference to a label that there is not, ValueError for a directive that nothing closes.

    >>> plain("By {prf:ref}`thm-cap` it is.", {"thm-cap": "Theorem 1.1"})
    'By [Theorem 1.1](#thm-cap) it is.'
    """
    lines, found, code = source.splitlines(), [], False
    while lines:
        line = lines.pop(0)
        opening = None if code else OPENING.match(line)
        if opening:
            closing = re.compile(re.escape(opening["fence"]) + opening["fence"][0] + "*")
            end = next((i for i, text in enumerate(lines) if closing.fullmatch(text)), None)
            if end is None:
                raise ValueError(f"{line!r} is never closed")
            options, body = parted(lines[:end])
            lines = lines[end + 1 :]
            body = body if opening["name"] == "math" else plain(body, labels)
            found.append(box(opening["name"], opening["title"], options, body, labels))
            continue
        code ^= line.startswith("```")
        if not code:
            line = re.sub(r"^\(([\w-]+)\)=$", r'<a id="\1"></a>\n', line)
            line = ROLE.sub(lambda role: f"[{labels[role['label']]}](#{role['label']})", line)
        found.append(line)
    return "\n".join(found)


def plainly(notebook: NotebookNode, stem: str, root: str = "../..") -> NotebookNode:
    """A copy of a chapter in plain Markdown, which stands in a folder; ``root`` leads from there to the checkout's."""
    made = copy.deepcopy(notebook)
    numbers = dress.Numbers(dress.chapter_number(stem))
    for cell in made.cells:
        if cell.cell_type == "markdown":
            numbers.numbered(cell.source)
    for cell in made.cells:
        if cell.cell_type == "markdown":
            text = PAGE.sub(lambda link: f"]({root}/{link['path']})", plain(cell.source, numbers.labels))
            cell.source = text.replace("](../notebooks/", "](")
    return made


def chapters() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "plain")
    told = parser.parse_args()
    told.to.mkdir(parents=True, exist_ok=True)
    for path in chapters():
        nbformat.write(plainly(nbformat.read(path, 4), path.stem), told.to / path.name)
    print(f"{told.to}: {len(chapters())} notebooks in plain Markdown")


if __name__ == "__main__":
    main()
