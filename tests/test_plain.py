"""The plain notebooks: nothing of MyST is left, each reference leads to a place, code and outputs are the chapter's."""

import re

import nbformat
import pytest
from browser import ROOT

import plain

CHAPTERS = plain.chapters()
LABELS = {"thm-a": "Theorem 3.1", "ex-a": "Exercise 3.1", "eq-a": "(3.1)"}


@pytest.mark.parametrize(
    ("myst", "expected"),
    [
        ("By {prf:ref}`thm-a` and {eq}`eq-a`.", "By [Theorem 3.1](#thm-a) and [(3.1)](#eq-a)."),
        (
            ":::{prf:theorem} Title\n:label: thm-a\n:enumerator: 3.1\nWords.\n:::",
            '<a id="thm-a"></a>\n\n**Theorem 3.1 (Title).** Words.',
        ),
        (
            ":::{prf:theorem}\n:label: thm-a\n:enumerator: 3.1\nSo\n```{math}\n:label: eq-a\n:enumerator: 3.1\na < b\n```\n:::",
            '<a id="thm-a"></a>\n\n**Theorem 3.1.** So\n<a id="eq-a"></a>\n\n$$\na < b \\tag{3.1}\n$$',
        ),
        (":::{admonition} Hint 1\n:class: dropdown tip\nTry.\n:::", "<details><summary>Hint 1</summary>\n\nTry.\n\n</details>"),
        (":::{admonition} Passport\n:class: note\nOne.\n\nTwo.\n:::", "> **Passport**\n>\n> One.\n>\n> Two."),
        (
            ":::{solution} ex-a\n:class: dropdown\nSo.\n\n```python\nx = {1}\n```\n:::",
            "<details><summary>Solution of Exercise 3.1</summary>\n\nSo.\n\n```python\nx = {1}\n```\n\n</details>",
        ),
        ("(fig-a)=\n**Figure 3.1. Words.** More.", '<a id="fig-a"></a>\n\n**Figure 3.1. Words.** More.'),
        ("```python\n(fig)=\n{eq}`eq-a`\n```", "```python\n(fig)=\n{eq}`eq-a`\n```"),
    ],
)
def test_each_form_becomes_plain(myst, expected):
    assert plain.plain(myst, LABELS) == expected


def test_what_cannot_be_made_plain_is_named():
    with pytest.raises(KeyError, match="thm-none"):
        plain.plain("{prf:ref}`thm-none`", LABELS)
    with pytest.raises(ValueError, match="never closed"):
        plain.plain(":::{admonition} Open\nWords.", LABELS)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_plain_chapter_has_no_directive_no_role_and_every_reference_leads_somewhere(path):
    source = nbformat.read(path, 4)
    made = plain.plainly(source, path.stem)
    nbformat.validate(made)
    text = "\n\n".join(c.source for c in made.cells if c.cell_type == "markdown")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    assert not re.search(r":::|\{[a-z:-]+\}`|```\{|^\([\w-]+\)=|^:[a-z]+:", prose, re.M)
    anchors = re.findall(r'<a id="([\w-]+)"></a>', text)
    assert len(anchors) == len(set(anchors)) > 5
    for target in re.findall(r"\]\(#([\w-]+)\)", text):
        assert target in anchors, target
    for target in re.findall(r"\]\((?!https?:|#)([^)#]*)", prose):
        here = ROOT / "build" / "plain"
        assert (ROOT / "notebooks" / target).exists() or (here / target).resolve().exists(), target
    for kind in ("theorem", "exercise"):
        written = sum(len(re.findall(rf":::\{{(?:prf:)?{kind}\}}", c.source)) for c in source.cells)
        assert len(re.findall(rf"^\*\*{kind.capitalize()} \w+\.\d+", text, re.M)) == written
    code = [(c.source, c.get("outputs")) for c in source.cells if c.cell_type == "code"]
    assert [(c.source, c.get("outputs")) for c in made.cells if c.cell_type == "code"] == code
    assert [c.source for c in source.cells] == [c.source for c in nbformat.read(path, 4).cells], "the chapter itself stays"
