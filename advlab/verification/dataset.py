"""Verification of many inputs: over any executor, with verdicts kept in a file that survives being killed."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import functools
import hashlib
import json
import lzma
import math
import platform
import random
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..evaluate import clopper_pearson
from ..store import UNREADABLE, Record, Records, StoreError, packed_array, unpacked_array, write
from ..version import __version__
from ..work import spread
from .affine import normal_form
from .prepared import held, network_hash
from .programs import Solver
from .proofs import describe
from .verifier import STAGES, Verdict, check_inputs, given, labels, verify

DIED = "worker died"
MIXED = 16  #: inputs that change places, so that two runs with one store seldom begin with the same one


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
    def grades(self) -> dict[tuple[str, str], int]:
        """How many verdicts have which (status, grade): "proved" with a proof, "solved" by the solver's word, or ""."""
        return dict(collections.Counter((v.status, v.grade) for v in self.verdicts))

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


# Four arguments are the question, and the others go by name: four of verify, who works, where what is kept, in which order.
def verify_dataset(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    executor: Executor | Sequence[Executor] | None = None,
    store: str | Path | None = None,
    proofs: str | Path | None = None,
    time_limit: float = 120.0,
    margin: float = 1e-6,
    last_stage: str = STAGES[-1],
    solver: Solver = "highs",
    hardest_first: bool = False,
    progress: bool = True,
) -> Verdicts:
    """:func:`verify` for inputs ``x`` (n, ...) and labels ``y`` (n,); the verdicts in the order of the inputs.

    Parameters
    ----------
    executor : Executor, or several
        :func:`worker_pool`, or ``client.get_executor()`` of a Dask cluster; None works in this process. Workers use one
        thread each. An input whose worker dies is tried once more, alone, and then is "unknown" at the stage "worker died".
    store : path
        A file that keeps verdicts as they come, by network, input, label, eps and margin. What is there is taken over, and
        what another run adds meanwhile, so that a run that was killed goes on and two share the work. "unknown" is asked
        again only of a longer ``time_limit`` or a later ``last_stage``, not of another ``solver``.
    proofs : path
        A folder for proofs, ``KEY.proof`` each, for ``python -m advlab check``. A verdict of the store without its proof is
        asked again, unless none was found (:attr:`Verdict.grade`).
    hardest_first : bool
        Begin with the smallest margins.

    Raises
    ------
    ValueError, TypeError, ImportError
        As :func:`verify`, and for labels that do not fit the inputs: before any work is given out.
    StoreError
        For a file that is no store, and one that is to be read only and does not have all.

    Guarantee
    ---------
    As :func:`verify`, input by input.

    Examples
    --------
    >>> from advlab import data, zoo
    >>> net, (x, y) = zoo.load("mnist_01_rs"), data.mnist("test", 3)
    >>> verify_dataset(net, x, y, 0.1, progress=False).count("robust")
    3
    """
    options = {"time_limit": time_limit, "margin": margin, "last_stage": last_stage, "solver": solver}
    x = given("x", x)
    y, eps = _check(net, x, y, eps, options), float(eps)
    book = Store(store) if store is not None else None
    folder = _proof_folder(proofs, net, tuple(x.shape[1:]))
    options["proof"] = folder is not None
    network = network_hash(net, tuple(x.shape[1:]))
    keys = [_key(network, x[i], int(y[i]), eps, margin) for i in range(len(x))]
    stored = functools.partial(_stored, book, folder, time_limit, last_stage)
    known = [stored(key) for key in keys]
    todo = [i for i, v in enumerate(known) if v is None]
    if hardest_first:
        gaps = _gaps(net, x, y)
        todo.sort(key=lambda i: gaps[i])
    if book is not None and todo:
        book.records.extend({})  # where it cannot be written, that is said now
        places = [place + random.SystemRandom().uniform(0, MIXED) for place in range(len(todo))]
        todo = [i for _, i in sorted(zip(places, todo, strict=True))]
    verdicts = {i: v for i, v in enumerate(known) if v is not None}

    def tasks() -> Iterator[list[tuple]]:
        for i in todo:
            if book is not None:
                book.records.refresh()
            if (verdict := stored(keys[i])) is None:
                yield [(i, net, x[i].clone(), int(y[i]), eps, options)]
            else:
                verdicts[i] = verdict

    # a cluster does not say how many workers it has
    lanes = [executor] * getattr(executor, "_max_workers", 64) if isinstance(executor, Executor) else list(executor or ())
    with (
        held(net, tuple(x.shape[1:])),
        tqdm(total=len(x), initial=len(verdicts), disable=not progress, unit="input") as bar,
        contextlib.closing(spread(_work, tasks(), 2 * lanes)) as found,  # so that no worker waits for the next input
    ):
        for come in found:
            verdicts |= _kept(book, folder, keys, come)
            _show(bar, verdicts)
        _show(bar, verdicts)  # the last ones may have been there already
    return Verdicts(tuple(verdicts[i] for i in range(len(x))))


def _show(bar: tqdm, verdicts: dict[int, Verdict]) -> None:
    bar.update(len(verdicts) - bar.n)
    last = next(reversed(verdicts.values()), None)
    counts = collections.Counter(v.status for v in verdicts.values())
    bar.set_postfix({**counts, **({} if last is None else {"bound": f"{last.bound:.3g}"})})


def _check(net: nn.Module, x: Tensor, y: Tensor, eps: float, options: dict[str, Any]) -> Tensor:
    """The labels, in int64."""
    if not x.ndim or len(x):
        check_inputs(x, eps, *options.values(), batch=True)
    return labels(y, len(x), normal_form(net, tuple(x.shape[1:])).logits.units)


def _work(i: int, net: nn.Module, x: Tensor, y: int, eps: float, options: dict[str, Any]) -> tuple[Verdict, Record]:
    return verify(net, x, y, eps, **options), _made_here()


def _proof_folder(proofs: str | Path | None, net: nn.Module, shape: tuple[int, ...]) -> Path | None:
    """Raises TypeError for a network that no proof can be about, before any work is given out."""
    if proofs is None:
        return None
    describe(net, shape)
    Path(proofs).mkdir(parents=True, exist_ok=True)
    return Path(proofs)


def _stored(book: Store | None, folder: Path | None, time_limit: float, last_stage: str, key: str) -> Verdict | None:
    """A verdict of the store, with its proof; None where there is none, or where it has no proof and one can be had."""
    verdict = book.get(key, time_limit, last_stage) if book is not None else None
    if verdict is None or folder is None or verdict.grade == "solved" or verdict.status == "unknown":
        return verdict
    path = folder / f"{key}.proof"
    return dataclasses.replace(verdict, proof=path.read_bytes(), asked=True) if path.exists() else None


def _kept(book: Store | None, folder: Path | None, keys: list[str], come: list[tuple[tuple, Any]]) -> dict[int, Verdict]:
    """The verdicts that have come, by input, in the store if there is one."""
    found, records = {}, {}
    for (i, *_, options), result in come:
        if isinstance(result, Exception):
            warnings.warn(f"input {i}: its worker died twice ({result!r}); it counts as unknown", stacklevel=3)
            found[i] = Verdict("unknown", DIED, -math.inf, 0.0)
            continue
        found[i], made = result
        if folder is not None and found[i].proof is not None:
            write(folder / f"{keys[i]}.proof", found[i].proof)
        # where a licence of Gurobi's was too small, the last stage is still to come; HiGHS would not do better another time
        to_come = found[i].status == "unknown" and options["solver"] == "gurobi"
        last_stage = found[i].stage if to_come else options["last_stage"]
        records[keys[i]] = _record(found[i], options["time_limit"], last_stage) | made
    if book is not None:
        book.records.extend(records)
    return found


def _gaps(net: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    dtype = next((p.dtype for p in net.parameters()), x.dtype)
    with torch.no_grad():
        logits = torch.cat([net(part.to(dtype)) for part in x.split(250)])
    right = logits.gather(1, y[:, None])[:, 0]
    return (right - logits.scatter(1, y[:, None], -math.inf).amax(1)).tolist()


# ---------------------------------------------------------------------------------------------- the store


def _key(network: str, x: Tensor, y: int, eps: float, margin: float) -> str:
    """What a verdict is about: network, input, label, eps and margin, as a SHA-256."""
    digest = hashlib.sha256(f"{network} {y} {float(eps)!r} {float(margin)!r} ".encode())
    digest.update(x.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _made_here() -> Record:
    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"version": __version__, "date": datetime.date.today().isoformat(), "machine": machine}


def _record(verdict: Verdict, time_limit: float, last_stage: str) -> Record:
    return {
        "status": verdict.status,
        "stage": verdict.stage,
        "bound": verdict.bound if math.isfinite(verdict.bound) else None,
        "seconds": round(verdict.seconds, 4),
        "unstable": list(verdict.unstable),
        "time_limit": time_limit,
        "last_stage": last_stage,
        "witness": None if verdict.witness is None else packed_array(verdict.witness.cpu().numpy()),
        "grade": verdict.grade,
    }


def _verdict(line: Record) -> Verdict:
    witness = None if line["witness"] is None else torch.from_numpy(unpacked_array(line["witness"]))
    bound = -math.inf if line["bound"] is None else float(line["bound"])
    solved = line.get("grade", "") == "solved"
    return Verdict(line["status"], line["stage"], bound, line["seconds"], tuple(line["unstable"]), witness, asked=solved)


class Store:
    """Verdicts in a file, as :class:`advlab.store.Records`: with the version, date and machine that they were made by.

    Raises
    ------
    StoreError
        For a file that is no store, which is left as it is, and for one that is damaged.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()) / "verdicts.sqlite")
    >>> store.add("image 7", Verdict("unknown", "branch and bound", -0.1, 2.0), time_limit=2.0, last_stage="mixed-integer")
    >>> store.get("image 7", time_limit=1.0).status, store.get("image 7", time_limit=60.0)  # with more time, ask again
    ('unknown', None)
    """

    def __init__(self, path: str | Path) -> None:
        self.records = Records(path, "verdict")

    def __len__(self) -> int:
        return len(self.records)

    def get(self, key: str, time_limit: float = 0.0, last_stage: str = STAGES[0]) -> Verdict | None:
        """The verdict of ``key``; None if there is none, or an "unknown" of less time or fewer stages than asked for."""
        line = self.records.get(key)
        try:
            if line is None or (
                line["status"] == "unknown"
                and (line["time_limit"] < time_limit or STAGES.index(line["last_stage"]) < STAGES.index(last_stage))
            ):
                return None
            return _verdict(line)
        except UNREADABLE as e:
            raise StoreError(f"{self.records.path} has a record that is no verdict ({e!r}): name another file") from e

    def add(self, key: str, verdict: Verdict, time_limit: float, last_stage: str) -> None:
        """Add a verdict, made here and now, and wait until it is on the disk."""
        self.records.extend({key: _record(verdict, time_limit, last_stage) | _made_here()})

    def pack(self, to: str | Path) -> Path:
        """Write all verdicts to an .xz, in the order of their keys, and return its path.

        Witnesses that no search was needed for are left out: :func:`verify` finds them again in milliseconds.
        """
        lines = [{"key": key, **line} for key, line in sorted(self.records.items())]
        lines = [line | {"witness": None} if line["stage"] in ("prediction", "pgd") else line for line in lines]
        return write(to, lzma.compress("".join(json.dumps(line) + "\n" for line in lines).encode(), preset=9))
