"""The pairs of notebook and text twin, and that the check finds each way in which they can go wrong."""

import json
import re

import nbformat
import pytest
from browser import ROOT

import chores
from labbook.live.figure import LOADER

TWINS = chores.twins([])


@pytest.mark.parametrize("md", TWINS, ids=lambda md: md.stem)
def test_pairs_agree(md):
    assert chores.faults(md) == []


@pytest.fixture
def pair(tmp_path):
    source = ROOT / "notebooks" / "00_start_here"
    for suffix in (".md", ".ipynb"):
        (tmp_path / f"n{suffix}").write_bytes(source.with_suffix(suffix).read_bytes())
    return tmp_path / "n.md"


def spoil(pair, change):
    notebook = nbformat.read(pair.with_suffix(".ipynb"), 4)
    change(notebook)
    nbformat.write(notebook, pair.with_suffix(".ipynb"))
    return " ".join(chores.faults(pair))


def code(notebook):
    return next(c for c in notebook.cells if c.cell_type == "code" and c.outputs)


def test_the_check_finds_what_is_wrong(pair):
    assert chores.faults(pair) == []
    text = pair.read_text()
    pair.write_text(text.replace("Passport", "Visa", 1))
    assert "differs from" in " ".join(chores.faults(pair))
    pair.write_text(text)
    assert "was not run" in spoil(pair, lambda n: code(n).update(execution_count=None))
    error = nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
    assert "ended in an error" in spoil(pair, lambda n: code(n).outputs.append(error))
    assert "state is not stored" in spoil(pair, lambda n: n.metadata.widgets[chores.STATE].state.clear())
    pair.with_suffix(".ipynb").unlink()
    assert "missing" in " ".join(chores.faults(pair))


def test_changed_prose_comes_into_the_notebook_and_changed_code_does_not(pair, capsys):
    before = nbformat.read(pair.with_suffix(".ipynb"), 4)
    text = pair.read_text()
    prose = next(c.source for c in before.cells if c.cell_type == "markdown").splitlines()[0]
    code = next(c.source for c in before.cells if c.cell_type == "code").splitlines()[0]
    pair.write_text(text.replace(prose, f"{prose} And more."))
    assert chores.prose([pair]) == 0
    after = nbformat.read(pair.with_suffix(".ipynb"), 4)
    assert "And more." in " ".join(c.source for c in after.cells)
    assert [c.get("outputs") for c in after.cells] == [c.get("outputs") for c in before.cells]
    assert chores.faults(pair) == []
    pair.write_text(text.replace(code, f"{code}  # more"))
    assert chores.prose([pair]) == 1
    assert "refresh it" in capsys.readouterr().out
    assert nbformat.read(pair.with_suffix(".ipynb"), 4) == after


def test_refreshed_bytes_do_not_depend_on_random_ids():
    def notebook(*ids):
        n = nbformat.v4.new_notebook()
        n.metadata["widgets"] = {ids[1]: {"layout": ids[0]}, ids[0]: {}}
        n.cells = [nbformat.v4.new_markdown_cell(f"{ids[0]} {ids[1]} {ids[0]}")]
        n.metadata["language_info"] = {"name": "python", "version": ids[2]}
        return chores.stable(n)

    a = notebook("a" * 32, "b" * 32, "3.11.1")
    assert a == notebook("c" * 32, "d" * 32, "3.12.0")
    assert a.cells[0].source == f"{1:032x} {0:032x} {1:032x}", "numbered by first appearance, metadata first"


@pytest.mark.parametrize("md", TWINS, ids=lambda md: md.stem)
def test_roles_that_jupyterlab_shows_wrongly_are_kept_out(md):
    assert not re.findall(r"\{(?:cite|glue|margin|numref|result)[^}]*\}", md.read_text())


@pytest.mark.parametrize("md", TWINS, ids=lambda md: md.stem)
def test_a_paragraph_is_one_line(md):
    text = re.sub(r"```.*?```|\$\$.*?\$\$", "", md.read_text().split("---", 2)[2], flags=re.S)
    for block in text.split("\n\n"):
        prose = [line for line in block.splitlines() if line and not re.match(r"[:+\-*|>#$(]|\d+\.|\s", line)]
        assert len(prose) <= 1, block


def test_text_that_was_printed_in_pieces_is_one_piece():
    def text(name, words):
        return nbformat.v4.new_output("stream", name=name, text=words)

    n = nbformat.v4.new_notebook()
    pieces = [text("stdout", "a\n"), text("stdout", "b\n"), text("stderr", "c\n"), text("stdout", "d\n")]
    n.cells = [nbformat.v4.new_code_cell("1", outputs=pieces)]
    found = chores.stable(n).cells[0].outputs
    assert [(o.name, o.text) for o in found] == [("stdout", "a\nb\n"), ("stderr", "c\n"), ("stdout", "d\n")]


@pytest.mark.parametrize("md", TWINS, ids=lambda md: md.stem)
def test_the_figures_in_a_notebook_are_those_of_the_library(md):
    """What a static page runs is stored in the notebook: after a change of a figure's code, `make refresh`."""
    import importlib

    states = nbformat.read(md.with_suffix(".ipynb"), 4).metadata.get("widgets", {}).get(chores.STATE, {}).get("state", {})
    figures = [s["state"] for s in states.values() if "_anywidget_id" in s["state"]]
    assert figures or "live." not in md.read_text()
    for figure in figures:
        module, _, name = figure["_anywidget_id"].rpartition(".")
        made = getattr(importlib.import_module(module), name)
        look, *scripts = (
            states[id.removeprefix("IPY_MODEL_")]["state"]["value"] for id in (figure["look"], *figure["scripts"])
        )
        assert (look, *scripts) == (made._css, *made._esm.parts), f"{name}: scripts or style of the notebook are others"
        assert figure["_esm"] == LOADER


def test_what_figures_share_is_stored_once_and_the_notebooks_are_light():
    paths = [md.with_suffix(".ipynb") for md in TWINS]
    for path in paths:
        states = nbformat.read(path, 4).metadata.get("widgets", {}).get(chores.STATE, {}).get("state", {})
        long = [v for s in states.values() for v in map(json.dumps, s["state"].values()) if len(v) > 5000]
        assert len(long) == len(set(long)), f"{path.name} holds something twice"
    sizes = {path: path.stat().st_size for path in paths}
    assert sum(size for path, size in sizes.items() if path.stem[2] == "_") < 4_000_000, "the six chapters"
    assert sum(sizes.values()) < 6_800_000, "and the appendices, with a plot for each table"
