"""The book on paper: what LaTeX is given. Whether xelatex likes it, `make pdf` says; it is not part of CI."""

import os
import re
import subprocess

import book_slice
import nbformat
import pytest
from browser import ROOT

from labbook import results

CHAPTERS = ("00_start_here", "03_relu_stability")


@pytest.fixture(scope="module")
def tex(tmp_path_factory):
    pages = ["book/index", *(f"notebooks/{name}" for name in CHAPTERS), "book/references"]
    where, warnings = book_slice.build(tmp_path_factory.mktemp("latex"), pages, "latex")
    assert warnings == []
    return (where / "adversarial-lab.tex").read_text()


def outputs(kind):
    for name in CHAPTERS:
        for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells:
            for output in cell.get("outputs", []):
                if kind in output.get("data", {}):
                    yield output.data


def plain(tex):
    """The words of LaTeX's text, as far as a table's cells need."""
    return re.sub(r"\\[a-zA-Z]+\s*|[{}\\]|\s|~", "", tex)


def test_chapters_figures_and_numbers_are_there(tex):
    assert len(re.findall(r"\\chapter\{", tex)) == len(CHAPTERS) + 1, "and the references"
    pictures = list(outputs("image/png"))
    assert any("application/vnd.jupyter.widget-view+json" in d for d in pictures)
    shown = re.findall(r"\\sphinxincludegraphics\{\{([0-9a-f]{64})\}\.png\}", tex)
    assert len(shown) == len(pictures), "a live figure appears as its still"
    for id in ("start_here.clean", "start_here.noise", "start_here.autoattack"):
        assert plain(results.get(id).show().replace("\u00a0", "~")) in plain(tex[: tex.index(r"\chapter{")])


def test_html_tables_are_tables_of_the_document(tex):
    """Each cell of a notebook's tables is in the text, between & or at a row's end; none is left as plain text."""
    text = plain(tex)
    tables = [d["text/html"] for d in outputs("text/html") if "<table" in d["text/html"]]
    assert len(tables) > 3
    assert tex.count(r"\begin{longtable}") >= len(tables)
    for html in tables:
        for bold in re.findall(r"<td><b>(.*?)</b>", html):
            assert plain(bold.replace("%", "").replace("\u00a0", "")) in text.replace("%", ""), bold
    assert "<table" not in tex
    assert "95 % interval  n" not in tex


def test_solutions_are_printed(tex):
    for name in CHAPTERS:
        for title in re.findall(r"^:{3,4}\{exercise\} (.*)$", (ROOT / "notebooks" / f"{name}.md").read_text(), flags=re.M):
            assert tex.count(f"({title})") >= 2, "the exercise and its solution"


def test_make_pdf_says_what_is_missing(tmp_path):
    """With no xelatex on the path, the target stops at once and names the packages."""
    for name in ("sed", "date", "id", "mkdir", "bash", "env", "python3"):
        (tmp_path / name).symlink_to(subprocess.run(["which", name], capture_output=True, text=True).stdout.strip())
    make = subprocess.run(["which", "make"], capture_output=True, text=True).stdout.strip()
    done = subprocess.run(
        [make, "-o", ".venv/ok-cpu", "pdf"], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PATH": str(tmp_path)}
    )
    assert done.returncode != 0
    assert "apt-get install" in done.stderr
    assert "texlive-xetex" in done.stderr
