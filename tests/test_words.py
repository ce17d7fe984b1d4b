"""The English of the book: its own list of words that it does not use."""

import re
import tomllib

import pytest
from browser import ROOT

pytestmark = pytest.mark.book
WORDS = tomllib.loads((ROOT / "book" / "words.toml").read_text())["word"]
PAGES = sorted([*(ROOT / "notebooks").glob("*.md"), *(ROOT / "book").glob("*.md"), *(ROOT / "book" / "flags").glob("*.md")])

#: What is no prose: front matter, code, formulas, targets of links, roles, HTML, and lists of references with others' titles.
OTHER = re.compile(
    r"\A---\n.*?\n---\n|^```(?!\{glossary).*?^```|\{[\w:-]+\}`[^`]*`|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)]*\)|https?://\S+|<[^>]+>"
    r"|^\*\*References\.\*\*.*?$|^:label:.*?$|^:::\{solution\}.*?$|^\|[ :|-]+\|$|\*Looked on .*?\*",
    re.M | re.S,
)


def hits(text, page, words=WORDS):
    """(pattern, the words around it) of each place in the prose of a page that the list names."""
    prose = OTHER.sub("\0", text)
    found = []
    for word in words:
        if page in word.get("pages", ()):
            continue
        for m in re.finditer(word["pattern"], prose):
            around = prose[max(0, m.start() - 40) : m.end() + 40].replace("\n", " ")
            if not any(phrase in around for phrase in word.get("except", ())):
                found.append((word["pattern"], around))
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_word_of_the_list_is_used(path):
    found = [
        f"...{around}...  better: {word['better']}"
        for pattern, around in hits(path.read_text(), path.stem)
        for word in WORDS
        if word["pattern"] == pattern
    ]
    assert not found, "\n".join(found)


def test_the_search_sees_prose_and_nothing_else():
    bad = "It was read rightly, so that he knows eps - and linf stands anew."
    assert len(hits(bad, "x")) == 8
    for fine in (
        "---\na: anew\n---\nfine",
        "Code `eps` and $linf$ are fine.",
        "```python\neps = rightly\n```\n",
        "{prf:ref}`anew`",
        "[all](anew.md)",
        "**References.** He: [Anew, rightly, l2](x).",
    ):
        assert hits(fine, "x") == []
    assert hits("Which images stand?", "05_all_against_all") == []
    assert hits("A stand-in is fine.", "x") == []


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word["pattern"])
def test_each_word_has_a_better_one_that_is_not_on_the_list_itself(word):
    assert re.compile(word["pattern"])
    assert word["better"]
    assert not re.search(word["pattern"], word["better"])
