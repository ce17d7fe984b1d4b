"""Measure many claims: here, in processes, or on a Dask cluster; a run that was broken off goes on where it stopped.

Each worker measures one claim at a time and sends the entry back, so that workers need no files in common; the parent
keeps it in a journal beside the manifest, and then in the manifest. Claims that share what a ``functools.cache`` of their
module keeps go to one worker, which computes it once.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from advlab.store import Records
from advlab.work import spread

from . import results
from .digest import reached
from .entries import Entry
from .results import Claim

KIND = "measured claim"  #: of the journal's records


@dataclass(frozen=True)
class Failure:
    """A claim that was not measured, and why."""

    why: str


# ---------------------------------------------------------------------------------------------- measuring


def measured(
    wanted: Sequence[Claim], lanes: Sequence[Executor] = (), n: int | None = None
) -> Iterator[tuple[Claim, Entry | Failure]]:
    """Measure claims over ``lanes`` (see :func:`advlab.work.workers`), or here if there are none; as they come.

    ``n`` shortens each for a trial. Over lanes, dear claims come first. A claim that raises is a Failure, and so is one whose
    process dies twice, the second time with no other at its side, and an entry of a worker with other code.
    """
    kind = "one process"
    groups = [[c] for c in wanted]
    if lanes:
        kind = "process pool" if isinstance(lanes[0], ProcessPoolExecutor) else "Dask cluster"
        groups = by_cost(together(wanted))
    tasks = [[(c.measure.__module__, c.id, n, kind) for c in group] for group in groups]
    by_id = {c.id: c for c in wanted}
    with contextlib.closing(spread(measure, tasks, lanes)) as found:
        for (_, id, *_), result in itertools.chain.from_iterable(found):
            yield by_id[id], _checked(by_id[id], result)


def measure(module: str, id: str, n: int | None, executor: str) -> Entry | Failure:
    """Measure the claim ``id`` of ``module`` in this process."""
    try:
        import_module(module)
        return results.measure(results.CLAIMS[id], n, executor=executor)
    except Exception as e:  # as words: not every exception can be sent
        return Failure(f"{type(e).__name__}: {e}")


def _checked(c: Claim, found: Entry | Exception | Failure) -> Entry | Failure:
    if isinstance(found, Exception):
        return Failure(f"its worker died, twice ({found!r})")
    if isinstance(found, Entry) and (found.code, found.inputs) != (results.claim_version(c), results.inputs(c)):
        return Failure("the worker has another version of advlab, or other networks, than this machine")
    return found


def together(wanted: Iterable[Claim]) -> list[list[Claim]]:
    """The claims in groups of those that reach the same ``functools.cache`` functions of a parameter ``n``.

    What depends on n is measured, and may be dear; caches of what is loaded or tabulated do not count.
    """

    def keeps(place: str) -> bool:
        module, _, name = place.partition(":")
        function: Any = getattr(import_module(module), name, None)
        return hasattr(function, "cache_info") and "n" in inspect.signature(function).parameters

    groups: dict[object, list[Claim]] = {}
    for c in wanted:
        shared = frozenset(filter(keeps, reached(c.measure)))
        groups.setdefault(shared or c.id, []).append(c)
    return list(groups.values())


def by_cost(groups: Iterable[list[Claim]]) -> list[list[Claim]]:
    """The dearest group first, by the CPU seconds in the manifest; what was never measured before all."""
    known = {e.id: e.cpu_seconds for chapter in results.CHAPTERS for e in results.load(chapter).values()}
    return sorted(groups, key=lambda group: -sum(known.get(c.id, math.inf) for c in group))


# ---------------------------------------------------------------------------------------------- a whole run


@dataclass(frozen=True)
class Outcome:
    """What a run found for a claim, beside what the manifest had before the run."""

    claim: Claim
    found: Entry | Failure
    old: Entry | None
    earlier: bool = False  #: found before the run was broken off

    @property
    def agreement(self) -> str:
        """How the number stands to the one before: "failed", "new", "equal", "close" or "differs"."""
        return "failed" if isinstance(self.found, Failure) else agreement(self.found, self.old)


def agreement(new: Entry, old: Entry | None) -> str:
    """How a new entry stands to the old one: "new" if there is none; else "equal", "close" or "differs".

    Equal: the same value, up to rounding in float64, of the same n, with the same flags. Close: inside the old interval, or
    the same in all digits that the book shows. An old interval without bounds tells nothing.
    """
    if old is None:
        return "new"
    if new.flags != old.flags:
        return "differs"
    same = math.isclose(new.value, old.value, rel_tol=1e-9) or (math.isnan(new.value) and math.isnan(old.value))
    if same and new.n == old.n:
        return "equal"
    inside = old.interval is not None and old.interval[0] <= new.value <= old.interval[1]
    known = old.show("interval") != "–"
    return "close" if new.show() == old.show() or (inside and known) else "differs"


def run(wanted: Sequence[Claim], lanes: Sequence[Executor] = (), *, journal: Path, stale: bool = False) -> Iterator[Outcome]:
    """Measure claims and write the manifest, entry by entry; ``stale`` leaves out those whose entries are current.

    What ``journal`` holds of an earlier call, as long as code and inputs are still the same, is not measured again, and
    comes first. At the end the journal goes, unless something failed: then the next call tries that again.
    """
    kept, written = Records(journal, KIND), read(journal)
    done = {id: pair for id, pair in written.items() if results.stale(pair[0]) is None}
    results.save(results.reworded(new) for new, _ in done.values())  # killed between journal and manifest
    todo = [c for c in wanted if c.id not in done]
    if stale:
        stored = {c.id: results.load(c.chapter).get(c.id) for c in todo}
        current = [e for e in stored.values() if e is not None and results.stale(e) is None]
        results.save(map(results.reworded, current))
        todo = [c for c in todo if c.id not in {e.id for e in current}]
    for c in wanted:
        if c.id in done:
            yield Outcome(c, *done[c.id], earlier=True)
    failed = False
    for c, found in measured(todo, lanes):
        old = written[c.id][1] if c.id in written else results.load(c.chapter).get(c.id)
        if isinstance(found, Entry):
            kept.extend({c.id: {"new": results.to_json(found), "old": old and results.to_json(old)}})
            results.save([found])
        failed |= isinstance(found, Failure)
        yield Outcome(c, found, old)
    if not failed:
        journal.unlink(missing_ok=True)


def read(journal: Path) -> dict[str, tuple[Entry, Entry | None]]:
    """Claim id -> (entry, the manifest's entry before the run). Raises ValueError or StoreError for a file that is none."""
    try:
        pairs = {id: (pair["new"], pair["old"]) for id, pair in Records(journal, KIND).items()}
        return {id: (results.from_json(new), old and results.from_json(old)) for id, (new, old) in pairs.items()}
    except (TypeError, KeyError, AttributeError) as e:
        raise ValueError(f"{journal} is no journal of this version ({e!r}); without it, the run begins anew") from e


def line(o: Outcome, compare: bool = True) -> str:
    """An outcome for a terminal; ``compare`` adds how it stands to the number before."""
    if isinstance(o.found, Failure):
        return f"{o.claim.id:32} FAILED: {o.found.why}"
    e = o.found
    shown = f"{e.id:32} {e.show('full')}   paper: {e.show('paper')}   {e.cpu_seconds:.0f} CPU s"
    return f"{shown}   {o.agreement}" if compare else shown


def summary(outcomes: Sequence[Outcome], compare: bool = True) -> Iterator[str]:
    """Lines for a terminal: how many numbers agree with those before the run, and which do not, by name."""
    by: dict[str, list[Outcome]] = {}
    for o in outcomes:
        by.setdefault(o.agreement, []).append(o)
    count = {kind: len(found) for kind, found in by.items()}
    total = len(outcomes) - count.get("failed", 0)
    earlier = sum(o.earlier for o in outcomes)
    yield f"{total} measured" + (f", {earlier} of them before the run was broken off" if earlier else "")
    if not compare:
        return
    for kind, words in (
        ("equal", "equal to the number before"),
        ("close", "inside its interval, or the same in all digits shown"),
        ("differs", "outside of that"),
        ("new", "with no number before"),
    ):
        if kind in by:
            yield f"{count[kind]:5} {words}"
        for o in by.get(kind, []) if kind in ("close", "differs") else []:
            if isinstance(o.found, Entry) and o.old is not None:
                yield f"      {o.claim.id}: before {o.old.show('full')}, now {o.found.show('full')}"


# ---------------------------------------------------------------------------------------------- the tier "gpu"


def about_gpu(wanted: Sequence[Claim], full_scale: bool) -> Iterator[str]:
    """What the tier "gpu" does beyond the claims of the others, and whether this machine can; ``full_scale``: chapter 4's."""
    from advlab import zoo

    from .adversarial_spheres.million_claims import SEEDS, STEMS
    from .random_mask.full_scale import SOURCES, TARGETS
    from .relu_stability.trainings import ROWS

    own = [c.id for c in wanted if c.tier == "gpu"]
    yield f"tier gpu: {len(own)} claims of its own" + (f": {', '.join(own)}" if own else "; the manifest has none yet")
    trained = [f"full_{name}" for name in (*SOURCES, *TARGETS)]
    if full_scale:
        yield "then chapter 4's tables at the paper's size, python -m labbook transfer --device cuda, into runs/transfer.json;"
        yield f"it needs the full CIFAR-10, and trains what runs/ does not have of: {', '.join(trained)}"
        if not torch.cuda.is_available():
            yield f"{NO_GPU}: that part will not be done"

    def ships(name: str) -> bool:
        try:
            return bool(zoo.card(name))
        except zoo.CheckpointError:
            return False

    kept = {f"{row.stem}_{seed}" for row in ROWS.values() for seed in range(row.wanted)}  # a line each, made from their recipes
    kept |= {f"{stem}_{seed}" for stem in STEMS for seed in SEEDS}
    kept |= {zoo.recipe(name).start or name for name in kept}
    others = [name for name in zoo.names() if name not in kept.union(trained) and not ships(name)]
    if others:
        yield f"recipes without a checkpoint, which no number needs: {', '.join(others)}"
        yield "(python -m advlab train NAME --device cuda trains one)"


NO_GPU = "torch finds no GPU on this machine"


def at_full_scale() -> Iterator[str]:
    """The lines of :func:`.random_mask.full_scale.transfer`, trained and measured now. Raises RuntimeError with no GPU."""
    from .random_mask import full_scale

    if not torch.cuda.is_available():
        raise RuntimeError(NO_GPU)
    yield from full_scale.lines(full_scale.transfer("runs", device="cuda"))
