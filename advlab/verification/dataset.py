"""Verification of many inputs: over any executor, with verdicts kept in a file that survives being killed."""

from __future__ import annotations

import base64
import collections
import dataclasses
import hashlib
import json
import lzma
import math
import multiprocessing
import os
import warnings
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..evaluate import clopper_pearson
from .affine import normal_form
from .search import Solver
from .verifier import STAGES, Verdict, check_inputs, network_hash, verify


def worker_pool(workers: int | None = None) -> ProcessPoolExecutor:
    """Processes for :func:`verify_dataset`, started afresh (spawn) with one thread each; by default one a core.

    >>> with worker_pool(2) as pool:  # for verify_dataset(..., executor=pool)
    ...     print(isinstance(pool, Executor))
    True
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers or os.cpu_count(), mp_context=context, initializer=torch.set_num_threads, initargs=(1,))


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """The verdicts of many inputs, in their order.

    >>> found = Verdicts(tuple(Verdict(s, "crown", 0.0, 1.0) for s in ("robust", "robust", "unknown", "counterexample")))
    >>> found.count("robust"), found.provable, found.upper
    (2, 0.5, 0.75)
    """

    verdicts: tuple[Verdict, ...] = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.verdicts)

    def count(self, status: str) -> int:
        return sum(v.status == status for v in self.verdicts)

    @property
    def provable(self) -> float:
        """The provable adversarial accuracy: the share proved robust. The true robust accuracy is at least that."""
        return self.count("robust") / len(self) if len(self) else math.nan

    @property
    def upper(self) -> float:
        """The share that is proved robust or unknown. The true robust accuracy is at most that."""
        return 1 - self.count("counterexample") / len(self) if len(self) else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Clopper-Pearson interval of :attr:`provable`, for inputs that are a random sample."""
        return clopper_pearson(self.count("robust"), len(self))

    @property
    def stages(self) -> dict[str, int]:
        """How many inputs each stage decided, in the order of the stages."""
        counts = collections.Counter(v.stage for v in self.verdicts)
        return {stage: counts[stage] for stage in (*STAGES, *sorted(set(counts) - set(STAGES))) if counts[stage]}

    def seconds(self, correct: bool = True) -> np.ndarray:
        """CPU seconds of each input, those that are classified wrongly left out unless ``correct`` is false."""
        return np.array([v.seconds for v in self.verdicts if not correct or v.stage != "prediction"])


def verify_dataset(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    executor: Executor | None = None,
    store: str | Path | None = None,
    time_limit: float = 120.0,
    margin: float = 1e-6,
    last_stage: str = STAGES[-1],
    solver: Solver = "highs",
    hardest_first: bool = False,
    progress: bool = True,
) -> Verdicts:
    """:func:`verify` for inputs ``x`` (n, ...) and labels ``y`` (n,); the verdicts in the order of the inputs.

    ``executor`` is any ``concurrent.futures.Executor``: :func:`worker_pool`, or ``client.get_executor()`` of a Dask
    cluster; None works in this process. Workers use one thread each. ``store`` is a file to which each verdict is
    appended as it comes, keyed by network, input, label, eps and margin. A call that finds some there takes them over, so
    that a run which was killed at any moment goes on where it stopped; "unknown" is asked again only of a longer
    ``time_limit`` or a later ``last_stage``, not of another ``solver``. ``hardest_first`` begins with the smallest margins.

    An input whose worker dies is tried once more, alone, and then is "unknown" with the stage "worker died".
    Guarantee: as :func:`verify`, input by input. Raises its errors before any work is given out, ValueError for labels that
    do not fit the inputs, and StoreError for a file that is no store.

    >>> from advlab import data, zoo
    >>> net, (x, y) = zoo.load("mnist_01_rs"), data.mnist("test", 3)
    >>> verify_dataset(net, x, y, 0.1, progress=False).count("robust")
    3
    """
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} inputs and y {len(y)} labels; they must be equally many")
    shape = tuple(x.shape[1:])
    rounds = normal_form(net, shape)  # a network or a shape that cannot be verified is named here
    if len(x):
        check_inputs(x, eps, time_limit, margin, last_stage, solver)
        if not 0 <= int(y.min()) <= int(y.max()) < rounds.logits.units:
            raise ValueError(f"the labels are {int(y.min())} to {int(y.max())}; the network has {rounds.logits.units} classes")
    options = {"time_limit": time_limit, "margin": margin, "last_stage": last_stage, "solver": solver}
    book = Store(store) if store is not None else None
    network = network_hash(net, shape)
    keys = [_key(network, x[i], int(y[i]), eps, margin) for i in range(len(x))]
    verdicts = [book.get(key, time_limit, last_stage) if book is not None else None for key in keys]
    todo = [i for i, v in enumerate(verdicts) if v is None]
    if hardest_first:
        gaps = _gaps(net, x, y)
        todo.sort(key=lambda i: gaps[i])
    jobs = {i: (net, x[i].clone(), int(y[i]), eps, options) for i in todo}
    done = _serial(jobs) if executor is None else _spread(jobs, executor)
    with tqdm(total=len(x), initial=len(x) - len(todo), disable=not progress, unit="input") as bar:
        for i, verdict in done:
            verdicts[i] = verdict
            if book is not None and verdict.stage != DIED:
                # where a solver's licence was too small, the last stage is still to come
                book.add(keys[i], verdict, time_limit, verdict.stage if verdict.status == "unknown" else last_stage)
            bar.update()
    return Verdicts(tuple(v for v in verdicts if v is not None))


DIED = "worker died"
_Job = tuple[nn.Module, Tensor, int, float, dict[str, Any]]


def _work(job: _Job) -> Verdict:
    net, x, y, eps, options = job
    torch.set_num_threads(1)
    return verify(net, x, y, eps, **options)


def _serial(jobs: dict[int, _Job]) -> Iterable[tuple[int, Verdict]]:
    for i, (net, x, y, eps, options) in jobs.items():
        yield i, verify(net, x, y, eps, **options)


def _spread(jobs: dict[int, _Job], executor: Executor) -> Iterable[tuple[int, Verdict]]:
    """Verdicts as they come. Few jobs are out at a time; those out when a worker dies are tried again one by one."""
    waiting, suspects = collections.deque(jobs), collections.deque[int]()
    workers = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
    out: dict[Future, int] = {}
    replaced: Executor | None = None
    try:
        while waiting or suspects or out:
            while waiting and len(out) < 2 * workers and not suspects:
                i = waiting.popleft()
                out[executor.submit(_work, jobs[i])] = i
            alone = bool(suspects) and not out
            if alone:
                i = suspects.popleft()
                out[executor.submit(_work, jobs[i])] = i
            finished, _ = wait(out, return_when=FIRST_COMPLETED)
            broken = False
            for future in finished:
                i = out.pop(future)
                try:
                    yield i, future.result()
                except (TypeError, ValueError, ImportError):  # about the call, not about the worker
                    raise
                except Exception as e:
                    broken |= isinstance(e, BrokenExecutor)
                    if alone:
                        warnings.warn(f"input {i}: its worker died twice ({e!r}); it counts as unknown", stacklevel=3)
                        yield i, Verdict("unknown", DIED, -math.inf, 0.0)
                    else:
                        suspects.append(i)
            if broken:
                suspects.extend(out.values())
                out.clear()
                executor = replaced = _replacement(executor, replaced)
    finally:
        for future in out:
            future.cancel()
        if replaced is not None:
            replaced.shutdown(wait=False, cancel_futures=True)


def _replacement(executor: Executor, replaced: Executor | None) -> Executor:
    """A broken pool cannot be used again: a new one with as many processes takes its place."""
    if not isinstance(executor, ProcessPoolExecutor):
        raise RuntimeError(f"the executor {executor!r} is broken; give a new one, with the same store to go on from here")
    if replaced is not None:
        replaced.shutdown(wait=False)
    return worker_pool(getattr(executor, "_max_workers", None))


def _gaps(net: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    with torch.no_grad():
        logits = torch.cat([net(part) for part in x.split(250)])
    right = logits.gather(1, y[:, None])[:, 0]
    return (right - logits.scatter(1, y[:, None], -math.inf).amax(1)).tolist()


# ---------------------------------------------------------------------------------------------- the store


class StoreError(RuntimeError):
    """A file is no store of verdicts. The message says what to do.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> _ = path.write_text("no verdict")
    >>> try:
    ...     Store(path).get("image 7")
    ... except StoreError as e:
    ...     print(str(e).removeprefix(str(path.parent)))
    /notes.txt is no store of verdicts: name another file
    """


def _key(network: str, x: Tensor, y: int, eps: float, margin: float) -> str:
    """What a verdict is about: network, input, label, eps and margin, as a SHA-256."""
    digest = hashlib.sha256(f"{network} {y} {float(eps)!r} {float(margin)!r} ".encode())
    digest.update(x.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Store:
    """Verdicts in a file of JSON lines; an .xz of one can be read. Each verdict is on the disk before the next is added.

    A last line that was cut off by a kill is dropped. Raises StoreError for any other line that is no verdict.

    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()) / "verdicts.jsonl")
    >>> store.add("image 7", Verdict("unknown", "branch and bound", -0.1, 2.0), time_limit=2.0, last_stage="mixed-integer")
    >>> store.get("image 7", time_limit=1.0).status, store.get("image 7", time_limit=60.0)  # with more time, ask again
    ('unknown', None)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._known: dict[str, tuple[Verdict, float, str]] = {}
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return
        packed = self.path.suffix == ".xz"
        raw = lzma.decompress(self.path.read_bytes()) if packed else self.path.read_bytes()
        whole, _, rest = raw.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, lzma.LZMAError) as e:
                raise StoreError(f"{self.path}, line {number}, is no verdict ({e!r}): name another file") from e
        if rest:
            if packed:
                raise StoreError(f"{self.path} ends in the middle of a line: make it anew")
            if not whole and not rest.startswith(b'{"key": '):
                raise StoreError(f"{self.path} is no store of verdicts: name another file")
            with self.path.open("r+b") as f:
                f.truncate(len(raw) - len(rest))

    def __len__(self) -> int:
        return len(self._known)

    def _take(self, line: dict[str, Any]) -> None:
        witness = None
        if line["witness"] is not None:
            values = np.frombuffer(lzma.decompress(base64.b64decode(line["witness"]["data"])), line["witness"]["dtype"])
            witness = torch.from_numpy(values.copy()).view(line["witness"]["shape"])
        bound = -math.inf if line["bound"] is None else float(line["bound"])
        verdict = Verdict(line["status"], line["stage"], bound, line["seconds"], tuple(line["unstable"]), witness)
        self._known[line["key"]] = (verdict, line["time_limit"], line["last_stage"])

    def get(self, key: str, time_limit: float = 0.0, last_stage: str = STAGES[0]) -> Verdict | None:
        """The verdict of ``key``; None if there is none, or an "unknown" of less time or fewer stages than asked for."""
        if key not in self._known:
            return None
        verdict, limit, last = self._known[key]
        if verdict.status == "unknown" and (limit < time_limit or STAGES.index(last) < STAGES.index(last_stage)):
            return None
        return verdict

    def add(self, key: str, verdict: Verdict, time_limit: float, last_stage: str) -> None:
        """Append a verdict and wait until it is on the disk."""
        if self.path.suffix == ".xz":
            raise StoreError(f"{self.path} is packed, to be read only: unpack it first with  xz -dk {self.path.name}")
        witness = None
        if verdict.witness is not None:
            values = verdict.witness.cpu().contiguous().numpy()
            data = base64.b64encode(lzma.compress(values.tobytes())).decode()
            witness = {"dtype": values.dtype.name, "shape": list(values.shape), "data": data}
        line = {
            "key": key,
            "status": verdict.status,
            "stage": verdict.stage,
            "bound": verdict.bound if math.isfinite(verdict.bound) else None,
            "seconds": round(verdict.seconds, 4),
            "unstable": list(verdict.unstable),
            "time_limit": time_limit,
            "last_stage": last_stage,
            "witness": witness,
        }
        with self.path.open("ab") as f:
            f.write(json.dumps(line).encode() + b"\n")
            f.flush()
            os.fsync(f.fileno())
        self._known[key] = (verdict, time_limit, last_stage)

    def pack(self, to: str | Path) -> Path:
        """Write all verdicts to an .xz, in the order of their keys, and return its path.

        Witnesses that no search was needed for are left out: :func:`verify` finds them again in milliseconds.
        """
        lines = [json.loads(line) for line in self.path.read_bytes().splitlines()]
        lines = [line | {"witness": None} if line["stage"] in ("prediction", "pgd") else line for line in lines]
        last = {line["key"]: line for line in lines}
        text = "".join(json.dumps(last[key]) + "\n" for key in sorted(last))
        path = Path(to)
        path.write_bytes(lzma.compress(text.encode(), preset=9))
        return path
