"""Chores of the book's authors:  python book/chores.py dress|refresh|prose|check|length|times|adopt|tour|po [NOTEBOOK.md ...]

dress    write numbers into text twins, and fold the cells that a reader need not read (book/dress.py has the rules)
refresh  run each notebook from its text twin; store outputs and widget state, the same bytes each time
prose    bring prose that changed in a text twin into its notebook, where no code changed: nothing runs
check    text twin and notebook agree, every cell was run without error, every widget shown has its state stored
length   print how long each chapter's main line is, before its exercises: words, tables, cells
times    measure how long each notebook runs, for the page of execution times
adopt    take what the last `make test` measured of that into the page instead; after `make test SLOW=1`, the list of long tests
tour     draw the README's pictures
po       bring the translations in book/locale/ to the English as it is, and count what has none (book/catalogue.py)
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

sys.path.append(str(Path(__file__).resolve().parent))

import dress as rules

ROOT = Path(__file__).resolve().parents[1]
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
TIMES = ROOT / "book" / "results" / "execution_times.json"
MEASURED = ROOT / "build" / "execution_times.json"  # by the tests: see tests/conftest.py
LIMIT = 20 * 60  # seconds for all notebooks together


def twins(names: list[str]) -> list[Path]:
    """The text twins that are meant: those named, or all."""
    return [Path(n).with_suffix(".md").resolve() for n in names] or sorted((ROOT / "notebooks").glob("*.md"))


def in_dress(md: Path) -> str:
    """The text of a twin as the chore ``dress`` writes it."""
    text = jupytext.writes(rules.dressed(jupytext.read(md), rules.chapter_number(md.stem)), "md:myst")
    return re.sub(r"^    jupytext_version: .*\n", "", text, flags=re.M)


def dress(mds: list[Path]) -> int:
    for md in mds:
        text = in_dress(md)
        if text != md.read_text():
            md.write_text(text)
            print(f"dressed {md.name}")
    return 0


def execute(md: Path) -> NotebookNode:
    """The notebook of a text twin, run in a fresh kernel, with the state of its widgets."""
    from nbclient import NotebookClient

    notebook = jupytext.read(md)
    resources = {"metadata": {"path": str(md.parent)}}
    NotebookClient(notebook, timeout=900, record_timing=False, store_widget_state=True, resources=resources).execute()
    return notebook


def stable(notebook: NotebookNode) -> NotebookNode:
    """Without what changes from run to run: random ids are numbered by their order, versions and timestamps dropped."""
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:03d}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
            cell.metadata.pop("jupyter", None)
            if rules.FOLD in cell.metadata.get("tags", []):
                cell.metadata["jupyter"] = {"source_hidden": True}  # what JupyterLab folds by; the book folds by the tag
    notebook.metadata.get("language_info", {}).pop("version", None)
    notebook.metadata.get("jupytext", {}).pop("text_representation", None)
    seen: dict[str, str] = {}
    text = re.sub(
        r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])",
        lambda match: seen.setdefault(match[0], f"{len(seen):032x}"),
        json.dumps(notebook),  # in the order of creation: sorted keys would follow the random ids
    )
    return nbformat.reads(text, 4)


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs in which printed text that came in several pieces, as a busy machine sends it, is one piece."""
    found: list[NotebookNode] = []
    for output in outputs:
        if found and output.output_type == found[-1].output_type == "stream" and output.name == found[-1].name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def keep(ipynb: Path, notebook: NotebookNode) -> None:
    raw = json.loads(nbformat.writes(notebook))
    light = json.dumps(raw, indent=0, ensure_ascii=False)  # nbformat's indent weighs as much as a figure
    ipynb.write_text(light + "\n")


def refresh(mds: list[Path]) -> int:
    for md in mds:
        keep(md.with_suffix(".ipynb"), stable(execute(md)))
        print(f"refreshed {md.relative_to(ROOT)}")
    return 0


def prose(mds: list[Path]) -> int:
    differ = 0
    for md in mds:
        text, notebook = jupytext.read(md), nbformat.read(md.with_suffix(".ipynb"), 4)
        kinds = [[(c.cell_type, c.cell_type == "code" and c.source) for c in nb.cells] for nb in (text, notebook)]
        if kinds[0] != kinds[1]:
            print(f"{md.name}: cells changed, not only prose: refresh it")
            differ += 1
            continue
        changed = [(old, new) for old, new in zip(notebook.cells, text.cells, strict=True) if old.source != new.source]
        for old, new in changed:
            old.source = new.source
        if changed:
            keep(md.with_suffix(".ipynb"), notebook)
            print(f"{md.name}: {len(changed)} cells of prose")
    return 1 if differ else 0


def faults(md: Path) -> list[str]:
    """What is wrong with the pair of ``md`` and its notebook, a line each."""
    ipynb = md.with_suffix(".ipynb")
    if not ipynb.exists():
        return [f"{ipynb.name} is missing: make refresh"]
    text, notebook = jupytext.read(md), nbformat.read(ipynb, 4)

    def content(nb: NotebookNode) -> list[tuple]:
        return [(c.cell_type, c.source.strip(), sorted(c.metadata.get("tags", [])), c.metadata.get("mystnb")) for c in nb.cells]

    found = []
    if re.match(r"\d", md.stem) and in_dress(md) != md.read_text():
        found.append(f"{md.name} has other numbers or folds than its rules say: python book/chores.py dress")
    if content(text) != content(notebook):
        found.append(f"{ipynb.name} differs from {md.name}: make refresh, or jupytext --sync if the notebook is newer")
    states = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        if cell.source.strip() and cell.execution_count is None:
            found.append(f"{ipynb.name}: cell {i} was not run")
        for output in cell.outputs:
            if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
                found.append(f"{ipynb.name}: cell {i} ended in an error")
            view = output.get("data", {}).get(VIEW)
            if view and view["model_id"] not in states:
                found.append(f"{ipynb.name}: cell {i} shows a widget whose state is not stored: make refresh")
    return found


def check(mds: list[Path]) -> int:
    found = [fault for md in mds for fault in faults(md)]
    found += [] if sys.argv[2:] else translated_badly()  # these are of the whole book
    for record in old_records((ROOT / "book" / "findings.md").read_text(), datetime.date.today()):
        print(f"book/findings.md: look again for prior work, the record is older than a year: {record}")
    from labbook import field

    day = field.field()["date"]
    if field.old(day, datetime.date.today()):
        print(f"book/field.toml: look again at each record and at what changed, the file is of {day}, older than nine months")
    cells = sum(cell.cell_type == "code" for md in mds if not found for cell in jupytext.read(md).cells)
    print("\n".join(found) or f"{len(mds)} pairs agree, {cells} code cells were run")
    return bool(found)


def main_line(md: Path) -> dict[str, int]:
    """Words, tables and cells of a notebook before the heading "Exercises"; an exercise in the text is not counted.

    A formula is one word, and so is a role; options of directives and labels are none. Tables that a fold holds count too.
    """
    words = tables = cells = 0
    for cell in jupytext.read(md).cells:
        if re.search(r"^## Exercises", cell.source, re.M):
            break
        if cell.cell_type == "code":
            cells += 1
            continue
        text = re.sub(r"^(:{3,})\{(exercise|solution)\}.*?^\1$", "", cell.source, flags=re.M | re.S)
        text = re.sub(r"^:::\{admonition\} Hint .*?^:::$", "", text, flags=re.M | re.S)
        tables += len(re.findall(r"^\*\*Table ", text, re.M))
        text = re.sub(r"^\$\$.*?^\$\$|^```\{math\}.*?^```|\$[^$]*\$|\{[^}\s]+\}`[^`]*`", "x", text, flags=re.M | re.S)
        words += sum(len(line.split()) for line in text.splitlines() if not re.match(r":|\(.*\)=$|```", line))
    return {"words": words, "tables": tables, "cells": cells}


def length(mds: list[Path]) -> int:
    for md in mds:
        print(f"{md.stem:28}" + ", ".join(f"{count:5} {what}" for what, count in main_line(md).items()))
    return 0


def old_records(page: str, today: datetime.date) -> list[str]:
    """The findings of the page, with the day, whose prior work was looked for more than a year ago."""
    old = []
    for part in f"\n{page}".split("\n### ")[1:]:
        found = re.search(r"Looked on (\d{4}-\d\d-\d\d)", part)
        if found and (today - datetime.date.fromisoformat(found[1])).days > 365:
            old.append(f"{part.partition(chr(10))[0]} ({found[1]})")
    return old


def times(mds: list[Path]) -> int:
    """Wall seconds of each notebook on this machine, into the manifest."""
    seconds = {}
    for md in mds:
        start = time.perf_counter()
        execute(md)
        seconds[md.stem] = time.perf_counter() - start
    record(seconds, TIMES, "python book/chores.py times")
    return 0


def record(seconds: dict[str, float], path: Path, by: str) -> None:
    """Note in the file ``path`` how long notebooks took, by which command, on this machine; others stay as they are."""
    said = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.date.today().isoformat(),
        "by": by,
    }
    known = json.loads(path.read_text()) if path.exists() else {}
    known |= {name: {"seconds": round(s), **said} for name, s in seconds.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def adopt(mds: list[Path]) -> int:
    """The times that the tests measured, into the manifest."""
    found = json.loads(MEASURED.read_text())
    known = json.loads(TIMES.read_text()) | {md.stem: found[md.stem] for md in mds if md.stem in found}
    TIMES.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    if (long := ROOT / "build" / "heavy.txt").exists():
        (ROOT / "tests" / "heavy.txt").write_text(long.read_text())
    return 0


def tour(_: list[Path]) -> int:
    """The README's pictures, from the library's own figures."""
    from advlab import data, zoo
    from labbook import live
    from labbook.live.figure import png

    x, y = data.mnist("test", 10)
    net = zoo.load("mnist_cnn7")
    for method in ("noise", "pgd"):
        figure = live.DigitAttack(net, x, y, digit=0, method=method, eps=0.25)  # pyrefly: ignore[bad-argument-type]
        (ROOT / "book" / "_static" / f"tour_{method}.png").write_bytes(png(figure.still()))
    return 0


def translated_badly() -> list[str]:
    """What is wrong with the PO files, and with the README that is made from one, a line each."""
    import catalogue
    import proofread

    found = []
    for path in catalogue.files():
        try:
            rows = catalogue.read(path)
        except ValueError as e:
            found.append(str(e))
            continue
        found += [f"{path.name}: {row.english[:60]!r}: {fault}" for row in rows if row.text for fault in proofread.faults(row)]
    if not found and (ROOT / "README.zh.md").read_text() != catalogue.readme():
        found.append("README.zh.md is not what readme.po and README.md give: python book/chores.py po")
    return found


def po(_: list[Path]) -> int:
    """The messages of all pages and tables into their PO files; translations of other words are dropped."""
    import catalogue
    import strings

    wanted = {name: catalogue.asked(path) for name, path in catalogue.documents().items()} | strings.tables()
    known = catalogue.everything()
    for name, keys in wanted.items():
        held = catalogue.memory(known, name)
        rows = [held.row(*key) for key in keys]
        rows += strings.by_hand(name, known.get(name, []), rows) if name.startswith("live/") else []
        catalogue.write(catalogue.FOLDER / f"{name}.po", rows)
        left = sum(not row.text for row in rows)
        print(f"{name:32}{len(rows) - left:5} of {len(rows):5} messages translated")
    for path in catalogue.files():
        if path.relative_to(catalogue.FOLDER).with_suffix("").as_posix() not in wanted:
            path.unlink()
    (ROOT / "README.zh.md").write_text(catalogue.readme())
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("dress", "refresh", "prose", "check", "length", "times", "adopt", "tour", "po"):
        sys.exit(__doc__)
    sys.exit(globals()[sys.argv[1]](twins(sys.argv[2:])))
