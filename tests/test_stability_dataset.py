"""Chapter 3: many verdicts over executors, in a store that survives kill -9, dying workers, a Dask cluster, the command."""

import collections
import functools
import json
import lzma
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import distributed
import pytest
import torch
from torch import nn

import advlab
from advlab import verification
from advlab.__main__ import main
from advlab.store import Records
from advlab.verification import dataset
from labbook import evidence

EPS = 0.08


def problem(n=24):
    """A small network and inputs of which some are robust, some attacked and some misclassified."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(3)
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 6, generator=generator)
    y = net(x).argmax(1)
    y[::7] = (y[::7] + 1) % 3
    return net, x, y


def facts(found):
    return [(v.status, v.stage, v.bound, v.unstable) for v in found.verdicts]


@pytest.fixture(scope="module")
def serial():
    net, x, y = problem()
    return verification.verify_dataset(net, x, y, EPS, progress=False)


def test_serial_verdicts_are_those_of_verify(serial):
    net, x, y = problem()
    assert facts(serial) == [
        (v.status, v.stage, v.bound, v.unstable)
        for v in (verification.verify(net, x[i], int(y[i]), EPS) for i in range(len(x)))
    ]
    assert {"robust", "counterexample"} <= {v.status for v in serial.verdicts}
    assert serial.count("robust") + serial.count("counterexample") + serial.count("unknown") == len(serial) == len(x)
    assert serial.provable <= serial.upper
    assert serial.interval[0] < serial.provable < serial.interval[1]
    assert sum(serial.stages.values()) == len(x)
    assert len(serial.seconds()) == len(x) - serial.stages["prediction"]
    assert len(serial.seconds(correct=False)) == len(x)


@pytest.mark.book  # takes longer than make quick has
def test_executors_and_orders_change_nothing(serial, tmp_path):
    net, x, y = problem()
    with ThreadPoolExecutor(3) as threads:
        assert facts(verification.verify_dataset(net, x, y, EPS, executor=threads, progress=False)) == facts(serial)
    with verification.worker_pool(2) as pool:
        store = tmp_path / "deep" / "verdicts.sqlite"
        found = verification.verify_dataset(net, x, y, EPS, executor=pool, store=store, hardest_first=True, progress=False)
    assert facts(found) == facts(serial)
    assert len(verification.Store(store)) == len(x)


def test_a_network_is_read_once_for_all_inputs_and_again_when_it_has_changed(monkeypatch):
    net, x, y = problem(6)
    read = []
    true = verification.prepared.what_is_read
    monkeypatch.setattr(verification.prepared, "what_is_read", lambda *args: read.append(1) or true(*args))
    before = verification.verify_dataset(net, x, y, EPS, progress=False, last_stage="crown")
    assert len(read) <= 2
    net[-1].weight.data *= -1  # no version counter sees that
    after = verification.verify_dataset(net, x, y, EPS, progress=False, last_stage="crown")
    assert facts(after) != facts(before)
    assert len(read) <= 4


def test_a_store_answers_for_what_it_knows(serial, tmp_path, monkeypatch):
    net, x, y = problem()
    store = tmp_path / "verdicts.sqlite"
    first = verification.verify_dataset(net, x[:10], y[:10], EPS, store=store, progress=False)
    asked = []
    true = dataset.verify
    monkeypatch.setattr(dataset, "verify", lambda *args, **options: asked.append(1) or true(*args, **options))
    again = verification.verify_dataset(net, x, y, EPS, store=store, progress=False)
    assert len(asked) == len(x) - 10
    assert facts(again) == facts(serial)
    assert facts(first) == facts(serial)[:10]
    for a, b in zip(again.verdicts, serial.verdicts, strict=True):
        assert (a.witness is None) == (b.witness is None)
        assert a.witness is None or torch.equal(a.witness, b.witness)
    asked.clear()
    verification.verify_dataset(net, x, y, EPS / 2, store=store, progress=False)
    assert len(asked) == len(x), "another budget is another question"
    asked.clear()
    verification.verify_dataset(net, x, (y + 1) % 3, EPS, store=store, progress=False)
    assert len(asked) == len(x), "another label too"
    with torch.no_grad():
        net[0].bias[0] += 1e-6
    asked.clear()
    verification.verify_dataset(net, x, y, EPS, store=store, progress=False)
    assert len(asked) == len(x), "and another network"


def test_unknown_is_asked_again_with_more_time_or_stages(tmp_path, monkeypatch):
    net, x, y = problem(1)
    store = tmp_path / "verdicts.sqlite"
    asked = []

    def undecided(*args, **options):
        asked.append((options["time_limit"], options["last_stage"]))
        return verification.Verdict("unknown", "crown", -1.0, 0.1)

    monkeypatch.setattr(dataset, "verify", undecided)
    for limit, stage in ((1, "crown"), (1, "crown"), (0.5, "crown"), (2, "crown"), (1, "alpha-crown"), (1, "crown")):
        verification.verify_dataset(net, x, y, EPS, store=store, time_limit=limit, last_stage=stage, progress=False)
    assert asked == [(1, "crown"), (2, "crown"), (1, "alpha-crown")]
    for _ in range(2):  # it ends before the solver, whose program is too large, and would again
        verification.verify_dataset(net, x, y, EPS, store=store, time_limit=3, last_stage="mixed-integer", progress=False)
    assert asked[3:] == [(3, "mixed-integer")]


def test_a_packed_store_is_read(serial, tmp_path, monkeypatch):
    net, x, y = problem()
    store = tmp_path / "verdicts.sqlite"
    verification.verify_dataset(net, x, y, EPS, store=store, progress=False)
    packed = verification.Store(store).pack(tmp_path / "verdicts.jsonl.xz")
    assert packed.stat().st_size < store.stat().st_size / 2
    assert evidence._verdicts(packed, 0).version == advlab.__version__
    kept = [json.loads(line) for line in lzma.decompress(packed.read_bytes()).splitlines()]
    without = {line["stage"] for line in kept if line["witness"] is None and line["status"] == "counterexample"}
    assert without <= {"prediction", "pgd"}
    monkeypatch.setattr(dataset, "verify", None)
    assert facts(verification.verify_dataset(net, x, y, EPS, store=packed, progress=False)) == facts(serial)
    assert all(line["machine"] and line["date"] for line in kept)
    with pytest.raises(verification.StoreError, match="unpack"):
        verification.Store(packed).add("k", serial.verdicts[0], 1.0, "crown")
    with pytest.raises(verification.StoreError, match="unpack"):  # and no work is begun
        verification.verify_dataset(net, x, y, 2 * EPS, store=packed, progress=False)


def test_lines_of_earlier_versions_are_taken_over(serial, tmp_path, monkeypatch):
    net, x, y = problem()
    new = tmp_path / "new.sqlite"
    verification.verify_dataset(net, x, y, EPS, store=new, progress=False)
    lines = [{"key": key, **record} for key, record in verification.Store(new).records.items()]
    old = tmp_path / "old.jsonl"
    for line in lines:
        del line["version"], line["date"], line["machine"]
    old.write_text("".join(json.dumps(line) + "\n" for line in lines)[:-100])  # the last was cut off by a kill
    before = old.read_bytes()
    with pytest.raises(verification.StoreError, match=r"earlier version: .*take\("):
        verification.verify_dataset(net, x, y, EPS, store=old, progress=False)
    taken = verification.Store(tmp_path / "taken.sqlite")
    assert taken.records.take(old) == len(x) - 1
    asked = []
    true = dataset.verify
    monkeypatch.setattr(dataset, "verify", lambda *args, **options: asked.append(1) or true(*args, **options))
    assert facts(verification.verify_dataset(net, x, y, EPS, store=taken.records.path, progress=False)) == facts(serial)
    assert len(asked) == 1
    assert old.read_bytes() == before


def test_two_runs_share_the_work(serial, tmp_path, monkeypatch):
    net, x, y = problem()
    asked = []
    true = dataset.verify

    def slow(*args, **options):
        asked.append(threading.get_ident())
        time.sleep(0.1)
        return true(*args, **options)

    monkeypatch.setattr(dataset, "verify", slow)
    run = functools.partial(verification.verify_dataset, store=tmp_path / "verdicts.sqlite", progress=False)
    with ThreadPoolExecutor(2) as both:
        ends = [both.submit(run, net, x, y, EPS, hardest_first=True) for _ in range(2)]
        assert all(facts(end.result()) == facts(serial) for end in ends)
    shares = collections.Counter(asked).values()
    assert len(shares) == 2
    assert min(shares) >= len(x) / 4
    assert len(asked) <= 1.4 * len(x), "few are verified twice"


def test_a_record_that_is_no_verdict_is_named(tmp_path):
    path = tmp_path / "cells.sqlite"
    Records(path, "verdict").extend({"a": {"status": "robust"}})
    with pytest.raises(verification.StoreError, match=r"cells.sqlite has a record that is no verdict"):
        verification.Store(path).get("a")


def test_bad_calls_are_named_before_any_work(tmp_path):
    net, x, y = problem()
    store = tmp_path / "verdicts.sqlite"
    with pytest.raises(ValueError, match="equally many"):
        verification.verify_dataset(net, x, y[:3], EPS, store=store)
    with pytest.raises(TypeError, match="Tanh"):
        verification.verify_dataset(nn.Sequential(nn.Linear(6, 3), nn.Tanh()).eval(), x, y, EPS, store=store)
    for executor in (None, ThreadPoolExecutor(1)):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            verification.verify_dataset(net, x * 3, y, EPS, executor=executor, store=store)
        with pytest.raises(ValueError, match="classes"):
            verification.verify_dataset(net, x, y + 1, EPS, executor=executor, store=store)
    assert not store.exists()


SCRIPT = """
import sys, time, torch
from advlab import verification
from advlab.store import Records

torch.set_num_threads(1)
extend = Records.extend
Records.extend = lambda *a: (extend(*a), time.sleep(0.03))  # so that whoever kills it is quick enough
net, x, y = torch.load("problem.pt", weights_only=False)
verification.verify_dataset(net, x, y, float(sys.argv[2]), store=sys.argv[1], progress=False)
"""


@pytest.mark.book  # takes longer than make quick has
def test_killed_four_times_the_store_is_that_of_one_run(tmp_path):
    """Kill -9 at four random moments of a run over 100 inputs."""
    net, x, y = problem(100)
    whole = tmp_path / "whole.sqlite"
    verification.verify_dataset(net, x, y, EPS, store=whole, progress=False)
    torch.save((net, x, y), tmp_path / "problem.pt")
    store = tmp_path / "killed.sqlite"
    command = [sys.executable, "-c", SCRIPT, str(store), str(EPS)]
    chance = random.Random(0)
    kills, before = 0, 0
    for _ in range(4):
        process = subprocess.Popen(command, cwd=tmp_path)
        goal = before + chance.randrange(1, 12)
        while len(verification.Store(store)) < goal and process.poll() is None:
            time.sleep(chance.random() / 50)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        known = len(verification.Store(store))
        assert known >= goal
        before = known
    assert kills == 4, "every run was killed while it worked"
    assert before < 100
    subprocess.run(command, check=True, cwd=tmp_path)

    def told(path):
        return {key: record | {"seconds": 0} for key, record in verification.Store(path).records.items()}

    assert told(store) == told(whole)
    assert len(told(store)) == 100


class Bait(nn.Linear):
    """A layer like any other, but whoever unpickles it imports this module; and a worker that does dies of a certain input."""


if os.environ.get("ADVLAB_TEST_HOME", str(os.getpid())) != str(os.getpid()):
    alive = dataset.verify
    dataset.verify = lambda net, x, *others, **options: os._exit(1) if x[0] > 0.99 else alive(net, x, *others, **options)


@pytest.mark.book  # takes longer than make quick has
def test_a_dead_worker_costs_one_input(monkeypatch):
    monkeypatch.setenv("ADVLAB_TEST_HOME", str(os.getpid()))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    net, x, y = problem(8)
    x[x > 0.98] = 0.9
    expected = verification.verify_dataset(net, x, y, EPS, last_stage="prediction", progress=False)
    net[0].__class__ = Bait
    x[5, 0] = 1.0
    with verification.worker_pool(2) as pool, pytest.warns(UserWarning, match="input 5: its worker died"):
        found = verification.verify_dataset(net, x, y, EPS, executor=pool, last_stage="prediction", progress=False)
    assert found.verdicts[5].status == "unknown"
    assert found.verdicts[5].stage == "worker died"
    others = [i for i in range(8) if i != 5]
    assert [facts(found)[i] for i in others] == [facts(expected)[i] for i in others]


@pytest.mark.book  # takes longer than make quick has
def test_a_cluster_that_loses_a_worker_gives_the_same_verdicts(serial, tmp_path):
    """Two worker processes under a local Dask cluster, one killed in mid-run."""
    net, x, y = problem()
    store = tmp_path / "verdicts.sqlite"
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50, local_directory=tmp_path
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())
        assert len(set(pids)) == 2
        assert os.getpid() not in pids
        killed = []
        extend = Records.extend

        def kill_after_three(self, records):
            extend(self, records)
            if len(self) >= 3 and not killed:
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Records, "extend", kill_after_three)
            found = verification.verify_dataset(net, x, y, EPS, executor=client.get_executor(), store=store, progress=False)
    assert killed
    assert facts(found) == facts(serial)


def test_the_command_verifies_and_goes_on(tmp_path, capsys):
    store = tmp_path / "v.sqlite"
    line = ["verify", "mnist_adversarial", "--eps", "1/20", "--store", str(store)]
    assert main([*line, "--images", "2"]) == 0
    assert "2 images: 100.00% proved robust" in capsys.readouterr().out
    assert main([*line, "--images", "4", "--workers", "2"]) == 0
    assert len(verification.Store(store)) == 4
    known = dict(verification.Store(store).records)
    old = "\n".join(json.dumps({"key": key, **record}) for key, record in known.items())
    store.rename(tmp_path / "later")
    store.with_suffix(".jsonl").write_text(old)
    assert main([*line, "--images", "4"]) == 0
    assert dict(verification.Store(store).records) == known, (
        "lines of an earlier version are taken over, and nothing is verified"
    )
    for bad in ("much", "1/0"):
        with pytest.raises(SystemExit):
            main(["verify", "mnist_adversarial", "--eps", bad])
        assert "give a number such as 0.1 or 2/255" in capsys.readouterr().err
    assert main(["verify", "no_such_network", "--eps", "0.1"]) == 1
    assert "zoo" in capsys.readouterr().err
    with dask.config.set({"distributed.comm.timeouts.connect": "500ms"}):
        assert main([*line, "--images", "5", "--scheduler", "tcp://127.0.0.1:1"]) == 1
    assert len(verification.Store(store)) == 4
