"""Work that is spread: in order, over threads and processes, with workers that die, and ends that are prompt."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from advlab import work

PID = "__import__('os').getpid()"


def results(groups, lanes=()):
    """Task -> result. A task is a Python expression, which a process that imported nothing can evaluate."""
    return {task: found for come in work.spread(eval, groups, lanes) for (task,), found in come}


def test_the_first_group_is_begun_first_and_drawn_when_its_turn_has_come():
    drawn, begun = [], []

    def groups():
        for i in range(6):
            drawn.append(i)
            yield [(i,)]

    def task(i):
        begun.append((i, len(drawn)))
        return -i

    for lanes in (1, 2):
        drawn.clear()
        begun.clear()
        with ThreadPoolExecutor(1) as thread:
            found = [pair for come in work.spread(task, groups(), [thread] * lanes) for pair in come]
        assert sorted(found) == [((i,), -i) for i in range(6)]
        assert [i for i, _ in begun] == list(range(6))
        assert all(there <= i + 1 + lanes for i, there in begun)


@pytest.mark.book  # takes longer than make quick has
def test_a_group_stays_with_one_process_and_a_death_costs_one_task(tmp_path):
    mark = f"__import__('pathlib').Path({str(tmp_path / 'died')!r})"
    once = f"(lambda p: p.exists() or (p.touch(), __import__('os')._exit(1)))({mark})"
    always = "__import__('os')._exit(1)"
    mates = [[(f"({i}, {k}, {PID})",) for k in range(3)] for i in range(4)]
    with work.workers(2) as lanes:
        found = results([*mates, [(once,), (always,)]], lanes)
        ends = {task: pid for task, pid in found.items() if "getpid" in task}
        assert all(len({ends[task][2] for (task,) in group}) == 1 for group in mates)
        assert os.getpid() not in {pid for _, _, pid in ends.values()}
        assert found[once] is True, "the second time it went well"
        assert isinstance(found[always], Exception)
        assert results([[("1 + 1",)]], lanes) == {"1 + 1": 2}, "a lane whose worker has died is begun anew"


def test_what_a_task_says_of_itself_is_raised():
    with ThreadPoolExecutor(2) as threads:
        for lanes in ((), [threads]):
            with pytest.raises(TypeError, match="unsupported operand"):
                results([[("1 + None",)]], lanes)


def test_an_executor_that_cannot_be_replaced_is_named():
    def broken():
        raise OSError("no thread starts")

    with ThreadPoolExecutor(1, initializer=broken) as threads, pytest.raises(RuntimeError, match="is broken; give a new one"):
        results([[("1",)]], [threads])


SCRIPT = """
import signal, sys, time
from advlab import verification, work

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started the tests in the background
    tasks = ["__import__('os').getpid()", *["__import__('time').sleep(600)"] * 9]
    with verification.worker_pool(2) as pool:
        for come in work.spread(eval, [[(task,)] for task in tasks], [pool] * 4):
            print(*[pid for _, pid in come], flush=True)
"""


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.book  # takes longer than make quick has
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_parent_and_the_end_is_prompt(tmp_path, how):
    (tmp_path / "run.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "run.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    assert not gone(worker)
    process.send_signal(how)
    began = time.monotonic()
    timer = threading.Timer(60, process.kill)
    timer.start()
    assert process.wait() == (-signal.SIGKILL if how == signal.SIGKILL else -signal.SIGINT)
    process.communicate()
    timer.cancel()
    while not gone(worker):
        assert time.monotonic() < began + 30
        time.sleep(0.02)
