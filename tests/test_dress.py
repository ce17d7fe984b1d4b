"""Numbers, captions and folds: the rules on small text, the chapters by the rules, the built book by the chapters."""

import ast
import re

import jupytext
import nbformat
import pytest
from browser import HTML
from bs4 import BeautifulSoup

import chores
import dress

TWINS = [md for md in chores.twins([]) if md.stem[0].isdigit()]
NOTEBOOKS = pytest.mark.parametrize("md", TWINS, ids=lambda md: md.stem)
VIEW, STATE = chores.VIEW, chores.STATE
TEXT = """\
:::{prf:theorem} One
:label: thm-one
Words.

$$
a < b
$$ (eq-one)
:::

:::{prf:proof}
By {eq}`eq-one`.
:::

(fig-b)=
**Figure. A box.** More, as in [Figure](#fig-a).

(fig-a)=
**Figure 9.9. Another.** More.
"""


def numbered(text, chapter="3"):
    numbers = dress.Numbers(chapter)
    return numbers.referred(numbers.numbered(text)), numbers.labels


def test_what_is_numbered_counts_by_chapter_and_kind():
    text, labels = numbered(TEXT)
    assert labels == {"thm-one": "Theorem 3.1", "eq-one": "(3.1)", "fig-b": "Figure 3.1", "fig-a": "Figure 3.2"}
    assert ":label: thm-one\n:enumerator: 3.1\nWords." in text
    assert "```{math}\n:label: eq-one\n:enumerator: 3.1\na < b\n```" in text
    assert "**Figure 3.1. A box.** More, as in [Figure 3.2](#fig-a)." in text
    assert text.count("enumerator") == 2, "a proof has no number"
    assert numbered(text) == (text, labels), "a second time changes nothing"
    moved = text.replace("3.1", "7.7")
    assert numbered(moved)[0] == text


@pytest.mark.parametrize(("stem", "number"), [("00_start_here", "0"), ("02a_laboratory", "2A"), ("11_eleven", "11")])
def test_a_chapter_has_the_number_of_its_notebook(stem, number):
    assert dress.chapter_number(stem) == number


def test_what_cannot_be_numbered_is_named():
    with pytest.raises(ValueError, match="fig-c"):
        numbered("[Figure](#fig-c)")
    with pytest.raises(ValueError, match="call it 06_notes"):
        dress.chapter_number("notes")


@pytest.mark.parametrize(
    ("source", "folds"),
    [
        ("import torch\nfrom torch import nn", True),
        ("def step(x):\n    return x.sign()", False),
        ("y = net(x)\nprint(y.norm())", False),
        ("assert y.norm() < 1", True),
        ("live.LinearShift()", True),
        ("print(results.get('a.b').show())", True),
        ("picture = Figure()\npicture.subplots()", True),
        ("def answer(x):\n    raise NotImplementedError\n\n\nresults.check('a', answer)", False),
        ("\n".join(f"y{i} = {i}" for i in range(26)), True),
        ("\n".join(f"y{i} = {i}" for i in range(25)), False),
    ],
)
def test_what_is_folded(source, folds):
    assert dress.folded(source, {"live", "results"}) is folds


def shown(cell, states):
    """What the outputs of a cell show: "Figure", "Table", or nothing that needs a name."""
    kinds = set()
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        state = states.get(data.get(VIEW, {}).get("model_id"), {}).get("state", {})
        if waiting := state.get("inside"):  # behind a question
            state = states[waiting.removeprefix("IPY_MODEL_")]["state"]
        own = state.get("_anywidget_id", "labbook.live.")
        if (VIEW in data or "image/png" in data) and own.startswith("labbook.live."):
            kinds.add("Figure")
        html = data.get("text/html", "")
        if "<table" in html and "<details" not in html:
            kinds.add("Table")
    return kinds


@NOTEBOOKS
def test_every_figure_has_a_caption_under_it_and_every_table_a_title_over_it(md):
    notebook = nbformat.read(md.with_suffix(".ipynb"), 4)
    states = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    seen = 0
    for before, cell, after in zip(notebook.cells, notebook.cells[1:], [*notebook.cells[2:], {}], strict=False):
        for kind in shown(cell, states):
            place = after.get("source", "") if kind == "Figure" else before.source.rpartition("\n\n")[2]
            found = re.match(r"(\([\w-]+\)=\n)?\*\*(\w+) [\dA-Z]+\.\d+\. [A-Z0-9].*[.?]\*\* ", place)
            assert found, f"{kind} without its words: {cell.source[-60:]!r}"
            assert found[2] == kind
            seen += 1
    assert seen == sum(len(re.findall(r"^\*\*(?:Figure|Table) ", c.source, re.M)) for c in notebook.cells) > 0


@NOTEBOOKS
def test_references_lead_to_captions(md):
    text = md.read_text()
    labels = dress.Numbers(dress.chapter_number(md.stem))
    labels.referred(labels.numbered(text))
    for label in re.findall(r"\]\(#((?:fig|tab)-[\w-]+)\)", text):
        assert label in labels.labels, label


@NOTEBOOKS
def test_open_code_is_short_and_no_open_cell_only_asserts(md):
    cells = [c for c in jupytext.read(md).cells if c.cell_type == "code" and dress.FOLD not in c.metadata.get("tags", [])]
    lengths = sorted(len(c.source.splitlines()) for c in cells)
    assert lengths[-1] <= dress.LONGEST
    assert lengths[len(lengths) // 2] < 12
    for cell in cells:
        assert not all(isinstance(node, ast.Assert) for node in ast.parse(cell.source).body)
        assert not re.search(r'print\("[^"{]*(?:agree|the same|is gone|to the bit)[^"{]*"\)', cell.source), cell.source


@NOTEBOOKS
def test_the_first_figure_stands_near_the_top(md):
    """Within two screens: before it stand few words, and no open code."""
    cells = nbformat.read(md.with_suffix(".ipynb"), 4).cells
    states = {}
    first = next(i for i, cell in enumerate(cells) if "Figure" in shown(cell, states))
    assert all(c.cell_type == "markdown" or dress.FOLD in c.metadata.get("tags", []) for c in cells[: first + 1])
    assert sum(len(c.source.split()) for c in cells[:first] if c.cell_type == "markdown") < 400


@NOTEBOOKS
def test_few_numbers_stand_in_open_tables(md):
    count = 0
    for cell in nbformat.read(md.with_suffix(".ipynb"), 4).cells:
        for output in cell.get("outputs", []):
            page = BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")
            for folded in page.select("details"):
                folded.decompose()
            count += sum(len(re.findall(r"\d[\d.,]*", td.get_text())) for td in page.select("td"))
    assert count < 150, md.stem


@NOTEBOOKS
def test_the_book_shows_the_numbers_of_the_source(md):
    page = BeautifulSoup((HTML / "notebooks" / f"{md.stem}.html").read_text(), "html.parser")
    number = dress.chapter_number(md.stem)
    numbers = dress.Numbers(number)
    numbers.numbered(md.read_text())
    for label, words in numbers.labels.items():
        at = page.find(id=label) or page.find(id=f"equation-{label}")
        assert at is not None, label
        assert words in " ".join(at.get_text(" ", strip=True).split()), (label, words)
    captions = [p.get_text() for p in page.select("p.advlab-caption")]
    assert captions
    assert all(re.match(rf"(Figure|Table) {number}\.\d+\. ", words) for words in captions)
    assert len(page.select(".advlab-caption")) == md.read_text().count("\n**Figure ") + md.read_text().count("\n**Table ")
    side = [a.get_text(strip=True) for a in page.select(".bd-sidebar-primary a.reference.internal")]
    assert any(words.startswith(f"{number}. ") for words in side)
