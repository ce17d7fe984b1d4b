"""The arrows of the house, read from the source: the library knows nothing of the book, and no paper's package another's."""

import ast
import graphlib
import re

import pytest
from browser import ROOT

PAPERS = ("spheres", "squeezing", "stability", "masking")


def modules(root):
    """Module -> file, for a package's folder; the package itself is "", and a package within it has no ``__init__``."""
    paths = {path: path.relative_to(root).with_suffix("").parts for path in root.rglob("*.py")}
    return {".".join(part for part in parts if part != "__init__"): path for path, parts in paths.items()}


def imports(root):
    """Of a package's folder: (module, module that it imports) -> whether that happens when the module is loaded."""
    files, found = modules(root), {}

    def visit(node, module, loaded):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ImportFrom) and (child.level or (child.module or "").partition(".")[0] == root.name):
                inside = child.module.partition(".")[2] if not child.level else child.module or ""
                above = module.split(".")[: len(module.split(".")) - child.level + (files[module].name == "__init__.py")]
                base = [*(above if child.level else []), inside]
                for alias in child.names:
                    target = ".".join(part for part in [*base, alias.name] if part)
                    target = target if target in files else ".".join(part for part in base if part)
                    found[module, target] = found.get((module, target), False) or loaded
            if isinstance(child, ast.Import):
                for alias in child.names:
                    assert alias.name.partition(".")[0] != root.name, f"{module}: write  from . import ..."
            typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            inner = typing or isinstance(child, ast.FunctionDef)
            visit(child, module, loaded and not inner)

    for module, path in files.items():
        visit(ast.parse(path.read_text()), module, True)
    return {pair: loaded for pair, loaded in found.items() if pair[0] != pair[1]}


LIBRARY, BOOK = imports(ROOT / "advlab"), imports(ROOT / "book" / "labbook")


def others(root):
    """The packages, other than its own, that a package's folder imports anywhere."""
    found = set()
    for path in modules(root).values():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.partition(".")[0] for name in names}
    return found - {root.name}


def test_nothing_in_the_library_imports_the_book_or_draws():
    assert others(ROOT / "advlab") & {"labbook", "matplotlib", "ipywidgets", "anywidget", "IPython"} == set()
    assert "advlab" in others(ROOT / "book" / "labbook"), "the other way there are many"


def strings(root):
    """Module -> the strings in its code, docstrings left out: with others, the paths that it could open."""
    found = {}
    for name, path in modules(root).items():
        tree = ast.parse(path.read_text())
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        constants = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        found[name] = {node.value for node in constants if id(node) not in said}
    return found


def test_nothing_in_the_library_opens_a_file_of_the_book():
    """In the wheel there is none: no manifest, no page, no notebook; and nothing outside the package is asked for by place."""

    def opened(root):
        parts = {module: {part for text in texts for part in text.split("/")} for module, texts in strings(root).items()}
        return {module for module, names in parts.items() if names & {"book", "notebooks", "tests", "bench", "results"}}

    assert opened(ROOT / "advlab") <= {""}, "the package names its former modules, to say where they are"
    assert {"entries", "vouch"} <= opened(ROOT / "book" / "labbook"), "the book does, and it is seen"
    upwards = [
        path.name for path in (ROOT / "advlab").rglob("*.py") if re.search(r"\.parents\b|\.parent\.parent", path.read_text())
    ]
    assert not upwards


def test_no_package_of_a_paper_imports_that_of_another():
    crossing = {(a, b) for a, b in LIBRARY if {a.partition(".")[0], b.partition(".")[0]} <= set(PAPERS)}
    assert {(a, b) for a, b in crossing if a.partition(".")[0] != b.partition(".")[0]} == set()


@pytest.mark.parametrize("arrows", [LIBRARY, BOOK], ids=["advlab", "labbook"])
def test_no_module_waits_for_itself(arrows):
    """Loading a module loads the packages around it first, unless they are loading it."""
    graph = {}
    for (a, b), loaded in arrows.items():
        if loaded:
            around = {".".join(b.split(".")[:k]) for k in range(1, b.count(".") + 1)}
            graph.setdefault(a, set()).update({b, *(p for p in around if not f"{a}.".startswith(f"{p}."))} - {""})
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("text", "arrows"),
    [
        ("from . import low", {("high", "low"): True}),
        ("from .low import f", {("high", "low"): True}),
        ("from house.deep.inner import f", {("high", "deep.inner"): True}),
        ("from .deep import inner, g", {("high", "deep.inner"): True, ("high", "deep"): True}),
        ("def f():\n    from .deep import g", {("high", "deep"): False}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import low", {("high", "low"): False}),
        ("def f():\n    from . import low\nfrom .low import g", {("high", "low"): True}),
        ("import low\nfrom low import f\nfrom os import path", {}),
    ],
)
def test_arrows_are_read_from_every_form_of_import(tmp_path, text, arrows):
    house = tmp_path / "house"
    (house / "deep").mkdir(parents=True)
    for name in ("__init__", "low", "deep/__init__"):
        (house / f"{name}.py").touch()
    (house / "deep" / "inner.py").write_text("from ..low import f\nfrom . import g\n")
    (house / "high.py").write_text(text)
    inner = {("deep.inner", "low"): True, ("deep.inner", "deep"): True}
    assert imports(house) == arrows | inner
