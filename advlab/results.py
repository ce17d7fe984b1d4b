"""The manifest: the paper's number beside our number, with all that is needed to believe or repeat it.

A *claim* is a function that measures something; :func:`claim` registers it with what the paper says. Running it
(``python -m advlab reproduce``) writes an entry of ``book/results/CHAPTER.json``: claim id, paper value and where it
stands, our value, n, interval, tier, command, code version, inputs, date, seconds, honesty flags, a series where the
evidence is a curve, and a note on why they differ. Tables and numbers in the book come from those entries alone.

The code version of an entry is a digest of every definition of advlab that its claim reaches, and of what builds its
networks; comments, docstrings, layout and the module in which a definition stands do not count. An entry whose digest no
longer matches is *stale*, and a test fails until it is measured again.
"""

from __future__ import annotations

import ast
import datetime
import functools
import hashlib
import html
import inspect
import io
import json
import math
import os
import platform
import re
import time
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module, util
from pathlib import Path
from typing import Any

TIERS = ("fast", "laptop", "gpu")


@dataclass(frozen=True)
class Measurement:
    """What a claim's function returns: our value, the sample size, and an interval if there is one.

    ``flags`` are the ids of the honesty flags that were raised (:data:`advlab.evaluate.FLAGS`). ``series`` is for a
    claim whose evidence is a curve or a scatter: columns of one length, by name.

    >>> Measurement(0.75, n=4, interval=(0.19, 0.99), series={"eps": [0.1, 0.2], "accuracy": [0.75, 0.5]}).series["eps"]
    [0.1, 0.2]
    """

    value: float
    n: int | None = None
    interval: tuple[float, float] | None = None
    flags: tuple[str, ...] = ()
    series: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One line of the manifest. ``paper`` is None where no paper gives a number.

    ``unit`` is a unit's name, or "%" for a share in [0, 1], or "log10" for the log10 of a probability or a rate, shown
    as a power of ten; its -inf says that the rate is 0, which only a proof can give.

    >>> entry = get("start_here.clean")
    >>> entry.unit, entry.paper, entry.show("n")
    ('%', 0.9943, '10,000')
    """

    id: str
    title: str
    value: float
    n: int | None
    interval: tuple[float, float] | None
    paper: float | None
    where: str | None
    unit: str
    digits: int
    note: str
    tier: str
    command: str
    code: str
    inputs: dict[str, str]
    version: str
    date: str
    cpu_seconds: float
    flags: tuple[str, ...] = ()
    series: dict[str, list[float]] = field(default_factory=dict, repr=False)
    machine: dict[str, str | int] = field(default_factory=dict)  #: :func:`machine`; nothing in entries from before it

    def show(self, what: str = "value") -> str:
        """The number for a reader: ``what`` is "value", "interval", "paper", "n" or "full".

        Raises ValueError for another ``what``.
        """
        if what == "value":
            return _number(self.value, self.unit, self.digits)
        if what == "interval":
            if self.interval is None or self.interval == (-math.inf, math.inf):  # nothing is known of one value
                return "–"
            low, high = (_number(v, self.unit, self.digits, bare=True) for v in self.interval)
            return f"{low} to {high}"
        if what == "paper":
            return "–" if self.paper is None else _number(self.paper, self.unit, self.digits)
        if what == "n":
            return "–" if self.n is None else f"{self.n:,}"
        if what == "full":
            details = [f"n = {self.n:,}"] if self.n is not None else []
            details += [f"95 % interval {interval}"] if (interval := self.show("interval")) != "–" else []
            return self.show() + (f" ({', '.join(details)})" if details else "")
        raise ValueError(f"{what!r} is not a part of an entry; there are value, interval, paper, n, full")


def _number(value: float, unit: str, digits: int, bare: bool = False) -> str:
    if unit == "%":
        return f"{100 * value:.{digits}f}" + ("" if bare else "\u00a0%")
    if unit == "log10":
        zero = "0" if bare else "0 (proved)"
        return zero if value == -math.inf else f"10^{value:.{digits}f}".replace("-", "−")
    return f"{value:.{digits}f}" + (f"\u00a0{unit}" if unit and not bare else "")


# ---------------------------------------------------------------------------------------------- claims


@dataclass(frozen=True)
class Claim:
    """A registered measurement: ``measure(n=None)`` runs it, on a slice of n examples where n is given.

    >>> c = claims("start_here")[0]
    >>> c.id, c.chapter, c.tier
    ('start_here.clean', 'start_here', 'fast')
    """

    id: str
    title: str
    measure: Callable[..., Measurement]
    paper: float | None
    where: str | None
    unit: str
    digits: int
    note: str
    tier: str
    networks: tuple[str, ...]
    images: tuple[str, ...] = ()

    @property
    def chapter(self) -> str:
        return self.id.partition(".")[0]


CLAIMS: dict[str, Claim] = {}

#: Chapter -> modules whose import registers its claims, in the order of its tables.
CHAPTERS: dict[str, tuple[str, ...]] = {
    "start_here": ("advlab.start_here",),
    "adversarial_spheres": (
        "advlab.spheres.geometry_claims",
        "advlab.spheres.quadratic_claims",
        "advlab.spheres.training_claims",
        "advlab.spheres.attack_claims",
        "advlab.spheres.relu_claims",
        "advlab.spheres.image_claims",
    ),
    "feature_squeezing": (
        "advlab.squeezing.claims",
        "advlab.squeezing.adaptive_claims",
        "advlab.squeezing.filter_claims",
        "advlab.squeezing.inside_claims",
    ),
    "relu_stability": (
        "advlab.stability.claims",
        "advlab.stability.inside_claims",
        "advlab.stability.sweep_claims",
    ),
    "random_mask": (
        "advlab.masking.claims",
        "advlab.together.bridge_claims",
        "advlab.masking.defence_claims",
        "advlab.masking.meaning_claims",
        "advlab.masking.symmetry_claims",
    ),
}


def claim(
    id: str,
    title: str,
    *,
    paper: float | None = None,
    where: str | None = None,
    unit: str = "%",
    digits: int = 1,
    note: str = "",
    tier: str = "fast",
    networks: Iterable[str] = (),
    images: Iterable[str] = (),
) -> Callable[[Callable[..., Measurement]], Callable[..., Measurement]]:
    """Register a function ``measure(n=None) -> Measurement`` as the claim ``id``, "chapter.name".

    ``networks`` are the zoo's networks it uses, and ``images`` the data sets whose shipped adversarial images it uses; their
    SHA-256 become its inputs. Raises ValueError for an id that is
    taken or has no known chapter, an unknown tier, and a paper value without a place.

    >>> _ = claims("start_here")
    >>> claim("start_here.clean", "Another of that name")(lambda n=None: Measurement(1.0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: claim 'start_here.clean': the id is taken, ...
    """

    def register(measure: Callable[..., Measurement]) -> Callable[..., Measurement]:
        new = Claim(id, title, measure, paper, where, unit, digits, note, tier, tuple(networks), tuple(images))
        if id in CLAIMS or new.chapter not in CHAPTERS:
            raise ValueError(f"claim {id!r}: the id is taken, or its chapter is not one of {', '.join(CHAPTERS)}")
        if tier not in TIERS or (paper is None) != (where is None):
            raise ValueError(f"claim {id!r}: the tier must be one of {TIERS}, and paper and where go together")
        CLAIMS[id] = new
        return measure

    return register


def claims(chapter: str | None = None) -> list[Claim]:
    """The claims of ``chapter``, or of all chapters. Raises ValueError for an unknown chapter.

    >>> sorted({c.tier for c in claims("start_here")})
    ['fast', 'laptop']
    """
    if chapter is not None and chapter not in CHAPTERS:
        raise ValueError(f"there is no chapter {chapter!r} with claims; there are: {', '.join(CHAPTERS)}")
    order: dict[str, int] = {}  # whichever module was imported first
    for name in CHAPTERS if chapter is None else [chapter]:
        for module in CHAPTERS[name]:
            order[module] = len(order)
            import_module(module)
    found = [c for c in CLAIMS.values() if chapter in (None, c.chapter)]
    return sorted(found, key=lambda c: order.get(c.measure.__module__, len(order)))


def machine(executor: str = "one process") -> dict[str, str | int]:
    """Where a number is made, as far as it may matter for it: no names of hosts or users.

    >>> machine("2 processes")["executor"]
    '2 processes'
    """
    import torch

    return {
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": str(torch.get_default_device()),
        "executor": executor,
    }


def measure(c: Claim, n: int | None = None, *, executor: str = "one process") -> Entry:
    """Run a claim and return its entry; ``n`` shortens it for a trial, and ``executor`` says what it runs in.

    Raises ValueError where the columns of its series differ in length.

    >>> measure(claims("start_here")[0], n=100).show("n")  # a slice
    '100'
    """
    from . import __version__

    start = time.process_time()
    found = c.measure() if n is None else c.measure(n=n)
    return Entry(
        id=c.id,
        title=c.title,
        value=found.value,
        n=found.n,
        interval=found.interval,
        paper=c.paper,
        where=c.where,
        unit=c.unit,
        digits=c.digits,
        note=c.note,
        tier=c.tier,
        command=f"python -m advlab reproduce {c.chapter} --claim {c.id}",
        code=claim_version(c),
        inputs=inputs(c),
        version=__version__,
        date=datetime.date.today().isoformat(),
        cpu_seconds=round(time.process_time() - start, 1),
        flags=found.flags,
        series=_columns(found.series, c.id),
        machine=machine(executor),
    )


def _columns(series: dict[str, list[float]], id: str) -> dict[str, list[float]]:
    """A claim's series with the 10 significant digits that the manifest keeps."""
    lengths = {name: len(column) for name, column in series.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"claim {id!r}: the columns of its series must have one length; they have {lengths}")
    return {name: [float(f"{float(v):.10g}") for v in column] for name, column in series.items()}


def inputs(c: Claim) -> dict[str, str]:
    """The SHA-256 of each network, and of each set of adversarial images, that the claim uses.

    >>> list(inputs(claims("start_here")[0]))
    ['mnist_cnn7']
    """
    from . import zoo
    from .squeezing import examples

    networks = {name: zoo.card(name)["sha256"] for name in c.networks}
    return networks | {f"adversarial-{name}": examples.card(name)["sha256"] for name in c.images}


def stale(entry: Entry) -> str | None:
    """Why an entry must be measured again, or None if it need not be.

    >>> stale(replace(get("start_here.clean"), code="of another version"))
    'the code it depends on has changed since'
    """
    known = {c.id: c for c in claims()}
    if entry.id not in known:
        return "no function measures it any more"
    c = known[entry.id]
    if entry.code != claim_version(c):
        return "the code it depends on has changed since"
    if entry.inputs != inputs(c):
        return "a network, or a set of images, that it depends on has changed since"
    return None


def reworded(entry: Entry) -> Entry:
    """The entry with the words of its claim as they are now (title, note, paper's number, ...): no new measurement.

    >>> entry = get("start_here.clean")
    >>> reworded(replace(entry, title="Other words")).title == entry.title
    True
    """
    (c,) = (c for c in claims() if c.id == entry.id)
    return replace(entry, title=c.title, paper=c.paper, where=c.where, unit=c.unit, digits=c.digits, note=c.note, tier=c.tier)


# ---------------------------------------------------------------------------------------------- files


def folder() -> Path:
    """The manifest's folder: ``$ADVLAB_RESULTS``, or ``book/results`` of the nearest folder above that has one.

    >>> folder().relative_to(folder().parents[1]).as_posix()
    'book/results'
    """
    if told := os.environ.get("ADVLAB_RESULTS"):
        return Path(told)
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for place in (start, *start.parents):
            if (place / "book" / "results").is_dir():
                return place / "book" / "results"
    raise FileNotFoundError("there is no book/results here or above: run this inside a checkout of the book")


def load(chapter: str, where: Path | None = None) -> dict[str, Entry]:
    """The entries of a chapter by id; none if it has no file yet.

    >>> load("start_here")["start_here.clean"].paper
    0.9943
    """
    path = (where or folder()) / f"{chapter}.json"
    if not path.exists():
        return {}
    return {e["id"]: from_json(e) for e in json.loads(path.read_text())}


def to_json(e: Entry) -> dict[str, Any]:
    """An entry as a file of the manifest holds it.

    >>> to_json(replace(get("start_here.clean"), value=-math.inf))["value"]  # strict JSON has no infinity
    '-inf'
    """
    return _strict(asdict(e))


def from_json(e: dict[str, Any]) -> Entry:
    """The entry that :func:`to_json` made ``e`` of; entries from before there were flags, series and machine are read too.

    >>> entry = get("start_here.clean")
    >>> from_json(json.loads(json.dumps(to_json(entry)))) == entry
    True
    """
    return Entry(
        **e
        | {
            "value": float(e["value"]),
            "interval": tuple(float(bound) for bound in e["interval"]) if e["interval"] else None,
            "flags": tuple(e.get("flags", ())),
            "series": {name: [float(v) for v in column] for name, column in e.get("series", {}).items()},
        }
    )


def _strict(o: Any) -> Any:
    """``o`` in strict JSON, which has no numbers that are not finite: they become "nan", "inf" and "-inf"."""
    if isinstance(o, dict):
        return {key: _strict(v) for key, v in o.items()}
    if isinstance(o, list | tuple):
        return [_strict(v) for v in o]
    return str(o) if isinstance(o, float) and not math.isfinite(o) else o


def save(entries: Iterable[Entry], where: Path | None = None) -> None:
    """Put entries into their chapters' files, in the order of the claims, leaving the other entries as they are.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as elsewhere:
    ...     save([get("start_here.clean")], Path(elsewhere))
    ...     print(list(load("start_here", Path(elsewhere))))
    ['start_here.clean']
    """
    by_chapter: dict[str, dict[str, Entry]] = {}
    for e in entries:
        by_chapter.setdefault(e.id.partition(".")[0], {})[e.id] = e
    for chapter, new in by_chapter.items():
        merged = load(chapter, where) | new
        ordered = [to_json(merged[c.id]) for c in claims(chapter) if c.id in merged]
        text = json.dumps(ordered, indent=1, ensure_ascii=False, allow_nan=False)
        text = re.sub(r"\[\n[^][{}]*\]", lambda numbers: re.sub(r"\n *", " ", numbers[0]), text)  # a list, a line
        path = (where or folder()) / f"{chapter}.json"
        part = path.with_name(path.name + ".writing")
        part.write_text(text + "\n")
        os.replace(part, path)


def get(id: str) -> Entry:
    """The manifest's entry ``id``. Raises KeyError with the ids there are.

    >>> get("start_here.clean").show("paper").split()
    ['99.43', '%']
    """
    chapter = id.partition(".")[0]
    entries = load(chapter)
    if id not in entries:
        raise KeyError(f"the manifest has no {id!r}; {chapter} has: {', '.join(entries) or 'nothing yet'}")
    return entries[id]


@dataclass(frozen=True)
class Table:
    """Entries as a table that notebooks and pages show: paper, ours, interval, sample size, flags, why they differ.

    There is a column for the flags only where one of the entries has any.

    >>> found = table("start_here", ["start_here.clean"])
    >>> found.head, len(found.rows())
    (('claim', 'paper', 'ours', '95 % interval', 'n', 'note'), 1)
    """

    entries: tuple[Entry, ...] = field(repr=False)

    @property
    def head(self) -> tuple[str, ...]:
        return ("claim", "paper", "ours", "95 % interval", "n", *(["flags"] if self._flagged else []), "note")

    @property
    def _flagged(self) -> bool:
        return any(e.flags for e in self.entries)

    def rows(self) -> list[tuple[str, ...]]:
        def row(e: Entry) -> tuple[str, ...]:
            flags = [", ".join(e.flags)] if self._flagged else []
            return (e.title, e.show("paper"), e.show(), e.show("interval"), e.show("n"), *flags, e.note)

        return [row(e) for e in self.entries]

    def __repr__(self) -> str:
        lines = [cells[:-1] for cells in [self.head, *self.rows()]]  # notes are too long for a line
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in lines
        )

    def _repr_html_(self) -> str:
        def row(cells: tuple[str, ...], tag: str) -> str:
            powers = (re.sub(r"10\^(−?[\d.]+)", r"10<sup>\1</sup>", html.escape(cell)) for cell in cells)
            return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in powers) + "</tr>"

        widths = [26, 10, 11, 15, 10, *([10] if self._flagged else [])]
        columns = "".join(f'<col style="width: {w}%">' for w in [*widths, 100 - sum(widths)])
        sources = [f"Paper: {e.where}." if e.where else "" for e in self.entries]
        rows = [(*cells[:-1], f"{cells[-1]} {source}".strip()) for cells, source in zip(self.rows(), sources, strict=True)]
        return (
            f'<table class="advlab-results fixed" style="table-layout: fixed; width: 100%"><colgroup>{columns}</colgroup>'
            f"<thead>{row(self.head, 'th')}</thead><tbody>{''.join(row(cells, 'td') for cells in rows)}</tbody></table>"
        )


def table(chapter: str, ids: Iterable[str] | None = None) -> Table:
    """The table of a chapter, or of some ids of it. Raises KeyError for an id that is not there.

    >>> table("start_here", ["start_here.clean"]).rows()[0][0]
    'Clean accuracy, MNIST, 7 layers'
    """
    entries = load(chapter)
    return Table(tuple(entries.values()) if ids is None else tuple(get(id) for id in ids))


Cell = tuple[str, str, str]  #: ours, the interval, the paper's


@dataclass(frozen=True)
class Grid:
    """A table of cells that a notebook shows as HTML, and a terminal as text: ours (paper's).

    >>> Grid("attack", ("plain", "masked"), (("PGD", (("3 %", "1 to 8 %", "0 %"), ("40 %", "30 to 50 %", ""))),))
    attack  plain      masked
    PGD     3 % (0 %)  40 %
    """

    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...] = field(repr=False)

    def __repr__(self) -> str:
        lines = [(self.corner, *self.columns)]
        lines += [(name, *(f"{ours} ({theirs})" if theirs else ours for ours, _, theirs in cells)) for name, cells in self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        def shown(cell: Cell) -> str:
            ours, interval, theirs = map(html.escape, cell)
            small = [interval] * bool(interval) + [f"<i>{theirs}</i>"] * bool(theirs)
            return f"<td><b>{ours}</b>{''.join(f'<br><small>{text}</small>' for text in small)}</td>"

        head = "".join(f"<th>{html.escape(c)}</th>" for c in (self.corner, *self.columns))
        body = "".join(f"<tr><th>{html.escape(name)}</th>{''.join(map(shown, cells))}</tr>" for name, cells in self.rows)
        return (
            '<div style="overflow-x: auto"><table class="advlab-results cells">'
            f"<caption>Bold: ours. Small: 95 % interval. Italic: the paper's.</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


# ---------------------------------------------------------------------------------------------- code version

#: Where digests stop, so that a new chapter or network leaves the entries of the others current: the zoo's recipes and
#: their record, in whose place :func:`claim_version` takes what builds a claim's networks; and what registers claims.
BOUNDARIES = {"advlab.recipes:RECIPES", "advlab.recipes.common:Recipe", "advlab.results:claim"}


def claim_version(c: Claim) -> str:
    """The code version of a claim: a digest of its function and of what builds each network that it names.

    Guarantee: as of :func:`code_version`. How the networks were trained does not count; their weights are inputs.
    Raises ValueError for a network that is not built by a function of a module, or a functools.partial of one.

    >>> a, b = claims("start_here")[:2]
    >>> len(claim_version(a)), claim_version(a) == claim_version(b)
    (16, False)
    """
    from . import zoo

    built = [f"{name}={_build_version(name, zoo.recipe(name).build)}" for name in c.networks]
    return hashlib.sha256("\n".join([code_version(c.measure), *built]).encode()).hexdigest()[:16]


def _build_version(name: str, build: Callable) -> str:
    arguments = ""
    if isinstance(build, functools.partial):
        build, arguments = build.func, f"{build.args} {sorted(build.keywords.items())}"
    if not inspect.isfunction(build) or "<" in build.__qualname__ + arguments:  # <lambda>, <locals>, <object at 0x...>
        raise ValueError(
            f"the build of the network {name!r} has no code version: it must be a function of a module, "
            "or a functools.partial of one with plain values, no lambda and no class"
        )
    return code_version(build) + arguments


def code_version(function: Callable) -> str:
    """A digest of ``function`` and of every definition of its package that it reaches by name.

    Guarantee: changing the code of any one reached definition changes the digest. Names reached only at run time (through
    getattr or a registry) and past :data:`BOUNDARIES` are not followed; the module that a definition stands in, comments,
    docstrings and white space do not count.

    >>> code_version(get) == code_version(load)
    False
    """
    return hashlib.sha256("\n".join(sorted(reached(function).values())).encode()).hexdigest()[:16]


def reached(function: Callable) -> dict[str, str]:
    """The definitions of :func:`code_version`: "module:name" -> "name=text".

    >>> list(reached(to_json))[:2]
    ['advlab.results:to_json', 'advlab.results:_strict']
    """
    package = function.__module__.partition(".")[0]
    pieces: dict[str, str] = {}
    todo = [(function.__module__, function.__qualname__.partition(".")[0])]
    while todo:
        module, name = todo.pop()
        qualified = f"{module}:{name}"
        if qualified in pieces or qualified in BOUNDARIES:
            continue
        definitions, imports = _module(module, package)
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
def _module(module: str, package: str) -> tuple[dict[str, tuple[str, Reached]], dict[str, tuple[str, str]]]:
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
            if base.partition(".")[0] == package:
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
