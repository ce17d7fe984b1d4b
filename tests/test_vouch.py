"""Rewritten code that computes the same is vouched for; code that does not stays stale."""

import json
import os
import subprocess
import sys

import pytest
from browser import ROOT

from labbook import results, vouch


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone of the last commit, in which one function is rewritten and another computes something else."""
    folder = tmp_path_factory.mktemp("clone") / "house"
    subprocess.run(["git", "clone", "-q", "--shared", ROOT.as_uri(), folder], check=True)
    entries = results.load("start_here", folder / "book" / "results")
    losses = folder / "advlab" / "attacks" / "losses.py"
    text = losses.read_text()
    assert text.count("amax(1) - own") == 1
    losses.write_text(text.replace("amax(1) - own", "amax(1).sub(own)"))  # of PGD's loss
    claims = folder / "book" / "labbook" / "start_here" / "claims.py"
    text = claims.read_text()
    assert text.count("def clean(n: int = 10_000) -> Measurement:\n") == 1
    changed = "def clean(n: int = 10_000) -> Measurement:\n    n = max(n - 1, 1)\n"
    claims.write_text(text.replace("def clean(n: int = 10_000) -> Measurement:\n", changed))
    return folder, entries


def test_what_is_equal_is_stamped_and_what_differs_stays_stale(clone):
    folder, before = clone
    paths = {"PYTHONPATH": f"{folder}{os.pathsep}{folder / 'book'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "labbook", "vouch", "HEAD", "start_here"]
    done = subprocess.run(command, cwd=folder, env=os.environ | paths, capture_output=True, text=True)
    after = results.load("start_here", folder / "book" / "results")
    stamped = {id for id, e in after.items() if e.code != before[id].code}
    assert "start_here.pgd" in stamped, done.stdout + done.stderr
    assert "start_here.clean" not in stamped
    assert done.returncode == 1, "something differs"
    assert "start_here.clean: differs" in done.stdout
    for id, e in after.items():
        assert (e.value, e.n, e.interval, e.series, e.date) == (
            *(before[id].value, before[id].n, before[id].interval, before[id].series),
            before[id].date,
        )


def test_an_unknown_commit_is_refused(clone):
    with pytest.raises(RuntimeError, match="no commit 'nowhere' here"):
        vouch.before("nowhere", results.claims("start_here")[:1])


def test_times_are_no_facts():
    timed = next(e for e in results.load("relu_stability").values() if e.unit == "s")
    other = json.loads(json.dumps(results.to_json(timed))) | {"value": timed.value * 2}
    assert vouch.facts(results.from_json(other)) == vouch.facts(timed)
    share = results.get("start_here.clean")
    other = results.to_json(share) | {"value": share.value / 2}
    assert vouch.facts(results.from_json(other)) != vouch.facts(share)
