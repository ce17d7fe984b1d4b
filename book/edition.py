"""The book in Chinese:  python book/edition.py book|lab

book    build it beside the English one, build/_build/html/zh/, from the same notebooks: nothing is run again
lab     write the notebooks for JupyterLab, build/zh/lab/notebooks/

Only prose is replaced, message by message (book/messages.py), by what the PO files have (book/catalogue.py); code, outputs
and the state of widgets are copied. A message without a translation stays English, with a mark, and is listed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path += [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent / "_ext")]

import catalogue
import messages
import strings

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "zh"
HTML = ROOT / "build" / "_build" / "html"
MARK = " {english}`EN`"  #: a role of book/_ext/languages.py
MARK_IN_LAB = " <sup>EN</sup>"
LANGUAGE = "zh_CN"
REDIRECT = '<meta http-equiv="Refresh" content="0; url=book/index.html" />\n'


@dataclass
class Part:
    """What became of a page, a chapter or a table: its messages, those left in English, its headings."""

    name: str
    count: int = 0
    left: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        return self.count - len(self.left)


class Edition:
    """Translates texts, and keeps what it met in ``parts``. ``mark`` stands behind what stays English."""

    def __init__(self, mark: str = MARK, known: dict[str, list[catalogue.Row]] | None = None) -> None:
        self.mark = mark
        self.known = catalogue.everything() if known is None else known
        self.parts: list[Part] = []

    def reading(self, name: str) -> Callable[[str], str]:
        """What translates the texts of one page or chapter, in their order."""
        held, reader, part = catalogue.memory(self.known, name), messages.Reader(), Part(name)
        self.parts.append(part)

        def say(message: messages.Message) -> str:
            row = held.row(message.context, message.text)
            part.count += 1
            part.left += [] if row.text else [message.text]
            return row.text or message.text + self.mark

        def translated(text: str) -> str:
            found = list(reader.messages(text))
            part.headings = reader.headings
            said = {(m.line, m.start): say(m) for m in found}
            return messages.replaced(text, found, lambda m: said[m.line, m.start])

        return translated

    def notebook(self, name: str, notebook: dict[str, Any]) -> dict[str, Any]:
        """A notebook with its prose translated; everything else is as it was."""
        say = self.reading(name)
        cells = []
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                text = say("".join(cell["source"]))
                cell = cell | {"source": text if isinstance(cell["source"], str) else text.splitlines(keepends=True)}
            cells.append(cell)
        return notebook | {"cells": cells}

    def table(self, name: str, keys: list[catalogue.Key]) -> None:
        """Note how much of a table of words is translated."""
        held = catalogue.memory(self.known, name)
        self.parts.append(Part(name, len(keys), [english for context, english in keys if not held.row(context, english).text]))


def write_texts(to: Path, edition: Edition) -> None:
    """All pages and notebooks, translated, at their places under the folder ``to``."""
    for name, path in catalogue.documents().items():
        if name == "readme":
            continue
        place = to / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name == "notebooks":
            notebook = edition.notebook(name, json.loads(path.with_suffix(".ipynb").read_text()))
            put(place.with_suffix(".ipynb"), json.dumps(notebook, indent=0, ensure_ascii=False) + "\n")
        else:
            put(place, edition.reading(name)(path.read_text()))
    for name, keys in strings.tables().items():
        edition.table(name, keys)


def put(path: Path, text: str) -> None:
    """Write a file, unless it is as it should be: Sphinx reads again what is newer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def config() -> dict[str, Any]:
    """The book's configuration, for the Chinese one."""
    from labbook.words import said

    made = yaml.safe_load((ROOT / "book" / "_config.yml").read_text())
    sphinx = made["sphinx"]
    sphinx["local_extensions"] = {name: str(ROOT / "book" / "_ext") for name in sphinx["local_extensions"]}
    del sphinx["local_extensions"]["whole_book"]
    own = sphinx["config"]
    own["language"] = LANGUAGE
    own["togglebutton_hint"], own["togglebutton_hint_hide"] = said("Click to show"), said("Click to hide")
    own["nb_code_prompt_show"], own["nb_code_prompt_hide"] = (said(f"{verb} the code") for verb in ("Show", "Hide"))
    own["html_static_path"] = [str(ROOT / "book" / "_static"), str(catalogue.FOLDER / "static")]
    own["html_css_files"] += ["chinese.css"]
    own["html_js_files"] += ["words.js"]
    own["html_theme_options"]["extra_footer"] = said(own["html_theme_options"]["extra_footer"])
    made["title"], made["author"] = said(made["title"]), said(made["author"])
    made["logo"] = str(ROOT / made["logo"])
    made["html"]["favicon"] = str(ROOT / made["html"]["favicon"])
    made["bibtex_bibfiles"] = [str(ROOT / name) for name in made["bibtex_bibfiles"]]
    return made


def contents() -> dict[str, Any]:
    from labbook.words import said

    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    for part in toc["parts"]:
        part["caption"] = said(part["caption"])
    toc["parts"][-1]["chapters"].append({"file": "book/translation"})
    return toc


def share(done: int, count: int) -> str:
    """A share in percent, never rounded up to all of it.

    >>> share(999, 1000), share(1000, 1000)
    ('99.9 %', '100 %')
    """
    return "100 %" if done == count else f"{int(1000 * done / count) / 10:.1f} %"


def coverage(parts: list[Part]) -> str:
    """The line on the front page."""
    done, count = sum(p.done for p in parts), sum(p.count for p in parts)
    return f"译文覆盖率：{count} 条中的 {done} 条（{share(done, count)}）；其余保留英文，并列在[译文一览](translation.md)中。"


def listing(parts: list[Part]) -> str:
    """The page that says what is translated, and lists what is not."""
    said = coverage(parts).partition("；")[0] + "。没有译文的段落以英文显示，并带有标记 {english}`EN`。"
    lines = ["# 译文一览", "", said, ""]
    lines += ["| 文件 | 条数 | 已译 | 覆盖率 |", "| --- | --- | --- | --- |"]
    lines += [f"| `{p.name}.po` | {p.count} | {p.done} | {share(p.done, p.count)} |" for p in parts if p.count]
    for part in parts:
        if part.left:
            lines += ["", f"## `{part.name}.po`", "", "```text", *(text.replace("```", "'''") for text in part.left), "```"]
    return "\n".join(lines) + "\n"


def write_book(to: Path, edition: Edition) -> None:
    """What Jupyter Book builds the Chinese book from."""
    write_texts(to, edition)
    index = to / "book" / "index.md"
    put(index, index.read_text() + f"\n{coverage(edition.parts)}\n")
    put(to / "book" / "translation.md", listing(edition.parts))
    put(to / "_config.yml", yaml.safe_dump(config(), allow_unicode=True))
    put(to / "_toc.yml", yaml.safe_dump(contents(), allow_unicode=True))
    pages = {p.name: p.headings for p in edition.parts}
    docs = catalogue.documents().items()
    headings = {path.relative_to(ROOT).with_suffix("").as_posix(): pages.get(name, []) for name, path in docs}
    put(to / "headings.json", json.dumps(headings, indent=0))


def build(source: Path, out: Path) -> None:
    """Run Sphinx on what :func:`write_book` wrote. Raises RuntimeError where it warns of anything."""
    from jupyter_book.sphinx import build_sphinx

    failed = build_sphinx(
        source,
        out,
        path_config=source / "_config.yml",
        noconfig=True,
        confoverrides={"external_toc_path": str(source / "_toc.yml"), "latex_individualpages": False, "nitpicky": True},
        doctreedir=source / ".doctrees",
        quiet=True,
        warningiserror=True,
        keep_going=True,
    )
    if failed:
        raise RuntimeError(f"the Chinese book did not build: {failed}")


def link() -> None:
    """Put the switch into the English pages, which were built before there was another language."""
    from _ext.languages import with_switch

    for path in (HTML / "zh").rglob("*.html"):
        page = path.relative_to(HTML / "zh")
        if (HTML / page).exists() and "_static" not in page.parts:
            text = (HTML / page).read_text()
            put(HTML / page, with_switch(text, page, "zh"))


def leftovers(parts: list[Part]) -> Iterator[str]:
    for part in parts:
        for text in part.left:
            yield f"{part.name}.po: {text[:100]}"


def book() -> None:
    start = time.perf_counter()
    edition = Edition()
    write_book(WORK / "source", edition)
    build(WORK / "source", HTML / "zh")
    link()
    put(HTML / "zh" / "index.html", REDIRECT)
    put(WORK / "untranslated.txt", "".join(f"{line}\n" for line in leftovers(edition.parts)))
    left = sum(len(p.left) for p in edition.parts)
    print(f"{re.sub(r'；.*', '', coverage(edition.parts))}; left in English: {left}, listed in build/zh/untranslated.txt")
    print(f"The Chinese book is built, in {time.perf_counter() - start:.0f} s. Open  build/_build/html/zh/index.html")


def lab(to: Path = WORK / "lab") -> None:
    """The notebooks for JupyterLab, and pages that they link to; what a reader has worked on stays as it is."""
    import jupytext

    fresh, seen = to / ".fresh", to / ".written.json"
    write_texts(fresh, Edition(MARK_IN_LAB))
    for path in sorted((fresh / "notebooks").glob("*.ipynb")):
        path.with_suffix(".md").write_text(jupytext.writes(jupytext.read(path), "md:myst"))
    written = json.loads(seen.read_text()) if seen.exists() else {}
    for path in sorted(p for p in fresh.rglob("*") if p.is_file()):
        name, digest = path.relative_to(fresh).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()
        place = to / name
        if not place.exists() or hashlib.sha256(place.read_bytes()).hexdigest() == written.get(name):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
            written[name] = digest
        elif written.get(name) != digest:
            print(f"{name} was changed by its reader, and stays so; there is a newer one in {fresh}")
    seen.write_text(json.dumps(written, indent=0))
    shutil.copy(ROOT / "notebooks" / "jupytext.toml", to / "notebooks")
    print(f"{to}/notebooks: the chapters in Chinese, with the same exercises and checks")


if __name__ == "__main__":
    if sys.argv[1:] not in (["book"], ["lab"]):
        sys.exit(__doc__)
    os.environ["ADVLAB_LANG"] = "zh"
    {"book": book, "lab": lab}[sys.argv[1]]()
