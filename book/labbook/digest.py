"""Code versions: a digest of every definition that a function reaches.

Comments, docstrings, layout and the module in which a definition stands do not count.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import io
import tokenize
from collections.abc import Callable
from importlib import util
from pathlib import Path

#: Where digests stop, so that a new chapter or network leaves the entries of the others current: recipes and their record,
#: in whose place :func:`labbook.results.claim_version` takes what builds a claim's networks; and what registers claims.
BOUNDARIES = {"advlab.recipes:RECIPES", "advlab.recipes.common:Recipe", "labbook.results:claim"}

#: The packages whose definitions are followed.
PACKAGES = ("advlab", "labbook")


def code_version(function: Callable) -> str:
    """A digest of ``function`` and of every definition of the library and the book that it reaches by name.

    Guarantee: changing the code of any one reached definition changes the digest. Names reached only at run time (through
    getattr or a registry) and past :data:`BOUNDARIES` are not followed; the module that a definition stands in, comments,
    docstrings and white space do not count.

    >>> code_version(code_version) == code_version(reached)
    False
    """
    return hashlib.sha256("\n".join(sorted(reached(function).values())).encode()).hexdigest()[:16]


def build_version(name: str, build: Callable) -> str:
    arguments = ""
    if isinstance(build, functools.partial):
        build, arguments = build.func, f"{build.args} {sorted(build.keywords.items())}"
    if not inspect.isfunction(build) or "<" in build.__qualname__ + arguments:  # <lambda>, <locals>, <object at 0x...>
        raise ValueError(
            f"the build of the network {name!r} has no code version: it must be a function of a module, "
            "or a functools.partial of one with plain values, no lambda and no class"
        )
    return code_version(build) + arguments


def reached(function: Callable) -> dict[str, str]:
    """The definitions of :func:`code_version`: "module:name" -> "name=text".

    >>> list(reached(_without_comments))
    ['labbook.digest:_without_comments']
    """
    packages = frozenset({*PACKAGES, function.__module__.partition(".")[0]})
    pieces: dict[str, str] = {}
    todo = [(function.__module__, function.__qualname__.partition(".")[0])]
    while todo:
        module, name = todo.pop()
        qualified = f"{module}:{name}"
        if qualified in pieces or qualified in BOUNDARIES:
            continue
        definitions, imports = _module(module, packages)
        if name not in definitions:
            if name in imports and imports[name][1]:
                todo.append(imports[name])
            continue
        text, names = definitions[name]
        pieces[qualified] = f"{name}={text}"
        for first, second in names:
            if first in definitions:
                todo.append((module, first))
            elif first in imports:
                source, own = imports[first]
                if own:
                    todo.append((source, own))
                elif second:
                    todo.append((source, second))
    return pieces


Reached = set[tuple[str, str]]


@functools.cache
def _module(module: str, packages: frozenset[str]) -> tuple[dict[str, tuple[str, Reached]], dict[str, tuple[str, str]]]:
    """Of a module: top-level name -> (bare text, names reached), and imported name -> (module, name or "")."""
    spec = util.find_spec(module)
    if spec is None or spec.origin is None:
        return {}, {}
    source = Path(spec.origin).read_text()
    tree = ast.parse(source)
    bare = _without_comments(source).splitlines()
    definitions: dict[str, tuple[str, Reached]] = {}
    imports: dict[str, tuple[str, str]] = {}
    is_package = spec.origin.endswith("__init__.py")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            if base.partition(".")[0] in packages:
                for alias in node.names:
                    name = alias.asname or alias.name
                    inner = f"{base}.{alias.name}"
                    imports[name] = (inner, "") if _is_module(inner) else (base, alias.name)
    for node in tree.body:
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        for name in names:
            definitions[name] = (_bare_text(node, bare), _reached(node))
    return definitions, imports


def _is_module(name: str) -> bool:
    try:
        return util.find_spec(name) is not None
    except (ModuleNotFoundError, AttributeError):
        return False


def _reached(node: ast.AST) -> Reached:
    """The names, and the attributes of names, that ``node`` reads; what it only assigns or declares is its own."""
    found: Reached = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
            found.add((inner.value.id, inner.attr))
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            found.add((inner.id, ""))
    return found


def _without_comments(source: str) -> str:
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(lines)


def _bare_text(node: ast.stmt, lines: list[str]) -> str:
    """The text of a definition without decorators, docstrings, comments and white space, the same for every Python."""
    keep = dict(enumerate(lines[node.lineno - 1 : node.end_lineno], start=node.lineno))
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and inspect.cleandoc(ast.get_docstring(inner) or ""):
            doc = inner.body[0]
            for row in range(doc.lineno, (doc.end_lineno or doc.lineno) + 1):
                keep.pop(row, None)
    return "".join("".join(keep.values()).split())
