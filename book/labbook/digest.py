"""Code versions: a digest of what every definition that a function reaches computes.

What does not count: comments, docstrings, layout, annotations, the names of local variables, messages of errors and
warnings, the order and place of imports, decorators that only keep or register, and the module in which a definition stands.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import Any

#: The packages whose definitions are followed.
PACKAGES = ("advlab", "labbook")

#: Where digests stop, so that a new chapter or network leaves the entries of the others current: recipes and their record,
#: in whose place :func:`labbook.results.claim_version` takes what builds a claim's networks; what registers claims; and the
#: words of the honesty flags.
BOUNDARIES = {
    "advlab.recipes:RECIPES",
    "advlab.recipes.common:Recipe",
    "labbook.results:claim",
    "advlab.evaluate.robustness:FLAGS",
}

#: Decorators that keep what a function returned, or register it: they change no value.
IDLE_DECORATORS = {"cache", "lru_cache", "claim", "exercise"}


def code_version(function: Callable) -> str:
    """A digest of ``function`` and of every definition of its package, the library and the book that it reaches by name.

    Guarantee: changing what any one reached definition computes changes the digest. Names reached only at run time (through
    getattr or a registry) and past :data:`BOUNDARIES` are not followed. What does not count is said at the module's head.

    >>> code_version(code_version) == code_version(reached)
    False
    """
    return hashlib.sha256("\n".join(sorted(reached(function).values())).encode()).hexdigest()[:16]


def build_version(name: str, build: Callable) -> str:
    """The code version of what builds the network ``name``, with its arguments.

    Raises ValueError where ``build`` is not a function of a module or a functools.partial of one with plain values.
    """
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
    """The definitions of :func:`code_version`: "module:name" -> "name=what it computes".

    Names of other packages are there too, as ("module:name" of the place where it is used -> "name=package.name").

    >>> list(reached(_is_module))
    ['labbook.digest:_is_module', 'labbook.digest:util']
    """
    packages = frozenset({*PACKAGES, function.__module__.partition(".")[0]})
    pieces: dict[str, str] = {}
    todo = [(function.__module__, function.__qualname__.partition(".")[0])]
    while todo:
        module, name = todo.pop()
        qualified = f"{module}:{name}"
        if qualified in pieces or qualified in BOUNDARIES:
            continue
        definitions, imports, foreign = _module(module, packages)
        if name in definitions:
            text, names = definitions[name]
            pieces[qualified] = f"{name}={text}"
            for first, second in names:
                source, own = imports.get(first, ("", ""))
                if first in definitions or own or first in foreign:
                    todo.append((module, first))
                elif source and second:  # an attribute of a module
                    todo.append((source, second))
        elif imports.get(name, ("", ""))[1]:
            todo.append(imports[name])
        elif name in foreign:
            pieces[qualified] = f"{name}={foreign[name]}"
    return pieces


Names = set[tuple[str, str]]  #: names that a definition reads, with the attribute that is read of each, or ""
Module = tuple[dict[str, tuple[str, Names]], dict[str, tuple[str, str]], dict[str, str]]


@functools.cache
def _module(module: str, packages: frozenset[str]) -> Module:
    """Of a module: name -> (what it computes, what it reads); imported name -> (module, name or ""); foreign name -> path."""
    spec = util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return {}, {}, {}
    tree = ast.parse(_source(Path(spec.origin)))
    imports: dict[str, tuple[str, str]] = {}
    foreign: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: len(module.split(".")) - node.level + spec.origin.endswith("__init__.py")]
            base = ".".join([*(parent if node.level else []), *([node.module] if node.module else [])])
            for alias in node.names:
                name, inner = alias.asname or alias.name, f"{base}.{alias.name}"
                if base.partition(".")[0] in packages:
                    imports[name] = (inner, "") if _is_module(inner) else (base, alias.name)
                else:
                    foreign[name] = inner
        elif isinstance(node, ast.Import):
            foreign |= {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names}
    definitions: dict[str, tuple[str, Names]] = {}
    for node in tree.body:
        if names := _defined(node):
            plain = _Plain()
            made = "".join(_text(plain.visit(node))), plain.read
            definitions |= dict.fromkeys(names, made)
    return definitions, imports, foreign


def _source(path: Path) -> str:
    return path.read_text()


def _is_module(name: str) -> bool:
    try:
        return util.find_spec(name) is not None
    except (ModuleNotFoundError, AttributeError):
        return False


def _defined(node: ast.stmt) -> list[str]:
    """The names that a statement of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


# ---------------------------------------------------------------------------------------------- what is computed

SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class _Plain(ast.NodeTransformer):
    """A definition without what does not count: local names become numbers, in the order in which they are bound.

    ``read`` collects the names that are not local. Parameters of functions keep their names, since callers may use them.
    """

    def __init__(self) -> None:
        self.scopes: list[dict[str, str]] = []
        self.count = 0
        self.read: Names = set()

    def _number(self, names: Iterator[str]) -> dict[str, str]:
        scope: dict[str, str] = {}
        for name in names:
            if name not in scope:
                scope[name] = f"_{self.count}"
                self.count += 1
        return scope

    def _local(self, name: str) -> str | None:
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        own = self._local(node.id)
        if own is None and isinstance(node.ctx, ast.Load):
            self.read.add((node.id, ""))
        return ast.Name(own or node.id)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and self._local(node.value.id) is None:
            self.read.add((node.value.id, node.attr))
        return ast.Attribute(self.visit(node.value), node.attr)

    def _function(self, node: Any) -> ast.AST:
        arguments = node.args
        defaults = [self.visit(d) for d in [*arguments.defaults, *(d for d in arguments.kw_defaults if d)]]
        decorators = [self.visit(d) for d in getattr(node, "decorator_list", ()) if _called(d) not in IDLE_DECORATORS]
        each = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        each += [a for a in (arguments.vararg, arguments.kwarg) if a]
        kinds = [len(arguments.posonlyargs), len(arguments.args), len(arguments.kwonlyargs)]
        kinds += [bool(arguments.vararg), bool(arguments.kwarg), *(d is not None for d in arguments.kw_defaults)]
        body = node.body if isinstance(node.body, list) else [node.body]
        if isinstance(node, ast.Lambda):
            scope = self._number(a.arg for a in each)
        else:
            scope = {a.arg: a.arg for a in each}
            scope |= self._number(name for name in _bound(body) if name not in scope)
        self.scopes.append(scope)
        name = self._local(node.name) or node.name if not isinstance(node, ast.Lambda) and len(self.scopes) > 1 else ""
        inner = [self.visit(statement) for statement in body]
        self.scopes.pop()
        parts = [*map(str, kinds), *(scope[a.arg] for a in each), name]
        return ast.List([ast.Constant(" ".join(parts)), *defaults, *decorators, *(s for s in inner if s is not None)])

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def _comprehension(self, node: Any) -> ast.AST:
        targets = (n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name))
        first = self.visit(node.generators[0].iter)  # outside of the scope
        self.scopes.append(self._number(targets))
        parts = [self.visit(v) for v in ([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])]
        for k, g in enumerate(node.generators):
            parts += [self.visit(g.target), self.visit(g.iter) if k else first, *map(self.visit, g.ifs)]
        self.scopes.pop()
        return ast.List([ast.Constant(type(node).__name__), *parts])

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        decorators = [self.visit(d) for d in node.decorator_list if _called(d) not in IDLE_DECORATORS]
        bases = [self.visit(b) for b in [*node.bases, *node.keywords]]
        self.scopes.append({})
        body: list[Any] = []
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign):  # a field: its name and its place count
                statement = ast.Assign([statement.target], statement.value or ast.Constant("field"))
            made = self.visit(statement)
            if made is not None:
                body += [ast.Constant(getattr(statement, "name", "")), made]
        self.scopes.pop()
        return ast.List([*decorators, *bases, *body])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return self.visit(ast.Assign([node.target], node.value)) if node.value is not None else None

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None  # a docstring
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(self.visit(kind) if kind is not None else None)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return ast.Assert(self.visit(node.test))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if _called(node) == "warn":
            return ast.Call(self.visit(node.func), [], [])
        return self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        name = self._local(node.name) or node.name if node.name else None
        kind = self.visit(node.type) if node.type else None
        return ast.ExceptHandler(kind, name, [v for s in node.body if (v := self.visit(s)) is not None])

    def visit_Import(self, node: ast.AST) -> None:
        return None

    visit_ImportFrom = visit_Import


def _called(node: ast.expr) -> str:
    """The last name of what a decorator or a call names."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _bound(body: list[Any]) -> Iterator[str]:
    """The names that a function's body binds in its own scope, in their order; what it declares global is not."""
    declared: set[str] = set()
    todo = list(reversed(body))
    found: list[str] = []
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Global | ast.Nonlocal):
            declared |= set(node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, SCOPES):
            found += [n.target.id for n in ast.walk(node) if isinstance(n, ast.NamedExpr) and not isinstance(node, ast.Lambda)]
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
                found.append(node.id)
            elif isinstance(node, ast.ExceptHandler) and node.name:
                found.append(node.name)
            todo += reversed(list(ast.iter_child_nodes(node)))
    return (name for name in found if name not in declared)


def _text(node: Any) -> Iterator[str]:
    """A syntax tree as text, the same for every version of Python: kinds of nodes, and fields that are not empty."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name in node._fields:
            value = getattr(node, name, None)
            if value not in (None, []) and name not in ("ctx", "type_comment", "type_params", "kind"):
                yield f" {name}:"
                yield from _text(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _text(item)
            yield ","
        yield "]"
    else:
        yield repr(node)
