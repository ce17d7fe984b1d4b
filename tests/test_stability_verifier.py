"""Chapter 3's exact verifier: against brute force over all activation patterns, engine against engine, and bad input."""

import copy
import functools
import itertools
import math
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from advlab import data, models, stability, verification, zoo
from advlab.verification import narrowing, prepared, reduced, search, verifier

EPS = 0.1


def tiny(seed):
    """Four inputs, two hidden layers of 4 and 3, three classes; weights of both signs, an input and a budget."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    x = torch.rand(1, 2, 2, generator=generator)
    return net, x, int(net(x[None]).argmax()), float(torch.rand((), generator=generator) * 0.5)


def wide(seed, inputs, units):
    """One hidden layer and one output, weights of both signs."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, 1)).eval()


def least_margin(net, x, y, eps):
    """The exact minimum over the box of the margin of ``y``: one linear program for each activation pattern and class."""
    maps = [(m.weight.detach().double().numpy(), m.bias.detach().double().numpy()) for m in net if isinstance(m, nn.Linear)]
    x = x.double().flatten().numpy()
    ends = np.stack([np.clip(x - eps, 0, 1), np.clip(x + eps, 0, 1)], 1)
    widths = [len(b) for _, b in maps[:-1]]
    least = np.inf
    for pattern in itertools.product([0, 1], repeat=sum(widths)):
        on = np.split(np.array(pattern), np.cumsum(widths)[:-1])
        matrix, const, rows, limits = np.eye(len(x)), np.zeros(len(x)), [], []
        for (weight, bias), s in zip(maps[:-1], on, strict=True):
            z, shift = weight @ matrix, weight @ const + bias
            rows.append(np.where(s[:, None], -z, z))
            limits.append(np.where(s, shift, -shift))
            matrix, const = s[:, None] * z, s * shift
        signs, limit = np.concatenate(rows), np.concatenate(limits)
        if (np.minimum(signs * ends[:, 0], signs * ends[:, 1]).sum(1) > limit + 1e-9).any():
            continue  # one of the signs, alone, is that of no point of the box
        logits, shift = maps[-1][0] @ matrix, maps[-1][0] @ const + maps[-1][1]
        for j in set(range(len(shift))) - {y}:
            found = linprog(logits[y] - logits[j], signs, limit, bounds=ends, method="highs")
            if found.status == 0:
                least = min(least, found.fun + shift[y] - shift[j])
    return least


@pytest.mark.parametrize("seed", range(25))
def test_verdicts_are_those_of_brute_force(seed):
    net, x, y, eps = tiny(seed)
    truth = least_margin(net, x, y, eps)
    verdict = verification.verify(net, x, y, eps)
    assert verdict.status == ("robust" if truth > 1e-6 else "counterexample")
    if verdict.status == "robust":
        assert verdict.bound <= truth + 1e-7
        assert verdict.witness is None
    else:
        assert truth - 1e-7 <= verdict.bound < 0
        assert verdict.witness is not None
        assert (verdict.witness.double() - x.double()).abs().max() <= eps
        assert 0 <= verdict.witness.min() <= verdict.witness.max() <= 1
        assert int(copy.deepcopy(net).double()(verdict.witness[None].double()).argmax()) != y


def problem_of(seed):
    net, x, y, eps = tiny(seed)
    low, high = (x.double().flatten() - eps).clamp(0, 1), (x.double().flatten() + eps).clamp(0, 1)
    margins = reduced.class_margins(y, 3)
    problem = reduced.reduce(verification.normal_form(net, (1, 2, 2)), low.numpy(), high.numpy(), *margins)
    values = functools.partial(verifier.least_margin, copy.deepcopy(net).double(), *map(torch.from_numpy, margins))
    replay = functools.partial(verifier.first_counterexample, values, x, low, high)
    return problem, replay, least_margin(net, x, y, eps)


@pytest.mark.parametrize("seed", range(25, 40))
def test_branch_and_bound_and_highs_agree_with_brute_force(seed):
    problem, check, truth = problem_of(seed)
    expected = "robust" if truth > 1e-6 else "counterexample"
    for engine in (
        lambda k: search.branch_and_bound(problem, k, check, enough=1e-6, deadline=time.thread_time() + 60),
        lambda k: search.mixed_integer(problem, k, check, enough=1e-6, seconds=60),
        lambda k: search.mixed_integer(problem, k, check, enough=1e-6, seconds=60, rounds=2),
    ):
        statuses = {engine(k).status for k in range(len(problem.const))}
        assert statuses <= {"robust", "counterexample"}
        assert ("counterexample" in statuses) == (expected == "counterexample")


def test_most_counterexamples_are_found_before_anything_is_split():
    """Beyond the corner where the linear bounds are least: signed steps from there; in eight of ten networks."""
    nodes = []
    for seed in range(10):
        net = wide(seed, 30, 60)
        box = np.zeros(30), np.ones(30)
        form = verification.normal_form(net, (30,))
        x = torch.rand(50, 30, generator=torch.Generator().manual_seed(seed)).double()
        mean = float(net.double()(x).detach().mean())
        for step in range(200):
            x.requires_grad_()
            (slope,) = torch.autograd.grad(net(x).sum(), x)
            x = (x.detach() - 0.2 * 0.98**step * slope.sign()).clamp(0, 1)
        least = float(net(x).detach().min())
        least += 0.1 * (mean - least)  # nine tenths of the way down
        problem = reduced.reduce(form, *box, np.ones((1, 1)), np.array([-least])).lowered()
        seen = []

        def check(points, net=net, least=least, seen=seen):
            values = net(points)[:, 0] - least
            seen.append(points)
            return points[values.argmin()] if bool((values < 0).any()) else None

        found = search.branch_and_bound(problem, 0, check, enough=0.0, deadline=time.thread_time() + 5)
        assert found.status == "counterexample"
        assert all(bool(((p >= 0) & (p <= 1)).all()) for p in seen), "a step left the box"
        nodes.append(found.nodes)
    assert nodes.count(1) >= 8, nodes


@pytest.mark.parametrize("seed", range(40, 50))
def test_branch_and_bound_finds_the_minimum_itself(seed):
    """Asked for a bound just under and just over the true minimum, with no witness to stop it, it says yes and no."""
    problem, _, truth = problem_of(seed)

    def proved(enough):
        def prove(k):
            return search.branch_and_bound(
                problem, k, lambda points: None, enough=enough, deadline=time.thread_time() + 60, batch=4
            )

        return all(prove(k).status == "robust" for k in range(len(problem.const)))

    assert proved(truth - 1e-6)
    assert not proved(truth + 1e-6)


def values_of(problem, points):
    """Of all units' inputs (n, units), and of margins, at some inputs: no relaxation, no bounds."""
    values, before = points, list[torch.Tensor]()
    for stage in problem.stages:
        before.append(values @ stage.rows.T + stage.const)
        values = torch.cat([values, before[-1].relu()], 1)
    return torch.cat([points[:, :0], *before], 1), values @ problem.rows.T + problem.const


@pytest.mark.parametrize("seed", [60, 61, 70, 81, 83, 92, 103])
def test_a_narrowed_problem_is_the_same_where_its_margin_is_small(seed):
    """Inputs there keep to the tighter bounds and have the same margins; where there is no such input, it may say so."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 2)
    ).eval()
    form = verification.normal_form(net, (4,))
    problem = reduced.reduce(form, -np.ones(4) / 2, np.ones(4) / 2, *reduced.class_margins(0, 2)).lowered()
    points = torch.rand(20000, 4, dtype=torch.float64) - 0.5
    margins = values_of(problem, points)[1][:, 0]

    def bound(problem):
        return float(reduced.crown(problem.stages, (problem.low, problem.high), problem.rows, problem.const))

    for part in (0.0002, 0.01, 0.5):
        enough, left = float(margins.quantile(part)), problem
        for _ in range(3):
            left = narrowing.narrowed(left, 0, enough, math.inf)
            assert left is not None, "there are such inputs"
            units, found = values_of(left, points[margins <= enough])
            np.testing.assert_allclose(found[:, 0].numpy(), margins[margins <= enough].numpy(), atol=1e-12)
            low, high = (torch.cat([getattr(stage, end) for stage in left.stages]) for end in ("low", "high"))
            assert ((units >= low - left.unit_slack) & (units <= high + left.unit_slack)).all()
        assert left.units <= problem.units
    left = problem
    for _ in range(20):
        left = left and narrowing.narrowed(left, 0, bound(problem) - 1, math.inf)
    assert left is None


def test_what_cannot_be_narrowed_stays():
    """No units; a margin that no input moves."""
    net = nn.Sequential(nn.Linear(3, 2)).eval()
    problem = reduced.reduce(verification.normal_form(net, (3,)), np.zeros(3), np.ones(3), *reduced.class_margins(0, 2))
    assert narrowing.narrowed(problem, 0, 0.0, math.inf) is problem
    problem = hard()
    still = replace(problem, high=problem.low)
    assert narrowing.narrowed(still, 0, 0.0, math.inf) is still


@pytest.mark.parametrize("method", ["crown", "improved"])
@pytest.mark.parametrize("seed", range(5))
def test_a_reduced_problem_is_the_network_on_its_box(seed, method):
    net, x, y, eps = tiny(seed)
    box = (x.double().flatten() - eps).clamp(0, 1), (x.double().flatten() + eps).clamp(0, 1)
    form, (rows, const) = verification.normal_form(net, (1, 2, 2)), reduced.class_margins(y, 3)
    problem = reduced.reduce(form, *(corner.numpy() for corner in box), rows, const, method)
    points = box[0] + (box[1] - box[0]) * torch.rand(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    values = points
    for stage in problem.stages:
        values = torch.cat([values, (values @ stage.rows.T + stage.const).relu()], 1)
    expected = form(points.numpy()) @ rows.T + const
    np.testing.assert_allclose((values @ problem.rows.T + problem.const).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(50, 56))
def test_leaves_give_the_minimum_between_them(seed):
    """Over all signs and margins the least bound is the true minimum; signs that no input has give infinity."""
    problem, _, truth = problem_of(seed)
    bounds = [
        search.solve_leaf(problem, k, torch.tensor(signs, dtype=torch.int8))
        for k in range(len(problem.const))
        for signs in itertools.product([-1, 1], repeat=problem.units)
    ]
    assert min(bound for bound, *_ in bounds) == pytest.approx(truth, abs=1e-7)
    assert all((point is None) == (bound == np.inf) for bound, point, _ in bounds)
    assert truth - 1e-7 <= min(bound for bound, *_ in bounds) <= truth + 1e-9


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.floats(0.0, 0.5), st.sampled_from(["naive", "improved", "crown"]))
def test_no_input_of_the_ball_leaves_any_bounds(seed, eps, method):
    torch.manual_seed(seed)
    net = nn.Sequential(
        *(nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3)),
    )
    net.double().eval()
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    bounds = stability.interval_bounds(net, x, eps, method)
    naive = stability.interval_bounds(net, x, eps)
    for (low, high), (loose_low, loose_high) in zip(bounds, naive, strict=True):
        assert (low.flatten(1) >= loose_low.flatten(1) - 1e-9).all()
        assert (high.flatten(1) <= loose_high.flatten(1) + 1e-9).all()
    signs = torch.randint(-1, 2, (300, *x.shape)).double()
    seen = []
    hooks = [m.register_forward_pre_hook(lambda _, i: seen.append(i[0])) for m in net if isinstance(m, nn.ReLU)]
    for moved in (x + eps * signs).clamp(0, 1):
        seen.clear()
        logits = net(moved)
        for values, (low, high) in zip([*seen, logits], bounds, strict=True):
            assert (values.flatten(1) >= low.flatten(1) - 1e-9).all()
            assert (values.flatten(1) <= high.flatten(1) + 1e-9).all()
    for hook in hooks:
        hook.remove()


def test_improved_bounds_are_exact_where_every_unit_is_on():
    """With no unstable unit the network is affine on the box: naive bounds lose, improved and CROWN bounds do not."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    with torch.no_grad():
        net[0].bias.fill_(10.0)
    x = torch.full((1, 3), 0.5, dtype=torch.float64)
    matrix = net[2].weight @ net[0].weight
    const = net[2].weight @ net[0].bias + net[2].bias
    exact = matrix @ x[0] + const - 0.2 * matrix.abs().sum(1)
    for method in ("improved", "crown"):
        assert torch.allclose(stability.interval_bounds(net, x, 0.2, method)[-1][0][0], exact, atol=1e-12)
    assert (stability.interval_bounds(net, x, 0.2)[-1][0][0] < exact - 0.01).all()


class Residual(nn.Module):
    """A sum of two branches that torch.fx follows."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())
        self.branch = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.short = nn.Conv2d(2, 4, 1, stride=2)
        self.head = nn.Linear(4, 3)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.branch(x) + self.short(x))
        return self.head(torch.flatten(self.pool(x), 1))


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (models.stability_cnn(), (1, 28, 28)),
        (nn.Sequential(models.Normalize([0.5], [0.25]), nn.Flatten(), nn.Dropout(), nn.Linear(9, 2)), (1, 3, 3)),
        (nn.Sequential(nn.Conv2d(1, 2, 2, dilation=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)), (1, 5, 4)),
        (Residual(), (1, 4, 4)),
    ],
    ids=["paper", "normalised", "pooled", "residual"],
)
def test_the_normal_form_is_the_network(net, shape):
    torch.manual_seed(0)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
            m.weight.data.normal_()
    form = verification.normal_form(net.eval(), shape)
    x = torch.rand(6, *shape, dtype=torch.float64)
    ours = form(x.flatten(1).numpy())
    np.testing.assert_allclose(ours, net.double()(x).detach().numpy(), atol=1e-12)
    net.float()


def test_a_residual_network_is_verified():
    torch.manual_seed(1)
    net = Residual().eval()
    x = torch.rand(1, 4, 4)
    y = int(net(x[None]).argmax())
    assert verification.verify(net, x, y, 0.0).status == "robust"
    budgets = [0.01, 0.05, 0.2, 0.8]
    found = [verification.verify(net, x, y, eps) for eps in budgets]
    assert all(v.status in ("robust", "counterexample") for v in found)
    robust = [v.status == "robust" for v in found]
    assert robust == sorted(robust, reverse=True), "a larger ball cannot be safer"
    generator = torch.Generator().manual_seed(0)
    for eps, v in zip(budgets, found, strict=True):
        if v.status == "robust":
            noise = (2 * torch.rand(5000, 1, 4, 4, generator=generator) - 1) * eps
            assert (net((x + noise).clamp(0, 1)).argmax(1) == y).all()


@pytest.fixture(scope="module")
def trained():
    return zoo.load("mnist_adversarial"), *data.mnist(n=30)


def test_digits_are_decided_and_attacks_never_contradict(trained):
    net, x, y = trained
    for i in range(6):
        verdict = verification.verify(net, x[i], int(y[i]), EPS)
        assert verdict.status == "robust"
        assert verdict.bound > 1e-6
        assert len(verdict.unstable) == 3
    beaten = verification.verify(zoo.load("mnist_adversarial"), x[0], int(y[0]), 0.6, last_stage="pgd")
    assert beaten.status == "counterexample"
    assert beaten.stage == "pgd"
    assert beaten.witness is not None
    assert beaten.witness.dtype == torch.float32


def test_a_misclassified_input_is_its_own_counterexample(trained):
    net, x, y = trained
    wrong = (int(y[0]) + 1) % 10
    verdict = verification.verify(net, x[0], wrong, EPS)
    assert (verdict.status, verdict.stage) == ("counterexample", "prediction")
    assert torch.equal(verdict.witness, x[0])
    assert verdict.bound < 0


def test_out_of_time_is_unknown_and_says_how_far_it_got():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(20, 60), nn.ReLU(), nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 3)).eval()
    x = torch.full((20,), 0.5)
    y = int(net(x[None]).argmax())
    with torch.no_grad():
        net[-1].bias[y] += 0.4  # hard: attacks fail and bounds are far from it
    verdict = verification.verify(net, x, y, 0.5, time_limit=0.3)
    assert verdict.status == "unknown"
    assert verdict.witness is None
    assert np.isfinite(verdict.bound)
    assert verdict.bound <= 1e-6
    assert verdict.seconds < 20


def test_a_margin_of_zero_is_never_called_robust():
    """A tie on the border of the ball: the least margin is 0, so there is no proof and no witness."""
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)).double().eval()
    with torch.no_grad():
        for p, value in zip(net.parameters(), ([[1.0]], [0.0], [[1.0], [0.0]], [-0.25, 0.0]), strict=True):
            p.copy_(torch.tensor(value))
    x = torch.tensor([0.5], dtype=torch.float64)
    assert verification.verify(net, x, 0, 0.25).status == "unknown"
    assert verification.verify(net, x, 0, 0.25 - 1e-5).status == "robust"
    assert verification.verify(net, x, 0, 0.25 + 1e-5).status == "counterexample"
    assert verification.verify(net, x, 0, 0.2, margin=0.1).status == "unknown", "a stated margin that is not reached"


def test_bad_input_is_named(trained):
    net, x, y = trained
    with pytest.raises(ValueError, match="training mode"):
        verification.verify(models.stability_cnn(), x[0], 0, EPS)
    with pytest.raises(ValueError, match="classes"):
        verification.verify(net, x[0], 10, EPS)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        verification.verify(net, x[0] * 255, int(y[0]), EPS)
    with pytest.raises(ValueError, match="eps"):
        verification.verify(net, x[0], int(y[0]), -EPS)
    with pytest.raises(ValueError, match="last_stage"):
        verification.verify(net, x[0], int(y[0]), EPS, last_stage="guess")
    with pytest.raises(ValueError, match="time_limit"):
        verification.verify(net, x[0], int(y[0]), EPS, time_limit=0)
    with pytest.raises(TypeError, match="Tanh"):
        verification.verify(nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Tanh()).eval(), x[0], 0, EPS)
    broken = models.stability_cnn().eval()
    with torch.no_grad():
        broken[0].bias[0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        verification.verify(broken, x[0], 0, EPS)


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"y": 0.7}, ValueError, r"y\[0\] is 0.7; .* whole numbers from 0 to 2"),
        ({"y": math.nan}, ValueError, r"y\[0\] is nan; .* whole numbers"),
        ({"y": -1}, ValueError, "y.* is -1; .* whole numbers"),
        ({"y": "1"}, TypeError, "y is '1'"),
        ({"y": None}, TypeError, "y is None"),
        ({"y": torch.tensor([0, 1])}, ValueError, "equally many"),
        ({"eps": "0.1"}, TypeError, "eps is '0.1'"),
        ({"eps": None}, TypeError, "eps is None"),
        ({"eps": torch.tensor([0.1, 0.1, 0.1])}, ValueError, "eps has the shape"),
        ({"eps": math.inf}, ValueError, "eps is inf"),
        ({"x": "three"}, TypeError, "x is 'three'"),
        ({"x": torch.zeros(3).long()}, TypeError, r"x.float\(\)"),
        ({"x": torch.tensor([0.1, math.nan, 0.2])}, ValueError, r"x\[1\] is nan; .*\[0, 1\]"),
        ({"x": torch.tensor(0.5)}, ValueError, "without a batch"),
        ({"time_limit": "1"}, ValueError, "time_limit is '1'"),
        ({"time_limit": None}, ValueError, "time_limit is None"),
        ({"margin": 0}, ValueError, "margin is 0"),
    ],
)
def test_what_is_no_such_number_is_named(changed, error, said):
    net = nn.Linear(3, 3).eval()
    asked = {"net": net, "x": torch.full((3,), 0.5), "y": 0, "eps": 0.1}
    with pytest.raises(error, match=said):
        verification.verify(**asked | changed)


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"y": torch.tensor([0.9, 2.9])}, ValueError, r"y\[0\] is 0.9; .* whole numbers"),
        ({"y": torch.tensor([0.0, math.nan])}, ValueError, r"y\[1\] is nan; .* whole numbers"),
        ({"y": ["0", "1"]}, TypeError, "y is "),
        ({"eps": "0.1"}, TypeError, "eps is '0.1'"),
        ({"eps": torch.tensor([0.1, 0.1])}, ValueError, "eps has the shape"),
        ({"x": torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.5, 1.5]])}, ValueError, r"x\[1, 2\] is 1.5; .*\[0, 1\]"),
        ({"x": torch.zeros(2, 3).long()}, TypeError, r"x.float\(\)"),
        ({"x": torch.zeros(2)}, ValueError, r"a batch of inputs, \(n, ...\)"),
        ({"x": torch.tensor(0.5)}, ValueError, r"a batch of inputs, \(n, ...\)"),
        ({"net": nn.Linear(3, 1).eval(), "y": [0, 0]}, ValueError, "1 logit.*verify_property"),
    ],
)
def test_a_data_set_names_what_is_wrong_and_where(changed, error, said):
    asked = {"net": nn.Linear(3, 3).eval(), "x": torch.full((2, 3), 0.5), "y": torch.tensor([0, 1]), "eps": 0.1}
    with pytest.raises(error, match=said):
        verification.verify_dataset(**asked | changed, progress=False)


def test_inputs_may_be_arrays_or_have_a_graph_and_labels_a_list():
    net, x = tiny(0)[0], torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    y = net(x).argmax(1)
    expected = [verification.verify(net, x[i], int(y[i]), 0.1) for i in range(2)]
    budget = torch.tensor(0.1, dtype=torch.float64)
    for many, labels, eps in ((x.numpy(), y.tolist(), 0.1), (x.clone().requires_grad_(), y.double(), budget)):
        found = verification.verify_dataset(net, many, labels, eps, progress=False, hardest_first=True).verdicts
        alone = [verification.verify(net, many[i], labels[i], eps) for i in range(2)]
        for verdicts in (found, alone):
            assert [(v.status, v.stage, v.bound) for v in verdicts] == [(v.status, v.stage, v.bound) for v in expected]


@pytest.mark.parametrize("proof", [False, True])
def test_a_tie_on_the_border_of_a_network_without_a_relu_is_unknown(proof):
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
        net[1].bias.copy_(torch.tensor([-0.25, 0.0]))
    x = torch.full((1, 2, 2), 0.5)
    found = [verification.verify(net, x, 0, eps, proof=proof).status for eps in (0.2, 0.25, 0.3)]
    assert found == ["robust", "unknown", "counterexample"]
    for stage in verifier.STAGES[1:]:
        assert verification.verify(net, x, 0, 0.25, last_stage=stage, proof=proof).status == "unknown"
    rows, const = torch.tensor([[1.0, -1.0]]), torch.zeros(1)
    assert verification.verify_property(net, x - 0.25, x + 0.25, rows, const, time_limit=0.1).status == "unknown"


def test_the_hash_tells_networks_apart(trained):
    net, _, _ = trained
    same = zoo.load("mnist_adversarial")
    assert verification.network_hash(net, (1, 28, 28)) == verification.network_hash(same, (1, 28, 28))
    with torch.no_grad():
        same[0].bias[0] += 1e-3
    assert verification.network_hash(net, (1, 28, 28)) != verification.network_hash(same, (1, 28, 28))
    with pytest.raises(TypeError, match="784"):
        verification.network_hash(net, (784,))


class Forked(nn.Module):
    """Two networks with the same layers and weights that compute different things."""

    def __init__(self, both):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.both = both

    def forward(self, x):
        return self.first(x) + self.second(x) if self.both else self.first(x)


class Negative(nn.Linear):
    def forward(self, x):
        return -super().forward(x)


class Switching(nn.Linear):
    pass


def test_networks_that_differ_in_their_calls_or_settings_only_are_told_apart():
    torch.manual_seed(0)
    both, one = Forked(True).eval(), Forked(False).eval()
    one.load_state_dict(both.state_dict())
    assert verification.network_hash(both, (2,)) != verification.network_hash(one, (2,))
    pools = [nn.Sequential(nn.AvgPool2d(size), nn.Flatten(), nn.Linear(1, 2)).eval() for size in (2, 3)]
    pools[1].load_state_dict(pools[0].state_dict())
    assert verification.network_hash(pools[0], (1, 3, 3)) != verification.network_hash(pools[1], (1, 3, 3))


def test_a_layer_with_a_forward_of_its_own_is_refused():
    """Its weights say one thing and it does another: no proof may rest on them."""
    net = nn.Sequential(Negative(2, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    for call in (lambda: verification.verify(net, torch.rand(2), 0, 0.1), lambda: verification.normal_form(net, (2,))):
        with pytest.raises(TypeError, match="forward"):
            call()
    fine = nn.Sequential(Switching(2, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    x = torch.rand(2)
    assert verification.verify(fine, x, int(fine(x[None]).argmax()), 0.0).status == "robust"


def test_a_network_whose_calls_depend_on_its_input_is_refused():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return self.layer(x) if x.sum() > 0 else -self.layer(x)

    hooked = nn.Sequential(nn.Linear(2, 2)).eval()
    hooked[0].register_forward_hook(lambda module, args, output: -output)
    with pytest.raises(TypeError, match="hook"):
        verification.verify(hooked, torch.rand(2), 0, 0.1)
    with pytest.raises(TypeError, match="depend on its input"):
        verification.verify(Fickle().eval(), torch.rand(2), 0, 0.1)


def test_a_problem_without_an_unstable_unit_is_answered():
    """Nothing is left to optimise: the first bound is exact."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
        net[0].bias.fill_(1.0)
        net[2].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        net[2].bias.zero_()
    x = torch.tensor([0.6, 0.5])
    assert verification.verify(net, x, 0, 0.04).status == "robust"
    for stage in verifier.STAGES:
        assert verification.verify(net, x, 0, 0.06, last_stage=stage).status in ("counterexample", "unknown")
    assert verification.verify(net, x, 0, 0.06).status == "counterexample"


def test_threads_and_no_grad_change_nothing():
    """Twelve networks in four threads, beside one that runs a network of its own all the time."""
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 3))).eval() for _ in range(12)]
    x = torch.rand(12, 3)
    cases = [(net, one, int(net(one[None]).argmax())) for net, one in zip(nets, x, strict=True)] * 3
    expected = [verification.verify(*case, 0.15).status for case in cases]
    assert len(set(expected)) == 2
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            nets[0](x)
        return "done"

    with ThreadPoolExecutor(5) as pool:
        other = pool.submit(busy)
        prepared.prepared_networks.clear()
        found = [f.result().status for f in [pool.submit(verification.verify, *case, 0.15) for case in cases]]
        stop.set()
        assert other.result() == "done"
    assert found == expected
    with torch.no_grad():
        assert [verification.verify(*case, 0.15).status for case in cases] == expected


def test_a_layer_that_is_used_twice_counts_twice():
    torch.manual_seed(0)
    layer, relu = nn.Linear(3, 3), nn.ReLU()
    net = nn.Sequential(layer, relu, layer, relu, nn.Linear(3, 2)).eval()
    x = torch.rand(5, 3)
    found = verification.normal_form(net, (3,))
    assert [r.units for r in found.hidden] == [3, 3]
    assert found(x.double().numpy()) == pytest.approx(net.double()(x.double()).detach().numpy())


def a_clock(limit, wall=0.0, cpu=0.0):
    """One that began so many seconds ago."""
    clock = verifier.Clock(limit + cpu)
    clock.wall, clock.cpu = clock.wall - wall, clock.cpu - cpu
    return clock


@pytest.mark.parametrize(("solver", "times"), [("highs", 1), ("gurobi", 3)])
def test_a_solver_that_counts_seconds_of_the_wall_gets_as_many_as_make_the_cpu_seconds(monkeypatch, solver, times):
    assert a_clock(50, 30, 10).slowness == pytest.approx(3, rel=0.05)
    assert a_clock(50, 1, 10).slowness == 1, "threads of a process"
    asked = []
    monkeypatch.setattr(
        verifier, "mixed_integer", lambda *a, seconds, **_: asked.append(seconds) or search.Found("unknown", -1.0)
    )
    monkeypatch.setattr(verifier, "branch_and_bound", lambda *a, **_: search.Found("unknown", -1.0))
    problem = type("Problem", (), {"units": 149})()
    busy = verifier.Budget(a_clock(50, 30, 10), 1e-6, 5, solver)
    verifier.search_margins(problem, torch.tensor([-1.0]), {0: torch.zeros(5)}, None, busy)
    assert asked == [pytest.approx(50 * times, rel=0.05)]


def test_other_threads_do_not_count_and_the_solvers_own_does():
    """Beside three threads that are busy, an input costs what it costs alone."""
    net, x, y, eps = tiny(3)
    clock, stop = verifier.Clock(1.0), threading.Event()
    others = [threading.Thread(target=lambda: [sum(range(1000)) for _ in iter(stop.is_set, True)]) for _ in range(3)]
    before = time.process_time()
    for thread in others:
        thread.start()
    verdict = verification.verify(net, x, y, eps)
    while time.process_time() - before < 0.3:
        time.sleep(0.01)
    stop.set()
    assert clock.spent < 0.15
    assert verdict.seconds < 0.15
    clock.elsewhere += 2
    assert clock.left < -1


def hard(units=150):
    """A margin that no solver decides in minutes: ``units`` a layer, all unstable."""
    torch.manual_seed(3)
    widths = (40, units, units, 3)
    layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    form = verification.normal_form(nn.Sequential(*layers[:-1]).eval(), (40,))
    return reduced.reduce(form, np.zeros(40), np.ones(40), np.array([[1.0, -1.0, 0.0]]), np.array([1.2]))


def test_the_solver_stops_at_its_cpu_seconds_however_long_they_take():
    began = time.thread_time()
    found = search.mixed_integer(hard(), 0, lambda points: None, enough=1e-6, seconds=0.3)
    assert found.status == "unknown"
    assert 0.3 <= found.seconds < 2
    assert time.thread_time() - began < 1, "it has a thread of its own"


def test_ctrl_c_is_answered_while_the_solver_works():
    """As Python gives it to the main thread; the solver's thread, told to stop, ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background begins with Ctrl-C ignored
    problem, sent = hard(60), []

    def interrupt():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    before = threading.active_count()
    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        search.mixed_integer(problem, 0, lambda points: None, enough=1e-6, seconds=60)
    assert time.perf_counter() - sent[0] < 2
    timer.join()
    patience = time.perf_counter() + 30
    while threading.active_count() > before and time.perf_counter() < patience:
        time.sleep(0.05)
    assert threading.active_count() == before


def test_a_search_beyond_its_memory_goes_deep(monkeypatch):
    """With room for a few nodes the heap stays small, and the verdicts are the same."""
    most, pop = [0], search.heapq.heappush
    monkeypatch.setattr(search.heapq, "heappush", lambda heap, node: (pop(heap, node), most.append(max(most[0], len(heap)))))
    problem, _, truth = problem_of(42)
    for memory in (search.MEMORY, 3000):
        monkeypatch.setattr(search, "MEMORY", memory)
        for enough, status in ((truth - 1e-6, "robust"), (truth + 1e-6, "unknown")):
            ends = [
                search.branch_and_bound(
                    problem, k, lambda points: None, enough=enough, deadline=time.thread_time() + 60, batch=2
                ).status
                for k in range(len(problem.const))
            ]
            assert ("unknown" in ends) == (status == "unknown")
    problem, most[:] = hard(30), [0]
    search.branch_and_bound(problem, 0, lambda points: None, enough=1e-6, deadline=time.thread_time() + 0.5, batch=2)
    assert max(most) < 3000 / 1000 + 2 * problem.units


@pytest.mark.parametrize("units", [149, 150, 400])
def test_the_hardest_margin_gets_all_the_time_that_it_needs(monkeypatch, units):
    """Three margins are open. Branch and bound fails; the solver needs 30 s for the hardest and little for the others.

    From 150 units on it is asked twice, at first for a moment; from 400 on once, when most of the time is over.
    """
    clock, asked = [0.0], []

    def branched(problem, k, check, *, deadline, **_):
        clock[0] = deadline
        return search.Found("unknown", -1.0)

    def solved(problem, k, check, *, seconds, **_):
        asked.append(k)
        needed = {149: 30, 150: 6, 400: 1}[units] if k == 2 else 1
        clock[0] += min(seconds, needed)
        return search.Found("robust" if seconds >= needed else "unknown", 1.0 if seconds >= needed else -1.0)

    monkeypatch.setattr(verifier, "branch_and_bound", branched)
    monkeypatch.setattr(verifier, "mixed_integer", solved)
    monkeypatch.setattr(time, "thread_time", lambda: clock[0])
    problem = type("Problem", (), {"units": units})()
    slopes = {k: torch.zeros(units) for k in range(4)}
    limits = verifier.Budget(verifier.Clock(40.0), 1e-6, 5, "highs")
    status, stage, bound, _ = verifier.search_margins(problem, torch.tensor([-1.0, 2.0, -3.0, -2.0]), slopes, None, limits)
    assert (status, stage, asked) == ("robust", "mixed-integer", [2, 3, 0] + [2] * (units == 150))
    assert bound > 0
    assert limits.clock.left > 0


def test_a_program_that_is_too_large_for_a_solver_is_not_begun(monkeypatch):
    asked = []
    monkeypatch.setattr(verifier, "mixed_integer", lambda *_, **__: asked.append("solver") or search.Found("unknown", -1.0))
    monkeypatch.setattr(verifier, "branch_and_bound", lambda *_, **__: asked.append("splits") or search.Found("unknown", -0.5))
    for units, turns in ((verifier.MOST_UNITS, ["splits", "solver"]), (verifier.MOST_UNITS + 1, ["splits"])):
        asked.clear()
        problem = type("Problem", (), {"units": units})()
        budget = verifier.Budget(verifier.Clock(50.0), 1e-6, 5, "highs")
        found = verifier.search_margins(problem, torch.tensor([-1.0]), {0: torch.zeros(units)}, None, budget)
        assert (found[0], asked) == ("unknown", turns)


@pytest.mark.parametrize("easy", [2, 40])
def test_without_a_solver_the_hardest_margin_has_all_the_time_that_is_left(monkeypatch, easy):
    """Of three margins the least takes 70 of 100 seconds from its beginning, the others ``easy``: the sum decides."""
    clock, asked, needs = [0.0], [], {0: easy, 1: 70, 2: easy}

    def splits(problem, k, *_, deadline, **__):
        asked.append(k)
        enough = deadline - clock[0] >= needs[k]
        clock[0] = clock[0] + needs[k] if enough else deadline
        return search.Found("robust", 1.0) if enough else search.Found("unknown", -0.5)

    monkeypatch.setattr(verifier, "branch_and_bound", splits)
    monkeypatch.setattr(time, "thread_time", lambda: clock[0])
    problem = type("Problem", (), {"units": verifier.MOST_UNITS + 1})()
    budget = verifier.Budget(verifier.Clock(100.0), 1e-6, 5, "highs")
    bounds = torch.tensor([-1.0, -3.0, -2.0])
    found = verifier.search_margins(problem, bounds, {k: torch.zeros(1) for k in range(3)}, None, budget)
    assert asked[:3] == [1, 2, 0], "the least first"
    assert asked[3:] == ([1] if easy == 2 else [0, 2, 1]), "what is left, the hardest last"
    assert (found[0], found[1]) == ("robust" if easy == 2 else "unknown", "branch and bound")
    assert clock[0] >= 70


def test_optimisation_ends_at_its_deadline():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 2)).eval()
    form = verification.normal_form(net, (3,))
    problem = verifier.reduce(form, -np.ones(3), np.ones(3), *verifier.class_margins(0, 2))
    slopes = [(s.high > -s.low).double()[None] for s in problem.stages]
    question = problem.stages, (problem.low, problem.high), problem.rows, problem.const, slopes
    plain = reduced.relaxed(*question).bound
    late, early = (reduced.optimised(*question, steps=30, enough=1e9, deadline=end)[0].bound for end in (math.inf, 0.0))
    assert torch.equal(early, plain), "one pass, which is a bound"
    assert (late > plain).all()
