"""Chapter 3: many verdicts over executors, in a store that survives kill -9, dying workers, a Dask cluster, the command."""

import json
import lzma
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import distributed
import pytest
import torch
from torch import nn

from advlab import verification
from advlab.__main__ import main
from advlab.verification import dataset

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


def test_executors_and_orders_change_nothing(serial, tmp_path):
    net, x, y = problem()
    with ThreadPoolExecutor(3) as threads:
        assert facts(verification.verify_dataset(net, x, y, EPS, executor=threads, progress=False)) == facts(serial)
    with verification.worker_pool(2) as pool:
        store = tmp_path / "deep" / "verdicts.jsonl"
        found = verification.verify_dataset(net, x, y, EPS, executor=pool, store=store, hardest_first=True, progress=False)
    assert facts(found) == facts(serial)
    assert len(store.read_text().splitlines()) == len(x)


def test_a_store_answers_for_what_it_knows(serial, tmp_path, monkeypatch):
    net, x, y = problem()
    store = tmp_path / "verdicts.jsonl"
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
    store = tmp_path / "verdicts.jsonl"
    asked = []

    def undecided(*args, **options):
        asked.append((options["time_limit"], options["last_stage"]))
        return verification.Verdict("unknown", "crown", -1.0, 0.1)

    monkeypatch.setattr(dataset, "verify", undecided)
    for limit, stage in ((1, "crown"), (1, "crown"), (0.5, "crown"), (2, "crown"), (1, "alpha-crown"), (1, "crown")):
        verification.verify_dataset(net, x, y, EPS, store=store, time_limit=limit, last_stage=stage, progress=False)
    assert asked == [(1, "crown"), (2, "crown"), (1, "alpha-crown")]


def test_a_packed_store_is_read(serial, tmp_path, monkeypatch):
    net, x, y = problem()
    store = tmp_path / "verdicts.jsonl"
    verification.verify_dataset(net, x, y, EPS, store=store, progress=False)
    packed = verification.Store(store).pack(tmp_path / "verdicts.jsonl.xz")
    assert packed.stat().st_size < store.stat().st_size / 2
    kept = [json.loads(line) for line in lzma.decompress(packed.read_bytes()).splitlines()]
    without = {line["stage"] for line in kept if line["witness"] is None and line["status"] == "counterexample"}
    assert without <= {"prediction", "pgd"}
    monkeypatch.setattr(dataset, "verify", None)
    assert facts(verification.verify_dataset(net, x, y, EPS, store=packed, progress=False)) == facts(serial)
    with pytest.raises(verification.StoreError, match="unpack"):
        verification.Store(packed).add("k", serial.verdicts[0], 1.0, "crown")


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_line_that_was_cut_off_is_made_again(serial, tmp_path, cut):
    net, x, y = problem()
    store = tmp_path / "verdicts.jsonl"
    verification.verify_dataset(net, x, y, EPS, store=store, progress=False)
    whole = store.read_bytes()
    store.write_bytes(whole[:-cut])
    assert facts(verification.verify_dataset(net, x, y, EPS, store=store, progress=False)) == facts(serial)
    lines = [json.loads(line) for line in store.read_text().splitlines()]
    assert len({line["key"] for line in lines}) == len(lines) == len(x)


def test_files_that_are_no_stores_are_named_and_kept(tmp_path):
    for name, text in (("a.txt", "my thesis"), ("b.txt", "my thesis\n"), ("c.txt", '{"key": "k"}\n'), ("d.txt", "[1]\n[2]\n")):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(verification.StoreError, match=name):
            verification.Store(path)
        assert path.read_text() == text
    (tmp_path / "e.jsonl.xz").write_bytes(lzma.compress(b'{"key": "k"'))
    with pytest.raises(verification.StoreError, match="middle"):
        verification.Store(tmp_path / "e.jsonl.xz")


def test_bad_calls_are_named_before_any_work(tmp_path):
    net, x, y = problem()
    store = tmp_path / "verdicts.jsonl"
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
    sys.path.insert(0, {tests!r})
    import test_stability_dataset as t
    from advlab import verification
    torch.set_num_threads(1)
    add = verification.Store.add
    verification.Store.add = lambda *a: (add(*a), time.sleep(0.03))  # so that whoever kills it is quick enough
    net, x, y = t.problem(200)
    verification.verify_dataset(net, x, y, t.EPS, store=sys.argv[1], progress=False)
"""


def test_killed_ten_times_the_store_is_that_of_one_run(tmp_path):
    """Kill -9 at ten random moments of a run over 200 inputs."""
    net, x, y = problem(200)
    whole = tmp_path / "whole.jsonl"
    verification.verify_dataset(net, x, y, EPS, store=whole, progress=False)
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent))))
    store = tmp_path / "killed.jsonl"
    store.touch()
    chance = random.Random(0)
    kills = 0
    for _ in range(10):
        before = store.stat().st_size
        process = subprocess.Popen([sys.executable, str(script), str(store)], env={**os.environ, "OMP_NUM_THREADS": "1"})
        goal = before + chance.randrange(1, 5000)
        while store.stat().st_size < goal and process.poll() is None:
            time.sleep(0.001)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills == 10, "every run was killed while it worked"
    assert 0 < len(store.read_bytes().splitlines()) < 200
    subprocess.run([sys.executable, str(script), str(store)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def told(path):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert len({line["key"] for line in lines}) == len(lines) == 200
        return {line["key"]: {k: v for k, v in line.items() if k != "seconds"} for line in lines}

    assert told(store) == told(whole)


class Bait(nn.Linear):
    """A layer like any other, but whoever unpickles it imports this module; and a worker that does dies of a certain input."""


if os.environ.get("ADVLAB_TEST_HOME", str(os.getpid())) != str(os.getpid()):
    alive = dataset.verify
    dataset.verify = lambda net, x, *others, **options: os._exit(1) if x[0] > 0.99 else alive(net, x, *others, **options)


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


def test_a_cluster_that_loses_a_worker_gives_the_same_verdicts(serial, tmp_path):
    """Two worker processes under a local Dask cluster, one killed in mid-run."""
    net, x, y = problem()
    store = tmp_path / "verdicts.jsonl"
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
        add = dataset.Store.add

        def kill_after_three(self, *args):
            add(self, *args)
            if len(self) == 3:
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dataset.Store, "add", kill_after_three)
            found = verification.verify_dataset(net, x, y, EPS, executor=client.get_executor(), store=store, progress=False)
    assert killed
    assert facts(found) == facts(serial)


def test_the_command_verifies_and_goes_on(tmp_path, capsys):
    store = tmp_path / "v.jsonl"
    line = ["verify", "mnist_adversarial", "--eps", "1/20", "--store", str(store)]
    assert main([*line, "--images", "2"]) == 0
    assert "2 images: 100.00% proved robust" in capsys.readouterr().out
    assert main([*line, "--images", "4", "--workers", "2"]) == 0
    assert len(store.read_text().splitlines()) == 4
    for bad in ("much", "1/0"):
        with pytest.raises(SystemExit):
            main(["verify", "mnist_adversarial", "--eps", bad])
        assert "give a number such as 0.1 or 2/255" in capsys.readouterr().err
    assert main(["verify", "no_such_network", "--eps", "0.1"]) == 1
    assert "zoo" in capsys.readouterr().err
    with dask.config.set({"distributed.comm.timeouts.connect": "500ms"}):
        assert main([*line, "--images", "5", "--scheduler", "tcp://127.0.0.1:1"]) == 1
    assert len(store.read_text().splitlines()) == 4
