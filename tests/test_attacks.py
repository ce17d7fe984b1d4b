"""One contract for every attack, then what each promises beyond it."""

import copy
import functools
import inspect
import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import nn

from advlab import attacks
from advlab.attacks import black_box, steps

LINF, L2, L0 = 0.1, 1.0, 40  # L0: how many of the 784 pixels may change
g = torch.Generator


def seeded(attack, **options):
    return lambda *args, **more: attack(*args, generator=g().manual_seed(3), **options, **more)


#: name -> (attack, norm, budget): every attack of the module stands here, which a test below holds.
TABLE = {
    "fgsm": (attacks.fgsm, "linf", LINF),
    "fgsm l2": (functools.partial(attacks.fgsm, norm="l2"), "l2", L2),
    "apgd": (seeded(attacks.apgd, steps=20), "linf", LINF),
    "apgd l2": (seeded(attacks.apgd, steps=20, norm="l2"), "l2", L2),
    "apgd targeted": (seeded(attacks.apgd, steps=10, loss="targeted"), "linf", LINF),
    "bim": (attacks.bim, "linf", LINF),
    "pgd": (seeded(attacks.pgd), "linf", LINF),
    "pgd l2": (seeded(attacks.pgd, norm="l2"), "l2", L2),
    "pgd margin": (seeded(attacks.pgd, loss="margin"), "linf", LINF),
    "pgd dlr": (seeded(attacks.pgd, loss="dlr"), "linf", LINF),
    "pgd every step": (seeded(attacks.pgd, active_set=False), "linf", LINF),
    "pgd restarts": (seeded(attacks.pgd, restarts=3, steps=5), "linf", LINF),
    "mi_fgsm": (attacks.mi_fgsm, "linf", LINF),
    "square": (seeded(attacks.square, queries=100), "linf", LINF),
    "hop_skip_jump": (seeded(attacks.hop_skip_jump, queries=600, batch=40), "linf", 0.25),
    "hop_skip_jump l2": (seeded(attacks.hop_skip_jump, queries=600, batch=40, norm="l2"), "l2", 4.0),
    "ddn": (functools.partial(attacks.ddn, steps=30), "l2", L2),
    "cw_l2": (functools.partial(attacks.cw_l2, steps=30, search_steps=4), "l2", L2),
    "fmn_linf": (functools.partial(attacks.fmn_linf, steps=30), "linf", LINF),
    "sigma_zero": (functools.partial(attacks.sigma_zero, steps=60), "l0", L0),
    "deepfool": (functools.partial(attacks.deepfool, steps=8), "l2", L2),
    "jsma": (attacks.jsma, "l0", L0),
    "cw_linf": (functools.partial(attacks.cw_linf, steps=60, patience=10, learning_rate=0.03, initial_c=1.0), "linf", 0.15),
    "cw_l0": (functools.partial(attacks.cw_l0, rounds=8, steps=6, drop=0.5), "l0", L0),
    "autoattack": (attacks.autoattack, "linf", 2 * LINF),  # thousands of passes for each image that resists
}
FAST = [name for name in TABLE if name != "autoattack"]
UNTARGETED = {"deepfool", "autoattack"}  # these take no targets, which a test below holds


def distance(x_adv, x, norm):
    if norm == "l0":  # positions, whatever the channel
        return (x_adv != x).any(1).flatten(1).sum(1)
    delta = (x_adv - x).flatten(1)
    return delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)


def errors(net, x, y):
    with torch.no_grad():
        return net(x).argmax(1) != y


def test_the_table_has_every_attack():
    public = {n for n, f in vars(attacks).items() if inspect.isfunction(f) and f.__module__.startswith(attacks.__name__)}
    assert public <= set(attacks.__all__)
    not_attacks = {"ce_loss", "margin_loss", "dlr_loss", "bpda", "straight_through", "expectation", "minimal_l2"}
    assert public - not_attacks == {name.split()[0] for name in TABLE}
    takes_none = {name for name in TABLE if "targets" not in inspect.signature(getattr(attacks, name.split()[0])).parameters}
    assert takes_none == UNTARGETED


@pytest.mark.parametrize("name", TABLE)
def test_contract(name, net, digits):
    attack, norm, eps = TABLE[name]
    x, y = (t[:10] for t in digits) if name == "autoattack" else digits
    before = x.clone(), y.clone(), [p.clone() for p in net.parameters()]
    clean = errors(net, x, y)
    x_adv = attack(net, x, y, eps=eps)
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert x_adv.device == x.device
    assert not x_adv.requires_grad
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert distance(x_adv, x, norm).max() <= eps + 1e-6
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before[2], strict=True))
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not net.training
    assert errors(net, x_adv, y).sum() > clean.sum() + len(x) // 20, "the attack finds next to nothing"
    assert torch.equal(attack(net, x, y, eps=0.0), x)
    assert attack(net, x[:0], y[:0], eps=eps).shape == x[:0].shape


@pytest.mark.parametrize("name", FAST)
def test_the_result_does_not_depend_on_the_context_it_is_called_in(name, net, digits):
    attack, _, eps = TABLE[name]
    x, y = (t[:5] for t in digits)
    usual = attack(net, x, y, eps=eps)
    with torch.no_grad():
        assert torch.equal(attack(net, x, y, eps=eps), usual)
    with torch.inference_mode():
        assert torch.equal(attack(net, x.clone(), y.clone(), eps=eps), usual)
    needs = x.clone().requires_grad_()
    assert torch.equal(attack(net, needs, y, eps=eps), usual)
    assert needs.grad is None


@pytest.mark.parametrize("name", FAST)
def test_double_precision_stays_double(name, net, digits):
    attack, norm, eps = TABLE[name]
    x, y = digits[0][:5].double(), digits[1][:5]
    x_adv = attack(copy.deepcopy(net).double(), x, y, eps=eps)
    assert x_adv.dtype == torch.float64
    assert distance(x_adv, x, norm).max() <= eps + 1e-12


@pytest.mark.parametrize("name", [name for name in FAST if name not in UNTARGETED])
def test_targets_are_reached_more_often_than_untargeted(name, net, digits):
    attack, norm, eps = TABLE[name]
    x, y = digits
    targets = (y + 1) % 10
    x_adv = attack(net, x, y, eps=3 * eps, targets=targets)
    assert distance(x_adv, x, norm).max() <= 3 * eps + 1e-6
    with torch.no_grad():
        before, after = (net(v).argmax(1).eq(targets).sum() for v in (x, x_adv))
        other = net(attack(net, x, y, eps=3 * eps)).argmax(1).eq(targets).sum()
    assert after > before
    assert after >= other


BAD = {
    "bytes": (lambda x, y: ((x * 255).byte(), y), TypeError, "255"),
    "float labels": (lambda x, y: (x, y.float()), TypeError, "long"),
    "arrays": (lambda x, y: (x.numpy(), y), TypeError, "tensors"),
    "one image, no batch": (lambda x, y: (x[0], y[:28]), ValueError, "cannot take|shape"),
    "a vector": (lambda x, y: (x.flatten(), y), ValueError, "batch"),
    "wrong image size": (lambda x, y: (x[:, :, :20], y), ValueError, "cannot take inputs"),
    "too few labels": (lambda x, y: (x, y[:-1]), ValueError, "need"),
    "above one": (lambda x, y: (x * 255, y), ValueError, r"\[0, 1\]"),
    "not a number": (lambda x, y: (x * math.nan, y), ValueError, r"\[0, 1\]"),
    "label out of range": (lambda x, y: (x, y + 5), ValueError, "classes 0 to 9"),
    "negative label": (lambda x, y: (x, y - 8), ValueError, "classes 0 to 9"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", TABLE)
def test_bad_input_is_refused_with_what_to_do(name, case, net, digits):
    spoil, error, says = BAD[case]
    with pytest.raises(error, match=says):
        TABLE[name][0](net, *spoil(*digits), eps=0.1)


@pytest.mark.parametrize("name", TABLE)
def test_training_mode_and_bad_budgets_are_refused(name, net, digits):
    attack = TABLE[name][0]
    net.train()
    try:
        with pytest.raises(ValueError, match=r"model.eval\(\)"):
            attack(net, *digits, eps=0.1)
    finally:
        net.eval()
    for eps in (-0.1, math.nan):
        with pytest.raises(ValueError, match="budget"):
            attack(net, *digits, eps=eps)


def test_options_are_checked(net, digits):
    for options, says in [
        ({"norm": "l7"}, "norm"),
        ({"loss": "huber"}, "one of ce, margin, dlr"),
        ({"steps": 0}, "at least 1"),
        ({"start": torch.zeros(1, 1, 28, 28)}, "start"),
        ({"targets": torch.full((60,), 10)}, "classes 0 to 9"),
    ]:
        with pytest.raises(ValueError, match=says):
            attacks.pgd(net, *digits, eps=0.1, **options)
    with pytest.raises(ValueError, match="images"):
        attacks.square(nn.Linear(4, 3).eval(), torch.rand(2, 4), torch.zeros(2, dtype=torch.int64), eps=0.1)


def test_more_restarts_never_help_the_defender(net, digits):
    broken = [
        errors(net, attacks.pgd(net, *digits, eps=0.06, steps=4, restarts=r, generator=g().manual_seed(5)), digits[1])
        for r in (1, 2, 4, 8)
    ]
    for fewer, more in itertools.pairwise(broken):
        assert not (fewer & ~more).any()
    assert broken[-1].sum() > broken[0].sum(), "restarts found nothing: the test shows nothing"


@pytest.mark.parametrize("active_set", [True, False])
def test_a_warm_start_makes_the_errors_grow_with_eps(net, digits, active_set):
    start, before = None, errors(net, *digits)
    counts = []
    for eps in (0.02, 0.05, 0.1, 0.2):
        start = attacks.pgd(net, *digits, eps=eps, steps=5, start=start, active_set=active_set, generator=g().manual_seed(0))
        now = errors(net, start, digits[1])
        assert not (before & ~now).any()
        before = now
        counts.append(int(now.sum()))
    assert counts[-1] > counts[0]


def test_active_set_and_every_step_break_the_same_digits_at_less_cost(net, digits):
    class Counting(nn.Module):
        seen = 0

        def forward(self, x):
            self.seen += len(x)
            return net(x)

    model = Counting().eval()
    results, cost = [], []
    for active_set in (True, False):
        model.seen = 0
        x_adv = attacks.pgd(model, *digits, eps=0.1, active_set=active_set, generator=g().manual_seed(1))
        results.append(errors(net, x_adv, digits[1]))
        cost.append(model.seen)
    assert torch.equal(*results)
    assert cost[1] == 60 * 41 + 1
    assert cost[0] < cost[1] / 2


# ------------------------------------------------------------------------------- the plain versions of what is faster


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_with_bounds_kept_is_the_projected_step(digits, dtype):
    x = digits[0].to(dtype)
    x_adv = x
    for seed in range(5):
        gradient = torch.randn(x.shape, generator=g().manual_seed(seed), dtype=dtype) * (x > 0.3)  # exact zeros too
        plain = steps.project(x_adv + 0.03 * gradient.sign(), x, 0.1, "linf")
        x_adv = steps.steepest_step(x, 0.1, "linf")(x_adv, gradient, 0.03)
        assert torch.equal(x_adv, plain)
    assert (x_adv - x).abs().max() > 0.09, "the ball was reached"


@pytest.mark.parametrize("targeted", [False, True])
def test_pgd_is_the_plain_loop_and_the_first_success_of_each_example(net, digits, targeted):
    model, x, y = copy.deepcopy(net).double(), digits[0].double(), digits[1]
    goal = (y + 1) % 10 if targeted else None
    x_adv, first = x.clone(), [None] * len(x)
    for step in range(9):
        at = x_adv.requires_grad_()
        logits = model(at)
        for row, label in enumerate(logits.argmax(1).tolist()):
            if first[row] is None and (label == goal[row] if targeted else label != y[row]):
                first[row] = x_adv[row].detach()
        if step < 8:
            loss = -nn.functional.cross_entropy(logits, goal) if targeted else nn.functional.cross_entropy(logits, y)
            (gradient,) = torch.autograd.grad(loss, at)
            x_adv = (x_adv.detach() + 0.02 * gradient.sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1)
    plain = torch.stack([x_adv[row].detach() if found is None else found for row, found in enumerate(first)])
    ours = attacks.pgd(model, x, y, eps=0.1, steps=8, step_size=0.02, targets=goal, random_start=False)
    assert 5 < sum(found is None for found in first) < 58, "both kinds are there"
    assert torch.allclose(ours, plain, atol=1e-9)


def test_the_squares_shrink_where_the_paper_says():
    """The table of section 3.2: the share halves after so many of 10,000 queries."""
    share, at = 1.0, {}
    for query in range(10_000):
        share /= 2 if query - 1 in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000) else 1
        at[query] = share
    assert all(black_box.square_schedule(query, 10_000) == at[query] for query in at)
    assert black_box.square_schedule(600, 1000) == at[6000]


@pytest.mark.parametrize("name", [n for n in attacks.__all__ if n in {name.split()[0] for name in TABLE}])
def test_an_attack_says_all_of_its_contract(name):
    sections = re.findall(r"^(\w+)\n-+$", inspect.getdoc(getattr(attacks, name)), re.M)
    assert sections == ["Parameters", "Returns", "Raises", "Guarantee", "References", "Examples"]
    described = inspect.getdoc(getattr(attacks, name)).partition("Returns\n")[0]
    for parameter in inspect.signature(getattr(attacks, name)).parameters:
        assert re.search(rf"^(?:\w+, )*{parameter}(?:, \w+)* : ", described, re.M), parameter


# ------------------------------------------------------------------------------- oracles that share no code with ours


def linear(weight, bias):
    model = nn.Linear(weight.shape[1], weight.shape[0]).double().eval()
    model.weight.data, model.bias.data = torch.as_tensor(weight), torch.as_tensor(bias)
    return model


@given(seed=st.integers(0, 10_000), eps=st.floats(0.01, 0.3))
@settings(max_examples=25, deadline=None)
def test_pgd_meets_the_linear_programme(seed, eps):
    """On a linear network the worst margin in ball and box is a linear programme, which SciPy solves."""
    random = np.random.default_rng(seed)
    weight, x = random.normal(size=(2, 6)), random.uniform(size=6)
    gap = weight[1] - weight[0]
    bias = np.array([1e3, 0.0])  # class 0 wins everywhere, so that the attack runs to its end
    bounds = list(zip(np.maximum(x - eps, 0), np.minimum(x + eps, 1), strict=True))
    best = -linprog(-gap, bounds=bounds).fun
    x_adv = attacks.pgd(
        linear(weight, bias), torch.tensor(x[None]), torch.zeros(1, dtype=torch.int64), eps=eps, loss="margin", steps=60
    )
    assert (x_adv[0].numpy() @ gap) == pytest.approx(best, abs=1e-9)


def nearest(weight, bias, x):
    """How far the nearest point of the box with the other class of a linear network is from ``x``, by SciPy's SLSQP."""
    own = int(np.argmax(weight @ x + bias))
    gap, offset = weight[1 - own] - weight[own], bias[1 - own] - bias[own]
    solution = minimize(
        lambda z: ((z - x) ** 2).sum(),
        x,
        jac=lambda z: 2 * (z - x),
        bounds=[(0, 1)] * len(x),
        constraints={"type": "ineq", "fun": lambda z: gap @ z + offset, "jac": lambda z: gap},
        method="SLSQP",
    )
    return float(np.sqrt(solution.fun)) if solution.success else math.inf


@pytest.mark.parametrize("seed", range(3))
def test_l2_attacks_come_near_the_quadratic_programme(seed):
    """On a batch of points of one linear network: the attacks tune each on its own."""
    random = np.random.default_rng(seed)
    weight, bias = random.normal(size=(2, 5)), random.normal(size=2) * 0.1
    points = random.uniform(0.1, 0.9, size=(40, 5))
    best = np.array([nearest(weight, bias, x) for x in points])
    points, best = (values[(best > 0.01) & (best < 0.4)] for values in (points, best))
    assert len(points) >= 8
    model, batch = linear(weight, bias), torch.tensor(points)
    labels = model(batch).argmax(1)
    for attack, slack in ((attacks.ddn, 1.10), (attacks.cw_l2, 1.05)):
        x_adv = attack(model, batch, labels, steps=200)
        found = distance(x_adv, batch, "l2").numpy()
        assert errors(model, x_adv, labels).all()
        assert (found >= best * (1 - 1e-6)).all(), attack.__name__
        assert (found <= best * slack + 0.01).all(), attack.__name__


@given(seed=st.integers(0, 10_000), k=st.integers(4, 8))
@settings(max_examples=25, deadline=None)
def test_losses_against_numpy_and_the_sign_of_the_margin(seed, k):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(7, k)) * 5
    y, t = random.integers(0, k, 7), random.integers(0, k, 7)
    rows, ranked = np.arange(7), -np.sort(-logits, axis=1)
    others = np.where(np.eye(k, dtype=bool)[y], -np.inf, logits).max(1)
    args = torch.tensor(logits), torch.tensor(y)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-9)
    close(attacks.ce_loss(*args), -np.log(probabilities[rows, y]))
    close(attacks.ce_loss(*args, torch.tensor(t)), np.log(probabilities[rows, t]))
    close(attacks.margin_loss(*args), others - logits[rows, y])
    close(attacks.dlr_loss(*args), (others - logits[rows, y]) / (ranked[:, 0] - ranked[:, 2]))
    gap = logits[rows, t] - logits[rows, y]
    close(attacks.dlr_loss(*args, torch.tensor(t)), gap / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2))
    assert ((attacks.margin_loss(*args) > 0).numpy() == (logits.argmax(1) != y)).all()
    with pytest.raises(ValueError, match="DLR loss needs"):
        attacks.dlr_loss(args[0][:, :2], args[1] * 0)


def test_minimal_l2_serves_any_criterion_and_reports_failure():
    x = torch.rand(4, 3, dtype=torch.float64)
    half = attacks.minimal_l2(lambda z: 0.9 - z[:, 0], x, steps=200)  # nearest point with z_0 > 0.9
    expected = (0.9 - x[:, 0]).clamp_min(0)
    assert torch.allclose((half - x).norm(dim=1), expected, atol=0.01)
    assert (half[:, 0] > 0.9).all()
    assert torch.equal(attacks.minimal_l2(lambda z: z[:, 0] + 1, x, steps=5), x)  # cannot be met: x comes back
    with pytest.raises(ValueError, match=r"must give \(4,\)"):
        attacks.minimal_l2(lambda z: z, x)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        attacks.minimal_l2(lambda z: z[:, 0], x + 1)


def test_confidence_costs_distance(net, digits):
    x, y = (t[:10] for t in digits)
    near, sure = (attacks.cw_l2(net, x, y, confidence=kappa, steps=60) for kappa in (0.0, 10.0))
    with torch.no_grad():
        assert (attacks.margin_loss(net(sure), y) > 9.99).all()
    assert (distance(sure, x, "l2") > distance(near, x, "l2")).all()


def test_surrogates_keep_the_value_exactly_and_pass_a_gradient(net, digits):
    def rounding(x):
        return torch.round(x)

    x = digits[0][:3].clone().requires_grad_()
    for hook in (attacks.straight_through(rounding), attacks.bpda(rounding, lambda v: torch.sigmoid(20 * (v - 0.5)))):
        assert torch.equal(hook(x), rounding(x.detach()))
        assert torch.autograd.grad(hook(x).sum(), x)[0].abs().sum() > 0
    assert torch.autograd.grad(attacks.straight_through(rounding)(x).sum(), x)[0].eq(1).all()
    with pytest.raises(ValueError, match="must be equal"):
        attacks.bpda(rounding, lambda v: v[:, 0])(x)


def test_an_attack_through_rounding_needs_the_hook(net, digits):
    """The adaptive attack of a quantised network gets no signal without a surrogate, and gets one with it."""

    class Quantised(nn.Module):
        def __init__(self, squeeze):
            super().__init__()
            self.squeeze = squeeze

        def forward(self, x):
            return net(self.squeeze(x))

    def squeeze(x):
        return torch.round(x * 3) / 3

    blind = Quantised(squeeze).eval()
    sighted = Quantised(attacks.straight_through(squeeze)).eval()
    blindly, seeing = (
        errors(blind, attacks.pgd(m, *digits, eps=0.25, steps=20, random_start=False), digits[1]).sum()
        for m in (blind, sighted)
    )
    assert seeing > blindly + 10


def test_a_model_without_gradients_is_refused(net, digits):
    class Cut(nn.Module):
        def forward(self, x):
            return net(x.detach()).detach()

    with pytest.raises(ValueError, match="bpda"):
        attacks.pgd(Cut().eval(), *digits, eps=0.1)


def test_square_needs_no_gradient(net, digits):
    class Cut(nn.Module):
        def forward(self, x):
            with torch.no_grad():
                return net(x.detach())

    x_adv = attacks.square(Cut().eval(), *digits, eps=0.2, queries=150, generator=g().manual_seed(0))
    assert errors(net, x_adv, digits[1]).sum() > errors(net, *digits).sum() + 10


class Counted(nn.Module):
    """Counts the images that it is shown."""

    def __init__(self, net):
        super().__init__()
        self.net, self.shown = net, 0

    def forward(self, x):
        self.shown += len(x)
        return self.net(x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_labels_alone_lead_near_the_exact_distance_to_a_plane(norm):
    torch.manual_seed(0)
    d = 60
    net = Counted(nn.Linear(d, 2).double()).eval()
    x = 0.4 + 0.2 * torch.rand(8, d, dtype=torch.float64)
    y = net(x).argmax(1)
    weight = (net.net.weight[1] - net.net.weight[0]).detach()
    logits = net(x).detach()
    exact = (logits[:, 1] - logits[:, 0]).abs() / (weight.abs().sum() if norm == "linf" else weight.norm())
    found = {}
    for queries in (300, 6000):
        net.shown = 0
        x_adv = attacks.hop_skip_jump(net, x, y, norm=norm, queries=queries, generator=g().manual_seed(0))
        assert net.shown <= len(x) * queries + 1, "one image more checks the input"
        assert errors(net, x_adv, y).all()
        found[queries] = distance(x_adv, x, norm) / exact
        assert (found[queries] >= 1 - 1e-9).all()
    assert found[6000].median() < found[300].median()
    assert found[6000].median() < (1.1 if norm == "l2" else 1.25)


def test_labels_alone_from_a_start_of_the_readers(net, digits):
    first = [int((digits[1] == k).nonzero()[0]) for k in digits[1].unique()]
    x, y = digits[0][first], digits[1][first]
    start, targets = x.roll(1, 0), y.roll(1)
    reached = net(start).argmax(1) == targets
    x_adv = attacks.hop_skip_jump(net, x, y, queries=300, start=start, targets=targets, generator=g().manual_seed(0))
    assert torch.equal(net(x_adv).argmax(1) == targets, reached | (net(x).argmax(1) == targets))
    assert (distance(x_adv, x, "linf") <= distance(start, x, "linf") + 1e-6).all()
    for options, says in (({"queries": 0}, "at least 1"), ({"batch": 0}, "at least 1"), ({"start": start[:2]}, "shape")):
        with pytest.raises(ValueError, match=says):
            attacks.hop_skip_jump(net, x, y, **options)
