"""Measuring many claims: over processes and a cluster as in one process, killed and gone on, and set beside what was there."""

import collections
import dataclasses
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed
import docutils.nodes
import pytest
import torch

from advlab import work
from advlab.__main__ import main
from advlab.store import Records, StoreError
from labbook import digest, reproduce, results

CLAIMS = """
import functools, os, signal, time
from pathlib import Path

import torch

from advlab import evaluate, spheres
from labbook import results
from labbook.results import Measurement, claim

results.CHAPTERS["trial"] = ("trial_claims",)


def ran(name):
    with open(os.environ["TRIAL_LOG"], "a") as f:
        f.write(f"{name} {os.getpid()}\\n")
    time.sleep(float(os.environ.get("TRIAL_SECONDS", 0)))


@functools.cache
def points(n):
    ran("points")
    return spheres.sample_sphere(n or 400, 50, generator=torch.Generator().manual_seed(0))


def of_points(name, limit):
    @claim(f"trial.{name}", name)
    def share(n=None):
        ran(name)
        x = points(n)
        k = int((x[:, 0] > limit).sum())
        return Measurement(k / len(x), len(x), evaluate.clopper_pearson(k, len(x)), series={"x": x[:5, 1].tolist()})


of_points("above_0", 0.0)
of_points("above_1", 0.1)


@claim("trial.cap", "cap", unit="", digits=4)
def cap(n=None):
    ran("cap")
    return Measurement(spheres.log_cap_measure(1.0, 20))


@claim("trial.slow", "slow", unit="", digits=4)
def slow(n=None):
    ran("slow")
    return Measurement(spheres.cap_angle(-3.0, 20))


@claim("trial.weak", "weak", unit="")
def weak(n=None):
    ran("weak")
    if os.environ.get("TRIAL_WEAK") == "raises":
        raise KeyError("no such thing")
    if os.environ.get("TRIAL_WEAK") == "always" or (os.environ.get("TRIAL_WEAK") == "once" and not Path("died").exists()):
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Measurement(1.0)


@claim("trial.dear", "dear", unit="", tier="laptop")
def dear(n=None):
    ran("dear")
    return Measurement(2.0)
"""
FAST = ["trial.above_0", "trial.above_1", "trial.cap", "trial.slow", "trial.weak"]


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """A chapter of small claims, an empty manifest, and a log of what was measured in which process."""
    (tmp_path / "trial_claims.py").write_text(CLAIMS)
    (tmp_path / "results").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("ADVLAB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("TRIAL_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setitem(results.CHAPTERS, "trial", ("trial_claims",))
    importlib.invalidate_caches()
    results.claims("trial")
    yield tmp_path
    for id in [id for id in results.CLAIMS if id.startswith("trial.")]:
        del results.CLAIMS[id]
    del sys.modules["trial_claims"]
    digest._module.cache_clear()


def log(folder):
    lines = [line.split() for line in (folder / "log").read_text().splitlines()] if (folder / "log").exists() else []
    return [name for name, _ in lines], dict(lines)


def facts(e):
    return dataclasses.replace(e, cpu_seconds=0.0, date="", machine={})


def test_processes_and_a_cluster_find_what_one_process_finds(trial):
    wanted = results.claims("trial")
    sys.modules["trial_claims"].points.cache_clear()
    alone = {c.id: e for c, e in reproduce.measured(wanted)}
    assert list(alone) == [*FAST, "trial.dear"]
    assert alone["trial.cap"].machine["executor"] == "one process"
    (trial / "log").unlink()
    with work.workers(2) as lanes:
        pooled = {c.id: e for c, e in reproduce.measured(wanted, lanes)}
    names, pids = log(trial)
    assert names.count("points") == 1, "claims that share it go to one worker"
    assert pids["above_0"] == pids["above_1"]
    assert len(set(pids.values())) == 2
    assert str(os.getpid()) not in pids.values()
    (trial / "log").unlink()
    options = {"processes": True, "dashboard_address": None, "silence_logs": 50, "local_directory": str(trial)}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **options) as local,
        work.workers(scheduler=local.scheduler_address) as lanes,
    ):
        spread = {c.id: e for c, e in reproduce.measured(wanted, lanes)}
    names, pids = log(trial)
    assert names.count("points") == 1
    assert len(set(pids.values())) == 2
    for found, kind in ((pooled, "process pool"), (spread, "Dask cluster")):
        assert {id: facts(e) for id, e in found.items()} == {id: facts(e) for id, e in alone.items()}
        assert {e.machine["executor"] for e in found.values()} == {kind}
        assert {e.machine["threads"] for e in found.values()} == {1}


def test_real_claims_over_processes():
    wanted = results.claims("start_here")
    here = {c.id: facts(e) for c, e in reproduce.measured(wanted, n=8)}
    with work.workers(2) as lanes:
        assert {c.id: facts(e) for c, e in reproduce.measured(wanted, lanes, n=8)} == here
    assert len(here) == len(wanted)


SCRIPT = """
import signal
import sys
import trial_claims
from advlab import work
from advlab.__main__ import main
from advlab.store import Records, StoreError

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started the tests in the background
    sys.exit(main(sys.argv[1:]))
"""


def gone(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_goes_on_where_it_stopped(trial, monkeypatch, how):
    (trial / "run.py").write_text(SCRIPT)
    command = [sys.executable, "run.py", "reproduce", "trial", "--tier", "laptop", "--workers", "2"]
    journal = trial / "results" / ".reproduce-trial-laptop.sqlite"
    monkeypatch.setenv("TRIAL_SECONDS", "0.7")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(reproduce.read(journal)) >= 2)
    process.send_signal(how)
    assert process.wait() == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    _, pids = log(trial)
    until(lambda: all(gone(pid) for pid in pids.values()), 10)
    before = reproduce.read(journal)
    assert 2 <= len(before) < 6
    assert set(results.load("trial")) <= set(before), "the journal is first"
    if how == signal.SIGINT:
        return
    monkeypatch.delenv("TRIAL_SECONDS")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"6 measured, {len(before)} of them before the run was broken off" in done.stdout
    names, _ = log(trial)
    assert all(names.count(id.partition(".")[2]) == 1 for id in before)
    after = results.load("trial")
    assert list(after) == [*FAST, "trial.dear"]
    assert all(after[id] == new for id, (new, _) in before.items())
    assert not journal.exists()


def test_a_dead_worker_costs_one_claim(trial, monkeypatch, capsys):
    monkeypatch.setenv("TRIAL_WEAK", "once")
    command = ["reproduce", "trial", "--workers", "2"]
    assert main(command) == 0
    assert set(results.load("trial")) == set(FAST)
    names, _ = log(trial)
    assert collections.Counter(names) == {"points": 1, "above_0": 1, "above_1": 1, "cap": 1, "slow": 1, "weak": 2}
    monkeypatch.setenv("TRIAL_WEAK", "always")
    (trial / "log").unlink()
    assert main(command) == 1
    said = capsys.readouterr()
    assert "not done: trial.weak: its worker died, twice" in said.err
    assert "4 measured\n    4 equal" in said.out
    assert log(trial)[0].count("weak") == 2
    assert log(trial)[0].count("cap") == 1
    (trial / "log").unlink()
    monkeypatch.delenv("TRIAL_WEAK")
    assert main(command[:2]) == 0, "only what failed is tried again, here as well as there"
    assert log(trial)[0] == ["weak"]
    assert "5 measured, 4 of them before" in capsys.readouterr().out


def test_a_claim_that_raises_is_named_and_the_others_go_on(trial, monkeypatch, capsys):
    monkeypatch.setenv("TRIAL_WEAK", "raises")
    assert main(["reproduce", "trial"]) == 1
    assert "not done: trial.weak: KeyError: 'no such thing'" in capsys.readouterr().err
    in_a_worker = reproduce.measure("trial_claims", "trial.weak", None, "process pool")
    assert in_a_worker == reproduce.Failure("KeyError: 'no such thing'")
    assert set(results.load("trial")) == set(FAST) - {"trial.weak"}


def test_a_trial_is_printed_and_not_written(trial, capsys):
    assert main(["reproduce", "trial", "--n", "7"]) == 0
    said = capsys.readouterr().out
    assert "(n = 7, " in said
    assert "no number before" not in said
    assert list((trial / "results").iterdir()) == []


def test_only_what_is_stale_is_measured(trial):
    assert main(["reproduce", "trial"]) == 0
    old = results.load("trial")
    results.save([dataclasses.replace(old["trial.cap"], code="0"), dataclasses.replace(old["trial.slow"], title="other words")])
    (trial / "log").unlink()
    assert main(["reproduce", "trial", "--stale"]) == 0
    assert log(trial)[0] == ["cap"]
    assert {id: facts(e) for id, e in results.load("trial").items()} == {id: facts(e) for id, e in old.items()}
    assert main(["reproduce", "trial", "--claim", "trial.dear"]) == 0
    assert log(trial)[0] == ["cap", "dear"]


def test_code_that_changed_since_the_kill_is_measured_again(trial):
    (c,) = (c for c in results.claims("trial") if c.id == "trial.cap")
    new = results.measure(c)
    first = dataclasses.replace(new, value=-1.0)
    journal = trial / "results" / "journal.sqlite"
    kept = Records(journal, reproduce.KIND)
    old = {"new": results.to_json(dataclasses.replace(new, code="0")), "old": results.to_json(first)}
    kept.extend({c.id: old})
    results.save([new])
    (outcome,) = reproduce.run([c], journal=journal)
    assert not outcome.earlier
    assert outcome.old == first, "it is still set beside the number before the run"
    assert not journal.exists()
    kept.extend({c.id: old | {"new": results.to_json(new)}})
    (outcome,) = reproduce.run([c], journal=journal)
    assert (outcome.earlier, outcome.found, outcome.old) == (True, new, first)
    kept.extend({c.id: {"new": {"id": c.id}, "old": None}})
    with pytest.raises(ValueError, match="is no journal of this version"):
        list(reproduce.run([c], journal=journal))
    journal.write_text("some other file\n")
    with pytest.raises(StoreError, match="is no store"):
        list(reproduce.run([c], journal=journal))
    assert journal.read_text() == "some other file\n"


def test_a_worker_with_other_code_is_refused(trial):
    results.claim_version(results.CLAIMS["trial.dear"])  # of what this process has, not of what the file will say
    with work.worker_pool(1) as pool:
        path = trial / "trial_claims.py"
        path.write_text(path.read_text().replace("Measurement(2.0)", "Measurement(3.0)"))
        found = dict(reproduce.measured([results.CLAIMS["trial.dear"], results.CLAIMS["trial.cap"]], [pool]))
    dear, cap = found[results.CLAIMS["trial.dear"]], found[results.CLAIMS["trial.cap"]]
    assert isinstance(dear, reproduce.Failure)
    assert "another version of advlab" in dear.why
    assert isinstance(cap, results.Entry)


def entry(**changes):
    (first, *_) = results.load("start_here", Path(__file__).parents[1] / "book" / "results").values()
    plain = {"value": 0.5, "interval": (0.4, 0.6), "n": 100, "flags": (), "unit": "%", "digits": 1}
    return dataclasses.replace(first, **(plain | changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "equal"),
        ({"value": 0.5 + 1e-15}, "equal"),
        ({"value": 0.55}, "close"),
        ({"n": 99}, "close"),
        ({"value": 0.61}, "differs"),
        ({"value": 0.39}, "differs"),
        ({"value": math.nan}, "differs"),
        ({"flags": ("zero-gradient",)}, "differs"),
    ],
)
def test_agreement_with_an_interval(changes, expected):
    assert reproduce.agreement(entry(**changes), entry()) == expected


def test_agreement_without_one():
    for interval in (None, (-math.inf, math.inf)):
        old = entry(interval=interval)
        assert reproduce.agreement(entry(value=0.5004), old) == "close", "the same digits"
        assert reproduce.agreement(entry(value=0.501), old) == "differs"
    never = entry(value=math.nan, interval=None)
    assert reproduce.agreement(never, never) == "equal"
    proved = entry(value=-math.inf, unit="log10")
    assert reproduce.agreement(proved, proved) == "equal"
    assert reproduce.agreement(proved, None) == "new"


def test_the_summary_names_what_differs(trial, capsys):
    assert main(["reproduce", "trial"]) == 0
    assert "5 measured\n    5 with no number before\n" in capsys.readouterr().out
    old = results.load("trial")
    share = old["trial.above_0"]
    low, high = share.interval
    assert low < share.value < high
    results.save([dataclasses.replace(share, value=low), dataclasses.replace(old["trial.cap"], value=-1.0)])
    assert main(["reproduce", "trial"]) == 0
    said = capsys.readouterr().out
    assert "5 measured\n    3 equal to the number before\n    1 inside its interval" in said
    assert f"\n      trial.above_0: before {100 * low:.1f}" in said
    assert "    1 outside of that\n      trial.cap: before -1.0000, now -" in said
    assert {id: facts(e) for id, e in results.load("trial").items()} == {id: facts(e) for id, e in old.items()}


def test_claims_that_share_dear_work_stay_together():
    wanted = results.claims()
    groups = reproduce.together(wanted)
    assert sorted(c.id for group in groups for c in group) == sorted(c.id for c in wanted)
    of = {c.id: i for i, group in enumerate(groups) for c in group}
    assert of["feature_squeezing.detected_cifar10_1bit"] == of["feature_squeezing.detected_cifar10_joint"]
    assert of["adversarial_spheres.perfect_start_bad"] == of["adversarial_spheres.perfect_start_worst"]
    assert of["start_here.pgd"] != of["start_here.ddn"]
    cheap, dear = [c for c in wanted if c.id in ("start_here.clean", "start_here.ddn")]
    new = dataclasses.replace(cheap, id="start_here.never_measured")
    assert reproduce.by_cost([[cheap], [dear], [new]]) == [[new], [dear], [cheap]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_the_gpu_tier_says_what_it_cannot_do(monkeypatch, capsys):
    monkeypatch.setattr(results, "claims", lambda chapter=None: [])
    assert main(["reproduce", "random_mask", "--tier", "gpu"]) == 1
    said = capsys.readouterr()
    assert "full_resnet50, full_vgg, full_target, full_mask_50" in said.out
    assert "no GPU on this machine: that part will not be done" in said.out
    assert "cifar_cnn_long" in said.out
    assert "sphere_relu_million_1" not in said.out, "the manifest has a line of it"
    assert "mnist_03_fast_1" not in said.out, "the manifest has a line of it"
    assert "not done: python -m labbook transfer: torch finds no GPU" in said.err
    assert main(["reproduce", "start_here", "--tier", "gpu"]) == 0, "it has no such part"


def test_the_gpu_tier_makes_the_tables_where_there_is_one(monkeypatch, capsys):
    from labbook.random_mask import full_scale

    asked = []
    cell = {"accuracy": 0.25, "interval": [0.2, 0.3], "n": 300}
    monkeypatch.setattr(results, "claims", lambda chapter=None: [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(full_scale, "transfer", lambda to, device: asked.append((to, device)) or {"cells": {"vgg PGD": cell}})
    assert main(["reproduce", "--tier", "gpu"]) == 0
    assert asked == [("runs", "cuda")]
    assert "25.0% (20.0% to 30.0%), 300 images" in capsys.readouterr().out
    assert main(["reproduce", "--tier", "laptop"]) == 0
    assert len(asked) == 1


def test_an_entry_without_a_machine_is_read(tmp_path):
    old = results.to_json(entry())
    del old["machine"]
    (tmp_path / "start_here.json").write_text(json.dumps([old]))
    (found,) = results.load("start_here", tmp_path).values()
    assert found.machine == {}


def test_the_page_says_when_where_and_how(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "book" / "_ext"))
    manifest = importlib.import_module("manifest")
    here = entry(inputs={"mnist_cnn7": "0123456789abcdef"}, cpu_seconds=12.34, machine=results.machine("Dask cluster"))
    before, table, after = manifest.made([here, entry(machine={})])
    assert (before.astext().count("<details"), after.astext()) == (1, "</details>")
    first, second = [[cell.astext() for cell in row.children] for row in table.findall(docutils.nodes.row)][1:]
    assert first[:2] == [here.title, f"{here.date}, advlab {here.version}"]
    assert f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, torch {torch.__version__}, threads: 1" in first[2]
    assert first[2].endswith("cpu, Dask cluster")
    assert first[3] == f"{here.command}, tier fast, 12.3 CPU s"
    assert first[4] == f"code {here.code}, mnist_cnn7 0123456789ab"
    assert second[2] == "not recorded"
