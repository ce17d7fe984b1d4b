"""One way to spread work: over threads, processes or a cluster, with what died tried once more, alone."""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from typing import Any

import torch

#: What a task raises about itself; any other error counts as the death of its worker.
OF_THE_TASK = (TypeError, ValueError, ImportError, AttributeError, pickle.PicklingError)


class WorkerPool(ProcessPoolExecutor):
    """Of :func:`worker_pool`."""

    def __init__(self, workers: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        theirs, self._line = context.Pipe(duplex=False)
        super().__init__(workers or os.cpu_count(), mp_context=context, initializer=_begin, initargs=(theirs,))

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:  # pyrefly: ignore[bad-override]
        if kind is not None:
            self._line.close()
        self.shutdown(cancel_futures=kind is not None)


def worker_pool(workers: int | None = None) -> WorkerPool:
    """Processes for :func:`spread`, started afresh (spawn); by default one a core.

    Guarantee
    ---------
    None outlives its parent, killed or not. Where an exception leaves the ``with`` block, Ctrl-C too, they end at once.

    Examples
    --------
    >>> with worker_pool(2) as pool:  # for verify_dataset(..., executor=pool)
    ...     print(isinstance(pool, Executor))
    True
    """
    return WorkerPool(workers)


def _begin(line: Any) -> None:
    """End this process when the other end of ``line`` is closed, by the parent or by its death."""

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            line.recv()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent acts on it
    threading.Thread(target=listen, daemon=True).start()


@contextlib.contextmanager
def workers(count: int = 1, scheduler: str | None = None) -> Iterator[list[Executor]]:
    """An executor for each of ``count`` processes (none for 1: here), or of the workers that a Dask scheduler has now.

    Raises
    ------
    RuntimeError
        Where Dask is not installed or the scheduler has no workers.
    OSError
        Where the scheduler, "tcp://...", is not reached.
    """
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            yield [stack.enter_context(worker_pool(1)) for _ in range(count if count > 1 else 0)]
            return
        try:
            from distributed import Client
        except ImportError as e:
            raise RuntimeError("a scheduler needs Dask: pip install 'advlab[cluster]'") from e
        client: Any = stack.enter_context(Client(scheduler))
        addresses = client.nthreads()
        if not addresses:
            raise RuntimeError(f"the scheduler {scheduler} has no workers: start some, then run this again")
        yield [client.get_executor(workers=[address], allow_other_workers=True) for address in addresses]


def spread(
    function: Callable[..., Any], groups: Iterable[Sequence[tuple]], lanes: Sequence[Executor] = ()
) -> Generator[list[tuple[tuple, Any]], None, None]:
    """Call ``function(*task)`` for each task of ``groups`` and yield lists of (task, result), as they come.

    The first group is begun first. A lane is an executor that is given one task at a time, and draws a group when the one
    before is done: so the tasks of a group share what a worker keeps, where a lane is one process. An executor of several
    workers may stand there several times. Workers use one thread each. Without lanes all is done here.

    The result of a task whose worker dies twice, the second time at the end with no other task at its side, is the error.

    Raises
    ------
    RuntimeError
        Where an executor breaks that is no pool of processes.
    OF_THE_TASK
        What ``function`` raises of these.

    Examples
    --------
    >>> list(spread(divmod, [[(7, 2), (9, 2)]]))
    [[((7, 2), (3, 1))], [((9, 2), (4, 1))]]
    """
    if not lanes:
        yield from ([(task, function(*task))] for group in groups for task in group)
        return
    with contextlib.closing(_Lanes(function, groups, lanes)) as run:
        for k in range(len(lanes)):
            run.advance(k)
        while run.out:
            yield run.finished()
        for task in run.suspects:
            run.submit(0, task)
            yield run.finished(last=True)


class _Lanes:
    """What :func:`spread` has given out, and what waits."""

    def __init__(self, function: Callable[..., Any], groups: Iterable[Sequence[tuple]], lanes: Sequence[Executor]) -> None:
        self.function, self.groups, self.lanes = function, filter(None, groups), list(lanes)
        self.own = [collections.deque[tuple]() for _ in lanes]
        self.out: dict[Future, tuple[int, Executor, tuple]] = {}
        self.suspects: list[tuple] = []
        self.started: list[WorkerPool] = []

    def advance(self, k: int) -> None:
        """Give lane ``k`` its next task, if there is one."""
        self.own[k] = self.own[k] or collections.deque(next(self.groups, ()))
        if self.own[k]:
            self.submit(k, self.own[k].popleft())

    def submit(self, k: int, task: tuple) -> None:
        try:
            future = self.lanes[k].submit(_one_thread, self.function, task)
        except BrokenExecutor:  # a worker died while it had nothing to do
            self.replace(self.lanes[k])
            future = self.lanes[k].submit(_one_thread, self.function, task)
        self.out[future] = k, self.lanes[k], task

    def finished(self, last: bool = False) -> list[tuple[tuple, Any]]:
        """Wait for results; their lanes go on. What died becomes a suspect, or where it is the ``last`` try, a result."""
        results = []
        for future in wait(self.out, return_when=FIRST_COMPLETED).done:
            k, executor, task = self.out.pop(future)
            try:
                results.append((task, future.result()))
            except OF_THE_TASK:
                raise
            except Exception as e:
                if isinstance(e, BrokenExecutor):
                    self.replace(executor)
                if last:
                    results.append((task, e))
                else:
                    self.suspects.append(task)
            if not last:
                self.advance(k)
        return results

    def replace(self, broken: Executor) -> None:
        """A broken pool cannot be used again: a new one takes its place."""
        if not isinstance(broken, ProcessPoolExecutor):
            raise RuntimeError(f"the executor {broken!r} is broken; give a new one, with the same store to go on from here")
        if broken in self.lanes:
            self.started.append(worker_pool(getattr(broken, "_max_workers", None)))
            self.lanes = [self.started[-1] if lane is broken else lane for lane in self.lanes]

    def close(self) -> None:
        """Whatever is still out, because whoever asked stopped, is given up at once."""
        for future in self.out:
            future.cancel()
        for pool in self.started:
            pool.__exit__(KeyboardInterrupt if self.out else None)


def _one_thread(function: Callable[..., Any], task: tuple) -> Any:
    torch.set_num_threads(1)
    return function(*task)
