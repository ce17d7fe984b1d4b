"""Gurobi as the verifier's last stage: against HiGHS and brute force, and what is said where it is absent or too small."""

import functools
import math
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from test_stability_verifier import problem_of, tiny
from torch import nn

from advlab import verification
from advlab.__main__ import main
from advlab.verification import reduced, search, verifier


@pytest.fixture(name="gurobipy")
def _gurobipy():
    gp = pytest.importorskip("gurobipy")
    try:
        with gp.Env(params={"OutputFlag": 0}):
            return gp
    except gp.GurobiError as e:  # the licence in the wheel ends some day
        pytest.skip(f"Gurobi does not start: {e}")


def error_of_a_large_model(gp):
    """The number of the error with which 2,001 variables are refused, 0 where they are not."""
    try:
        with gp.Env(params={"OutputFlag": 0}) as env, gp.Model(env=env) as model:
            model.addMVar(2001)
            model.optimize()
            return 0
    except gp.GurobiError as e:
        return e.errno


@pytest.fixture
def only_the_solver(monkeypatch):
    """No stage between the prediction and the mixed-integer program decides anything."""

    def undecided(problem, check, attack, budget):
        bounds = torch.full((len(problem.const),), -math.inf).double()
        return verifier.search_margins(problem, bounds, dict.fromkeys(range(len(bounds))), check, budget)

    monkeypatch.setattr(verifier, "try_bounds", undecided)
    monkeypatch.setattr(verifier, "branch_and_bound", lambda *rest, **options: search.Found("unknown", -math.inf))
    monkeypatch.setattr(verifier, "NARROWINGS", 0)


def statuses(problem, check, **options):
    solve = functools.partial(search.mixed_integer, problem, check=check, **{"enough": 1e-6, "seconds": 60} | options)
    return [solve(index=k).status for k in range(len(problem.const))]


@pytest.mark.parametrize("seed", range(60, 85))
def test_gurobi_and_highs_agree_with_brute_force(seed, gurobipy):
    problem, check, truth = problem_of(seed)
    found = statuses(problem, check, solver="gurobi")
    assert found == statuses(problem, check, solver="highs")
    assert set(found) <= {"robust", "counterexample"}
    assert ("counterexample" in found) == (truth <= 1e-6)


@pytest.mark.parametrize("seed", range(85, 95))
def test_gurobi_finds_the_minimum_itself(seed, gurobipy):
    """Asked for a bound just under and just over the true minimum, with no witness to stop it, it says yes and no."""
    problem, _, truth = problem_of(seed)
    options = {"check": lambda points: None, "solver": "gurobi"}
    assert set(statuses(problem, **options, enough=truth - 1e-6)) == {"robust"}
    assert "unknown" in statuses(problem, **options, enough=truth + 1e-6), "a point that is no witness is no verdict"


@pytest.mark.parametrize("seed", range(25))
def test_verdicts_by_gurobi_are_those_of_highs(seed, gurobipy, only_the_solver):
    net, x, y, eps = tiny(seed)
    ours, other = (verification.verify(net, x, y, eps, solver=solver) for solver in ("gurobi", "highs"))
    assert (ours.status, ours.stage) == (other.status, "mixed-integer")
    if ours.status == "counterexample":
        assert (ours.witness.double() - x.double()).abs().max() <= eps
        assert int(net.double()(ours.witness[None].double()).argmax()) != y
        assert ours.bound < 0
    else:
        assert ours.bound == 1e-6


def test_a_property_is_decided_by_gurobi(gurobipy, only_the_solver):
    net, x, y, eps = tiny(0)
    rows, const = map(torch.from_numpy, reduced.class_margins(y, 3))
    x = x.double()
    for shift, status in ((100.0, "robust"), (-100.0, "counterexample")):
        box = (x - eps, x + eps)
        found = verification.verify_property(net, *box, rows, const + shift, solver="gurobi")
        assert found.status == status


def test_out_of_time_is_unknown(gurobipy):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(30, 120), nn.ReLU(), nn.Linear(120, 120), nn.ReLU(), nn.Linear(120, 3)).eval()
    box = np.zeros(30), np.ones(30)
    problem = reduced.reduce(verification.normal_form(net, (30,)), *box, np.array([[1.0, -1.0, 0.0]]), np.array([0.9]))
    with warnings.catch_warnings(action="error"):
        found = search.mixed_integer(problem, 0, lambda points: None, enough=1e-6, seconds=0.05, solver="gurobi")
    assert (found.status, found.refused) == ("unknown", False)


# ---------------------------------------------------------------------------------------------- absent, or too small


def test_a_solver_that_is_absent_or_unknown_is_named(monkeypatch, tmp_path, capsys):
    net, x, y, eps = tiny(0)
    store = tmp_path / "verdicts.jsonl"
    calls = [
        lambda **options: verification.verify(net, x, y, eps, **options),
        lambda **options: verification.verify_property(net, x, x, torch.eye(3), torch.zeros(3), **options),
        lambda **options: verification.verify_dataset(net, x[None], torch.tensor([y]), eps, store=store, **options),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="'highs', 'gurobi'"):
            call(solver="cplex")
    monkeypatch.setitem(sys.modules, "gurobipy", None)
    for call in calls:
        with pytest.raises(ImportError, match="pip install gurobipy"):
            call(solver="gurobi")
        call(solver="highs")
    line = ["verify", "mnist_adversarial", "--eps", "0.1", "--images", "1", "--store", str(tmp_path / "v.jsonl")]
    assert main([*line, "--solver", "gurobi"]) == 1
    assert "pip install gurobipy" in capsys.readouterr().err


def test_a_worker_without_the_solver_is_no_dead_worker(monkeypatch):
    net, x, y, eps = tiny(0)
    monkeypatch.setattr(verification.dataset, "check_inputs", lambda *rest, **options: None)
    monkeypatch.setitem(sys.modules, "gurobipy", None)
    with ThreadPoolExecutor(1) as executor, pytest.raises(ImportError, match="pip install gurobipy"):
        verification.verify_dataset(net, x[None], torch.tensor([y]), eps, solver="gurobi", executor=executor, progress=False)


def test_a_model_beyond_the_licence_is_unknown_with_one_warning(gurobipy, only_the_solver):
    if error_of_a_large_model(gurobipy) != gurobipy.GRB.Error.SIZE_LIMIT_EXCEEDED:
        pytest.skip("this licence takes large models")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2001, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    x = torch.rand(2001)
    with pytest.warns(RuntimeWarning, match="size-limited license") as seen:
        verdict = verification.verify(net, x, int(net(x[None]).argmax()), 0.01, solver="gurobi")
    assert len(seen) == 1
    assert "highs" in str(seen[0].message)
    assert (verdict.status, verdict.stage, verdict.bound) == ("unknown", "branch and bound", -math.inf)


def test_what_a_licence_refused_is_asked_again(gurobipy, only_the_solver, monkeypatch, tmp_path):
    net, x, y, eps = tiny(0)
    store = tmp_path / "verdicts.jsonl"
    ask = functools.partial(
        verification.verify_dataset, net, x[None], torch.tensor([y]), eps, store=store, progress=False, solver="gurobi"
    )

    def expired(**options):
        raise gurobipy.GurobiError(gurobipy.GRB.Error.NO_LICENSE, "the licence has expired")

    with monkeypatch.context() as patch:
        patch.setattr(gurobipy, "Env", expired)
        with pytest.warns(RuntimeWarning, match="expired"):
            refused = ask()
    assert refused.stages == {"branch and bound": 1}
    assert refused.count("unknown") == 1
    assert ask().stages == {"mixed-integer": 1}
    assert ask(solver="highs").verdicts[0].seconds == pytest.approx(ask().verdicts[0].seconds, abs=1e-4), "a proof is a proof"
