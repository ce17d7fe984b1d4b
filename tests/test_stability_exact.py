"""No wrong verdict, whatever the scale: against arithmetic in fractions, near ties, on every path of the verifier."""

import itertools
import math
import warnings
from fractions import Fraction

import exact
import numpy as np
import pytest
import torch
from torch import nn

from advlab import verification
from advlab.verification import properties, replay, search, verifier

PATHS = ("all stages", "branch and bound", "mixed-integer")


@pytest.fixture(params=PATHS)
def only(request, monkeypatch):
    """All stages as they are, or one engine of the search alone."""

    def undecided(problem, check, attack, budget):
        bounds = torch.full((len(problem.const),), -math.inf).double()
        return verifier.search_margins(problem, bounds, dict.fromkeys(range(len(bounds))), check, budget)

    if request.param != "all stages":
        other = "mixed_integer" if request.param == "branch and bound" else "branch_and_bound"
        monkeypatch.setattr(verifier, "try_bounds", undecided)
        monkeypatch.setattr(verifier, other, lambda *_, **__: search.Found("unknown", -math.inf))
    return request.param


def margins_of(y, classes):
    if classes == 1:
        return [([Fraction(1)], Fraction(0))]
    return [([Fraction((j == y) - (j == k)) for j in range(classes)], Fraction(0)) for k in range(classes) if k != y]


def near_tie(seed, scales=(-8, 8)):
    """Two inputs, one to three hidden layers, one to ten classes; weights of each layer at a scale of its own.

    The last bias is moved such that the least margin is within 1 to 1e-18 of 0, in parts of the logits.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return float(torch.rand((), generator=generator, dtype=torch.float64))

    dtype = (torch.float32, torch.float64)[seed % 2]
    classes = int(draw() * 10) + 1
    widths = [2, *(int(draw() * 4) + 1 for _ in range(int(draw() * 3) + 1)), classes]
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layer, scale = nn.Linear(a, b).to(dtype), 10 ** (scales[0] + (scales[1] - scales[0]) * draw())
        with torch.no_grad():
            layer.weight.copy_(torch.randn(b, a, generator=generator) * scale)
            layer.bias.copy_(torch.randn(b, generator=generator) * scale)
        layers += [layer, nn.ReLU()]
    net = nn.Sequential(*layers[:-1]).eval()
    x, eps, y = torch.rand(2, generator=generator).to(dtype), 0.5 * 10 ** (-3 * draw()), int(draw() * classes)
    low = [max(Fraction(0), Fraction(v) - Fraction(eps)) for v in x.tolist()]
    high = [min(Fraction(1), Fraction(v) + Fraction(eps)) for v in x.tolist()]
    least = exact.least_margin(net, low, high, margins_of(y, classes))
    size = float(max(abs(least), *map(abs, exact.rational(net)[-1][1])))
    with torch.no_grad():
        net[-1].bias[y] = float(Fraction(net[-1].bias[y].item()) - least) + (draw() - 0.5) * 10 ** (-18 * draw()) * size
    return net, x, y, eps, exact.least_margin(net, low, high, margins_of(y, classes))


def asked(net, x, y, eps, margin):
    if net[-1].out_features > 1:
        return verification.verify(net, x, y, eps, margin=margin, time_limit=20)
    low, high = (x.double() - eps).clamp(0, 1), (x.double() + eps).clamp(0, 1)
    return verification.verify_property(net, low, high, torch.ones(1, 1), torch.zeros(1), margin=margin, time_limit=20)


def contradiction(verdict, net, x, y, least):
    """What is wrong with a verdict, if the least margin is ``least``."""
    if verdict.status == "robust":
        return not (least > 0 and verdict.bound <= least)
    if verdict.status == "counterexample":
        at = [Fraction(v) for v in verdict.witness.double().tolist()]
        return exact.least_margin(net, at, at, margins_of(y, net[-1].out_features)) >= 0
    return False


@pytest.mark.parametrize("part", range(2))
def test_no_verdict_is_wrong_near_a_tie_at_any_scale(only, part):
    seen = set()
    for seed in range(16 * part, 16 * part + 16):
        net, x, y, eps, least = near_tie(seed)
        with warnings.catch_warnings(action="error"):
            verdict = asked(net, x, y, eps, margin=1e-300)
        assert not contradiction(verdict, net, x, y, least), (seed, verdict, float(least))
        seen.add(verdict.status)
    assert seen == {"robust", "counterexample", "unknown"}, "what rounding hides, and only that, is unknown"


def test_at_ordinary_weights_only_ties_are_unknown(only):
    for seed in range(100, 112):
        net, x, y, eps, least = near_tie(seed, scales=(0, 0))
        verdict = asked(net, x, y, eps, margin=1e-12)
        assert not contradiction(verdict, net, x, y, least), (seed, verdict, float(least))
        far = 1e-6 if only == "mixed-integer" else 1e-10
        assert verdict.status != "unknown" or abs(least) < far, (seed, verdict, float(least))


def test_splits_of_inputs_are_never_wrong_near_a_tie(monkeypatch):
    open_ = verification.Verdict("unknown", "mixed-integer", -math.inf, 0.0)
    monkeypatch.setattr(properties, "decide", lambda *_: open_)
    seen = set()
    for seed in range(200, 232):
        net, x, y, eps, _ = near_tie(seed)
        low, high = replay.ball(x.double(), eps)
        ends = ([Fraction(v) for v in end.tolist()] for end in (low, high))
        classes = net[-1].out_features
        rows, const = verifier.class_margins(y, classes) if classes > 1 else (np.ones((1, 1)), np.zeros(1))
        question = net, low, high, torch.from_numpy(rows), torch.from_numpy(const)
        verdict = verification.verify_property(*question, margin=1e-300, time_limit=5)
        least = exact.least_margin(net, *ends, margins_of(y, classes))
        assert not contradiction(verdict, net, x, y, least), (seed, verdict, float(least))
        seen.add(verdict.status)
    assert seen == {"robust", "counterexample", "unknown"}


def test_a_witness_is_in_the_ball_to_the_last_bit():
    for seed in range(40):
        torch.manual_seed(seed)
        x, eps = torch.rand(50).to((torch.float32, torch.float64)[seed % 2]), float(torch.rand(()).double()) / 3
        low, high = replay.ball(x.double(), eps)
        for a, b, v in zip(low.tolist(), high.tolist(), x.tolist(), strict=True):
            ends = max(Fraction(0), Fraction(v) - Fraction(eps)), min(Fraction(1), Fraction(v) + Fraction(eps))
            assert ends[0] <= Fraction(a) <= ends[0] + Fraction(2) ** -52
            assert ends[1] - Fraction(2) ** -52 <= Fraction(b) <= ends[1]
        net = nn.Sequential(nn.Linear(50, 2)).to(x.dtype).eval()
        found = verification.verify(net, x, 0, eps)
        if found.witness is not None:
            assert all(
                abs(Fraction(w) - Fraction(v)) <= Fraction(eps) for w, v in zip(found.witness.tolist(), x.tolist(), strict=True)
            )


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_units_do_not_matter_to_the_solver(scale):
    """The same network with its first layer in other units: the mixed-integer program decides it as before."""
    for seed in range(8):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
        found = []
        for factor in (1.0, scale):
            with torch.no_grad():
                for p in (net[0].weight, net[0].bias):
                    p.mul_(factor)
                net[2].weight.div_(factor)
            form = verification.normal_form(net, (2,))
            problem = verifier.reduce(
                form, torch.zeros(2).double().numpy(), torch.ones(2).double().numpy(), *verifier.class_margins(0, 2)
            )
            found.append(
                [
                    search.mixed_integer(problem.lowered(), 0, lambda points: None, enough=enough, seconds=20).status
                    for enough in (-10.0, -1.0, 0.0)
                ]
            )
        assert found[0] == found[1]


@pytest.mark.parametrize("seed", range(20))
def test_the_error_of_a_hidden_unit_is_carried_to_the_logits(seed):
    """Large terms cancel to hidden values between 0 and 1, whose error is then most of that of the logits; by fractions."""
    rng = np.random.default_rng(seed)
    net = nn.Sequential(nn.Linear(40, 3), nn.ReLU(), nn.Linear(3, 2)).double().eval()
    x, weights = rng.uniform(0, 1, 40), torch.from_numpy(rng.normal(0, 1e9, (3, 40)))
    with torch.no_grad():
        net[0].weight.copy_(weights)
        net[0].bias.copy_(0.5 - weights @ torch.from_numpy(x))
    values = [Fraction(v) for v in x]
    for depth, (rows, bias) in enumerate(exact.rational(net)):
        values = [sum(w * v for w, v in zip(row, values, strict=True)) + b for row, b in zip(rows, bias, strict=True)]
        assert depth or all(0 < v < 1 for v in values), "all units are on"
    logits, fault = verification.normal_form(net, (40,)).rounding(x)
    errors = [abs(Fraction(a) - b) for a, b in zip(logits, values, strict=True)]
    assert all(error <= bound for error, bound in zip(errors, fault, strict=True))
    assert max(errors) > 1e-12, "it is the error of hidden units: the last layer's own is far below"
