"""Measure many claims: here, in processes, or on a Dask cluster; a run that was broken off goes on where it stopped.

Each worker measures one claim at a time and sends the entry back, so that workers need no files in common; the parent
keeps it in a journal beside the manifest, and then in the manifest. Claims that share what a ``functools.cache`` of their
module keeps go to one worker, which computes it once.
"""

from __future__ import annotations

import collections
import contextlib
import inspect
import json
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from . import results
from .digest import reached
from .entries import Entry
from .results import Claim

Lane = Callable[[], Executor]  #: Starts a worker that does one thing at a time; called again after the worker died.


@dataclass(frozen=True)
class Failure:
    """A claim that was not measured, and why."""

    why: str


# ---------------------------------------------------------------------------------------------- workers


@contextlib.contextmanager
def processes(workers: int) -> Iterator[list[Lane]]:
    """``workers`` processes, started afresh (spawn), each with one thread. None outlives its parent, killed or not."""
    context = multiprocessing.get_context("spawn")
    lines: list[Any] = []  # ends of pipes
    pools: list[ProcessPoolExecutor] = []

    def start() -> Executor:
        theirs, ours = context.Pipe(duplex=False)
        lines.append(ours)
        pools.append(ProcessPoolExecutor(1, mp_context=context, initializer=_end_with, initargs=(theirs,)))
        return pools[-1]

    try:
        yield [start] * workers
    except BaseException:
        for line in lines:  # whoever computes stops at once
            line.close()
        raise
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def _end_with(line: Any) -> None:
    """End this process when the other end of ``line`` is closed, by the parent or by its death."""

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            line.recv()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent acts on it
    threading.Thread(target=listen, daemon=True).start()


@contextlib.contextmanager
def cluster(address: str) -> Iterator[list[Lane]]:
    """The workers that the Dask scheduler at ``address``, "tcp://...", has now; each needs this version of advlab.

    Raises RuntimeError where Dask is not installed or the scheduler has no workers, OSError where it is not reached.
    """
    try:
        from distributed import Client
    except ImportError as e:
        raise RuntimeError("a scheduler needs Dask: pip install 'advlab[cluster]'") from e
    with Client(address) as client:
        workers: Any = client.nthreads()  # by address
        if not workers:
            raise RuntimeError(f"the scheduler {address} has no workers: start some, then run this again")
        yield [lambda w=w: client.get_executor(workers=[w], allow_other_workers=True) for w in workers]


def _work(module: str, id: str, n: int | None, executor: str) -> Entry | Failure:
    """Measure the claim ``id`` of ``module`` in this process."""
    try:
        torch.set_num_threads(1)
        import_module(module)
        return results.measure(results.CLAIMS[id], n, executor=executor)
    except Exception as e:  # as words: not every exception can be sent
        return Failure(f"{type(e).__name__}: {e}")


# ---------------------------------------------------------------------------------------------- measuring


def measured(
    wanted: Sequence[Claim], lanes: Sequence[Lane] = (), n: int | None = None
) -> Iterator[tuple[Claim, Entry | Failure]]:
    """Measure claims over ``lanes`` (see :func:`processes` and :func:`cluster`), or here if there are none; as they come.

    ``n`` shortens each for a trial. Dear claims come first. A claim that raises is a Failure, and one whose process dies is
    tried once more, with no other at its side; Dask tries again itself. An entry of a worker with other code is a Failure.
    """
    if lanes:
        yield from _spread(wanted, lanes, n)
        return
    for c in wanted:
        try:
            yield c, results.measure(c, n)
        except Exception as e:
            yield c, Failure(f"{type(e).__name__}: {e}")


def _spread(wanted: Sequence[Claim], lanes: Sequence[Lane], n: int | None) -> Iterator[tuple[Claim, Entry | Failure]]:
    groups = collections.deque(by_cost(together(wanted)))
    own: list[collections.deque[Claim]] = [collections.deque() for _ in lanes]
    executors: list[Executor | None] = [None] * len(lanes)
    out: dict[Future, tuple[int, Claim]] = {}
    again: list[Claim] = []

    def submit(k: int, c: Claim) -> None:
        for _ in range(2):  # a worker may have died while it had nothing to do
            executor = executors[k] = executors[k] or lanes[k]()
            kind = "process pool" if isinstance(executor, ProcessPoolExecutor) else "Dask cluster"
            try:
                out[executor.submit(_work, c.measure.__module__, c.id, n, kind)] = k, c
                return
            except BrokenExecutor:
                executors[k] = None
        raise RuntimeError(f"no worker starts for {c.id}")

    def next_for(k: int) -> None:
        if not own[k] and groups:
            own[k].extend(groups.popleft())
        if own[k]:
            submit(k, own[k].popleft())

    def received(last: bool) -> Iterator[tuple[int, Claim, Entry | Failure]]:
        for future in wait(out, return_when=FIRST_COMPLETED).done:
            k, c = out.pop(future)
            try:
                yield k, c, _checked(c, future.result())
            except BrokenExecutor:
                executors[k] = None
                if last:
                    yield k, c, Failure("its worker died, twice")
                else:
                    again.append(c)
                    next_for(k)
            except Exception as e:  # of the cluster
                yield k, c, Failure(f"{type(e).__name__}: {e}")

    for k in range(len(lanes)):
        next_for(k)
    while out:
        for k, c, found in received(last=False):
            next_for(k)
            yield c, found
    for c in again:
        submit(0, c)
        for _, _, found in received(last=True):
            yield c, found


def _checked(c: Claim, found: Entry | Failure) -> Entry | Failure:
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


def run(wanted: Sequence[Claim], lanes: Sequence[Lane] = (), *, journal: Path, stale: bool = False) -> Iterator[Outcome]:
    """Measure claims and write the manifest, entry by entry; ``stale`` leaves out those whose entries are current.

    What ``journal`` holds of an earlier call, as long as code and inputs are still the same, is not measured again, and
    comes first. At the end the journal goes, unless something failed: then the next call tries that again.
    """
    written = read(journal)
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
            _append(journal, found, old)
            results.save([found])
        failed |= isinstance(found, Failure)
        yield Outcome(c, found, old)
    if not failed:
        journal.unlink(missing_ok=True)


def read(journal: Path) -> dict[str, tuple[Entry, Entry | None]]:
    """Claim id -> (entry, the manifest's entry before the run). A last line that a kill cut off is dropped.

    Raises ValueError for another line that is not of a journal.
    """
    if not journal.exists():
        return {}
    whole, _, rest = journal.read_bytes().rpartition(b"\n")
    if rest:
        with journal.open("r+b") as f:
            f.truncate(len(whole) + 1 if whole else 0)
    found: dict[str, tuple[Entry, Entry | None]] = {}
    try:
        for text in whole.splitlines():
            new, old = json.loads(text)
            entry = results.from_json(new)
            found[entry.id] = (entry, None if old is None else results.from_json(old))
    except (ValueError, TypeError, AttributeError, KeyError) as e:
        raise ValueError(f"{journal} is no journal of this version ({e!r}); without it, the run begins anew") from e
    return found


def _append(journal: Path, new: Entry, old: Entry | None) -> None:
    text = json.dumps([None if e is None else results.to_json(e) for e in (new, old)])
    with journal.open("ab") as f:
        f.write(text.encode() + b"\n")
        f.flush()
        os.fsync(f.fileno())


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

    from .random_mask.full_scale import SOURCES, TARGETS

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

    others = [name for name in zoo.names() if name not in trained and not ships(name)]
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
