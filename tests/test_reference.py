"""The reference: every public name is on a page of the library and has an example, and every example runs."""

import ast
import doctest
import importlib
import inspect
import re

import pytest
from browser import HTML, ROOT

import advlab

PAGES = sorted((ROOT / "book" / "api").glob("*.md"))
MODULES = [page.stem for page in PAGES if page.stem not in ("index", "chapters")]
NEEDS_THE_NETWORK = {"npm_pack"}


def package(module):
    return "advlab" if module in advlab.__all__ else "labbook"


def public(module):
    """Name -> object: what ``__all__`` lists, else the functions and classes that a module defines, or imports ``as`` such."""
    m = importlib.import_module(f"{package(module)}.{module}")
    own = {n: o for n, o in vars(m).items() if inspect.isfunction(o) or inspect.isclass(o)}
    again = set(re.findall(r"^from \.\w+ import (\w+) as \1$", inspect.getsource(m), re.M))
    defined = [n for n, o in own.items() if n in again or (o.__module__ == m.__name__ and n[0] != "_")]
    names = getattr(m, "__all__", None) or defined
    return {name: getattr(m, name) for name in names}


def blocks(page):
    """The Python on a page, a text a block."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)


def examples(text, name="example"):
    return doctest.DocTestParser().get_examples(text, name)


@pytest.mark.parametrize("page", [p for p in PAGES if ">>>" in p.read_text()], ids=lambda p: p.stem)
def test_the_examples_of_a_page_run(page, capsys):
    test = doctest.DocTest(
        [e for block in blocks(page) for e in examples(block)], {}, page.stem, str(page), 0, page.read_text()
    )
    failed, tried = doctest.DocTestRunner().run(test)
    assert tried, "a page with prompts has examples"
    assert not failed, capsys.readouterr().out


def test_python_without_a_prompt_is_python():
    """What needs packages that we do not have is compiled at least."""
    plain = [block for page in PAGES for block in blocks(page) if ">>>" not in block]
    for block in plain:
        ast.parse(block)
    assert len(plain) <= 1, "examples that do not run go stale: write them with prompts"


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_an_example(module):
    on_the_page = "".join(e.source for block in blocks(ROOT / "book" / "api" / f"{module}.md") for e in examples(block))
    without, skipped = [], []
    for name, o in public(module).items():
        if not inspect.isfunction(o) and not inspect.isclass(o):
            continue  # constants and types are described where they stand
        own = examples(inspect.getdoc(o) or "")
        runs = [e for e in own if not e.options.get(doctest.SKIP)]
        if not runs and not re.search(rf"\b{name}\b", on_the_page):
            (skipped if own else without).append(name)
    assert not without
    assert set(skipped) <= NEEDS_THE_NETWORK


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_on_its_page(module):
    page = (HTML / "book" / "api" / f"{module}.html").read_text()
    shown = set(re.findall(rf'id="{package(module)}\.(?:\w+\.)*(\w+)"', page))
    assert not set(public(module)) - shown


def test_every_module_is_in_the_list_of_the_library():
    index = (ROOT / "book" / "api" / "index.md").read_text()
    assert not [name for name in MODULES if f"`{package(name)}.{name}`" not in index]
    assert set(advlab.__all__) <= set(MODULES)


# ---------------------------------------------------------------------------------------------- notation, glossary


def test_code_names_of_the_notation_exist():
    """Each is an argument of something public, or public itself."""
    known = set()
    for module in MODULES:
        for name, o in public(module).items():
            known.add(name)
            if inspect.isfunction(o) or (inspect.isclass(o) and not issubclass(o, Exception)):
                known |= set(inspect.signature(o).parameters)
    known |= {"x_adv"}  # what attacks return, and distances take
    rows = re.findall(r"^\| (.+) \| (.+) \| ?(.*?) ?\|$", (ROOT / "book" / "notation.md").read_text(), re.M)
    rows = [row for row in rows if row[0] not in ("symbol", "---")]
    named = [name for _, _, code in rows for name in re.findall(r"`(\w+)`", code)]
    assert len(rows) > 30
    assert len(named) > 30
    assert not [name for name in named if name not in known]


TERMS = re.findall(r"^(\S.*)\n  (.+)$", (ROOT / "book" / "glossary.md").read_text().partition("```{glossary}")[2], re.M)


def test_terms_are_sorted_and_come_once():
    names = [term for term, _ in TERMS]
    assert len(names) > 45
    assert names == sorted(set(names), key=str.lower)


@pytest.mark.parametrize(("term", "says"), TERMS, ids=[term for term, _ in TERMS])
def test_a_term_is_explained_shortly_and_linked_to_a_place_that_uses_it(term, says):
    (target,) = re.findall(r"\]\(([^)]+)\)", says)
    file = target.partition("#")[0]  # the section is for the test of links
    assert 1 <= len(re.findall(r"[.](?: |$)", says)) - 1 <= 3, "one to three sentences, and the link"
    assert not re.search(r"\d\.\d|\d ?%", says)
    page = (HTML / "book" / file).resolve().with_suffix(".html").read_text()
    text = re.sub(r"<[^>]+>", " ", page.partition('<article class="bd-article">')[2].partition("</article>")[0]).lower()
    for word in re.findall(r"[a-z]{3,}", re.sub(r"\(.*?\)", "", term).lower()):
        assert word[:6] in text, f"{file} does not use {word}"
