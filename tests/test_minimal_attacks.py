"""DeepFool, JSMA and the attacks of Carlini and Wagner against closed forms, linear programmes and plain searches."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from advlab import attacks
from advlab.attacks import minimal


def affine(weight, bias, *, flat=False):
    layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
    layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    return (nn.Sequential(nn.Flatten(), layer) if flat else layer).eval()


def guesses(model, x):
    with torch.no_grad():
        return model(x).argmax(1)


def margins(weight, bias, x, y):
    """By how much the best wrong class leads, in NumPy."""
    logits = x @ weight.T + bias
    own = logits[np.arange(len(x)), y].copy()
    logits[np.arange(len(x)), y] = -np.inf
    return logits.max(1) - own


@functools.cache
def small_net(width=8, channels=1, classes=4):
    """A random network in double precision for images (n, channels, width, width): no two derivatives are alike."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = nn.Flatten(), nn.Linear(channels * width * width, 16), nn.Tanh(), nn.Linear(16, classes)
        return nn.Sequential(*layers).double().eval()


# ---------------------------------------------------------------------------------------------- JSMA


def saliency(alpha, beta, free, sign):
    """Papernot et al. (2016), equations 8 to 10 and algorithm 3: the first best pair in reading order, over all pairs."""
    best, pair = 0.0, None
    for p, q in itertools.combinations(range(len(alpha)), 2):
        up, down = sign * (alpha[p] + alpha[q]), -sign * (beta[p] + beta[q])
        if free[p] and free[q] and up > 0 and down > 0 and up * down > best:
            best, pair = up * down, (p, q)
    return best, pair


@given(data=st.data(), n=st.integers(1, 4), values=st.integers(2, 12), sign=st.sampled_from([1.0, -1.0]), tied=st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_pruned_pair_is_the_best_of_all_pairs(data, n, values, sign, tied):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = (n, values)
    alpha, beta = (random.integers(-2, 3, shape).astype(float) if tied else random.normal(size=shape) for _ in range(2))
    free = random.uniform(size=shape) < data.draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    first, second, found = minimal.best_pair(*map(torch.tensor, (alpha, beta, free)), sign)
    for row in range(n):
        value, pair = saliency(alpha[row], beta[row], free[row], sign)
        assert found[row] == (pair is not None)
        if pair is None:
            continue
        p, q = int(first[row]), int(second[row])
        assert (p, q) == pair
        assert -(alpha[row, p] + alpha[row, q]) * (beta[row, p] + beta[row, q]) == value


def test_many_values_where_next_to_nothing_is_pruned():
    """On a falling staircase no value is beaten in both, so that all are paired."""
    alpha = torch.linspace(1, 2, 40, dtype=torch.float64)[None]
    beta = alpha.flip(1) ** 2
    first, second, found = minimal.best_pair(alpha, -beta, torch.ones_like(alpha, dtype=torch.bool), 1.0)
    assert (int(first), int(second)) == saliency(alpha[0].numpy(), -beta[0].numpy(), [True] * 40, 1.0)[1]
    assert found


def plain_jsma(model, image, target, theta, gamma):
    """Algorithm 3 for one image, with the whole Jacobian and all pairs; a value that has changed leaves the search."""
    shape, z = image.shape, image.numpy().flatten().copy()
    free = z < 1 if theta > 0 else z > 0
    pixels = []
    for _ in range(math.floor(gamma * z.size / 2)):
        at = torch.tensor(z).view(1, *shape)
        if guesses(model, at) == target:
            break
        jacobian = torch.autograd.functional.jacobian(lambda v: model(v)[0], at).flatten(1).numpy()
        alpha, beta = jacobian[target], np.delete(jacobian, target, axis=0).sum(0)
        _, pair = saliency(alpha, beta, free, math.copysign(1, theta))
        if pair is None:
            break
        for p in pair:
            z[p] = min(max(z[p] + theta, 0), 1)
            free[p] = False
        pixels += pair
    return torch.tensor(z).view(shape), pixels


def images(n, *shape):
    x = torch.rand(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return torch.where(x < 0.3, 0, torch.where(x > 0.9, 1, x))  # black and white ones too


@pytest.mark.parametrize(("theta", "channels"), [(1.0, 1), (-1.0, 1), (0.4, 1), (1.0, 2)])
def test_jsma_makes_the_images_of_the_plain_algorithm(theta, channels):
    width = 8 if channels == 1 else 5
    net, x = small_net(width, channels), images(5, channels, width, width)
    y, gamma = guesses(net, x), 0.4
    targets = (y + torch.tensor([1, 2, 3, 1, 2])) % 4
    found = attacks.jsma(net, x, y, theta=theta, gamma=gamma, targets=targets)
    expected = [plain_jsma(net, *pair, theta, gamma) for pair in zip(x, targets.tolist(), strict=True)]
    for mine, (image, pixels) in zip(found, expected, strict=True):
        assert torch.equal(mine, image)
        assert len(set(pixels)) == len(pixels)
    assert len({len(pixels) for _, pixels in expected}) > 1, "all stop at the same step: the test shows little"
    assert (found - x).mul(math.copysign(1, theta)).min() >= 0


def test_jsma_changes_no_more_than_gamma_and_stops_at_the_target():
    net, x = small_net(), images(12, 1, 8, 8)
    y = guesses(net, x)
    targets = (y + 1) % 4
    runs = {gamma: attacks.jsma(net, x, y, gamma=gamma, targets=targets) for gamma in (2 / 64, 0.2, 0.5, 1.0)}
    changed = {gamma: (run != x).flatten(1).sum(1) for gamma, run in runs.items()}
    reached = {gamma: guesses(net, run) == targets for gamma, run in runs.items()}
    for gamma in runs:
        assert (changed[gamma] <= gamma * 64).all()
    for less, more in itertools.pairwise(runs):
        done = reached[less]
        assert torch.equal(runs[less][done], runs[more][done]), "an image that reached its target changed further"
        assert (reached[more] | ~done).all()
    assert 0 < reached[0.2].sum() < 12
    assert reached[0.5].sum() > reached[0.2].sum()
    # whoever is not there has used its share, to the last pair, or no pair was left
    missed = ~reached[0.2]
    assert (changed[0.2][missed] == 12).any()


def test_jsma_without_targets_takes_the_likeliest_wrong_class():
    net, x = small_net(), images(10, 1, 8, 8)
    with torch.no_grad():
        order = net(x).argsort(1, descending=True)
    y = order[:, 0].clone()
    likeliest = order[:, 1].clone()
    y[0], likeliest[0] = order[0, 1], order[0, 0]  # misclassified before: nothing to do
    found = attacks.jsma(net, x, y, gamma=0.3)
    assert torch.equal(found, attacks.jsma(net, x, y, gamma=0.3, targets=likeliest))
    assert torch.equal(found[0], x[0])
    assert (guesses(net, found) == likeliest).sum() > 5


def test_jsmas_budget_counts_positions_and_leaves_the_last_image_within_it():
    net, x = small_net(5, 3), images(6, 3, 5, 5)
    y = guesses(net, x)
    targets = (y + 1) % 4
    for eps in (1, 3, 6):
        found = attacks.jsma(net, x, y, eps=eps, gamma=1.0, targets=targets)
        positions, values = (found != x).any(1).flatten(1).sum(1), (found != x).flatten(1).sum(1)
        assert (positions <= eps).all()
        for image, label, target, mine, count in zip(x, y, targets, found, values, strict=True):
            gamma, one = (int(count) + 0.5) / 75, (image[None], label[None])
            same_steps = attacks.jsma(net, *one, gamma=gamma, targets=target[None]) if count else one[0]
            assert torch.equal(mine, same_steps[0]), "not an image of the unbounded run"
    assert (values > positions).any(), "channels never met: the test shows nothing"


# ---------------------------------------------------------------------------------------------- DeepFool


def affine_case(seed, classes=5, d=12, n=8):
    random = np.random.default_rng(seed)
    weight, bias = random.normal(size=(classes, d)), random.normal(size=classes) * 0.2
    x = random.uniform(0.4, 0.6, size=(n, d))
    return weight, bias, x, (x @ weight.T + bias).argmax(1)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_deepfool_finds_the_nearest_border_of_an_affine_classifier(seed):
    """The least |f_k - f_y| / |w_k - w_y|, plus the 1e-4 that the authors' code adds, while the box is far away."""
    weight, bias, x, y = affine_case(seed)
    weight *= 4  # so that borders are near
    bias -= bias + 0.5 * weight.sum(1)  # all borders pass through the middle of the box
    y = (x @ weight.T + bias).argmax(1)
    logits = x @ weight.T + bias
    expected = [
        min((logits[i, y[i]] - logits[i, k]) / np.linalg.norm(weight[k] - weight[y[i]]) for k in range(5) if k != y[i])
        for i in range(len(x))
    ]
    model, batch, labels = affine(weight, bias), torch.tensor(x), torch.tensor(y)
    exact = attacks.deepfool(model, batch, labels, overshoot=0.0)
    distance = (exact - batch).norm(dim=1).numpy()
    np.testing.assert_allclose(distance, np.add(expected, 1e-4), rtol=1e-8)
    assert (guesses(model, exact) != labels).all()
    for overshoot in (0.02, 0.3):
        further = attacks.deepfool(model, batch, labels, overshoot=overshoot)
        assert torch.allclose(further - batch, (1 + overshoot) * (exact - batch), rtol=1e-10)


def test_deepfool_stops_at_the_first_wrong_answer_and_returns_x_where_there_is_none(net, digits):
    x, y = (t[:30] for t in digits)
    runs = [x, *(attacks.deepfool(net, x, y, steps=steps) for steps in (1, 2, 4, 8, 50))]
    wrong = [guesses(net, run) != y for run in runs]
    for (less, fooled), (more, after) in itertools.pairwise(zip(runs, wrong, strict=True)):
        assert torch.equal(less[fooled], more[fooled]), "moved on from a wrong answer"
        assert (after | ~fooled).all()
        assert torch.equal(less[~fooled], x[~fooled])
    assert wrong[-1].all()
    assert wrong[0].sum() < wrong[1].sum() < wrong[4].sum() < 30
    lost = guesses(net, x) != y
    assert torch.equal(runs[-1][lost], x[lost])
    distance = (runs[-1] - x).flatten(1).norm(dim=1)
    near = distance <= distance.median()
    bounded = attacks.deepfool(net, x, y, eps=float(distance.median()))
    assert torch.equal(bounded[near], runs[-1][near])
    assert torch.equal(bounded[~near], x[~near])


def test_deepfool_moves_by_the_nearest_class_even_where_another_is_likelier():
    """Class 1 is the likelier wrong one, but the border of class 2, which is steep, is nearer."""
    weight = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 20.0]])
    model = affine(weight, np.array([0.3, -0.3, -11.0]))
    x = torch.full((1, 2), 0.5, dtype=torch.float64)
    found = attacks.deepfool(model, x, torch.tensor([0]), overshoot=0.02)
    assert guesses(model, found) == 2
    assert found[0, 0] == 0.5
    assert float(found[0, 1]) == pytest.approx(0.5 + 1.02 * (1.3 / 20 + 1e-4))


# ---------------------------------------------------------------------------------------------- linf of Carlini and Wagner


def nearest_linf(weight, bias, x, y, kappa):
    """The least linf change within the box that gives another class a lead of ``kappa``: a linear programme for each."""
    d, best = len(x), math.inf
    for k in set(range(len(bias))) - {y}:
        gap, offset = weight[k] - weight[y], bias[k] - bias[y]
        sides = np.block([[-gap, np.zeros(1)], [np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))]])
        bounds = [(0, 1)] * d + [(0, None)]
        solution = linprog(np.eye(d + 1)[d], A_ub=sides, b_ub=np.concatenate([[offset - kappa], x, -x]), bounds=bounds)
        if solution.success:
            best = min(best, solution.fun)
    return best


def test_cw_linf_comes_near_the_linear_programme():
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(4, 30)), random.normal(size=4) * 0.3
    x = random.uniform(size=(16, 30))
    x[:, :6] = x[:, :6].round()  # black and white values, so that the box binds
    y, kappa = (x @ weight.T + bias).argmax(1), 0.5
    best = np.array([nearest_linf(weight, bias, *one, kappa) for one in zip(x, y, strict=True)])
    model, batch, labels = affine(weight, bias), torch.tensor(x), torch.tensor(y)
    for options, slack, middle in (({}, 1.25, 1.10), ({"shrink": 0.97, "learning_rate": 0.005}, 1.2, 1.04)):
        found = attacks.cw_linf(model, batch, labels, confidence=kappa, **options).numpy()
        ratio = np.abs(found - x).max(1) / best
        assert (margins(weight, bias, found, y) >= kappa).all()
        assert ratio.min() >= 1 - 1e-9
        assert ratio.max() < slack
        assert np.median(ratio) < middle


def test_cw_linf_in_the_middle_of_the_box_is_the_margin_over_the_l1_norm():
    random = np.random.default_rng(1)
    weight, bias = random.normal(size=(2, 40)), np.zeros(2)
    x = random.uniform(0.45, 0.55, size=(12, 40))
    y = (x @ weight.T).argmax(1)
    exact = -margins(weight, bias, x, y) / np.abs(weight[1] - weight[0]).sum()
    found = attacks.cw_linf(affine(weight, bias), torch.tensor(x), torch.tensor(y), shrink=0.97, learning_rate=0.002).numpy()
    far = exact > 0.005  # x is drawn in by 1 %, which no result can be finer than at first
    assert far.sum() > 5
    ratio = np.abs(found - x).max(1)[far] / exact[far]
    assert (ratio >= 1).all()
    assert (ratio < 1.08).all()


def test_cw_linf_confidence_eps_and_more_steps(net, digits):
    x, y = (t[:8] for t in digits)
    run = functools.partial(attacks.cw_linf, net, x, y, learning_rate=0.03, initial_c=1.0, patience=15)

    def size(found):
        change = (found - x).abs().flatten(1).amax(1)
        return change.where(change > 0, math.inf)

    few, more, many = (run(steps=steps) for steps in (40, 80, 160))
    assert (size(many) <= size(more)).all()
    assert (size(more) <= size(few)).all()
    assert size(many).isfinite().all()
    assert (guesses(net, many) != y).all()
    sure = run(steps=160, confidence=5.0)
    with torch.no_grad():
        assert (attacks.margin_loss(net(sure), y) > 4.99).all()
    assert size(sure).median() > size(many).median()
    eps = float(size(many).median())
    bounded = run(steps=160, eps=eps)
    fits = size(many) <= eps
    assert torch.equal(bounded[fits], many[fits])
    assert torch.equal(bounded[~fits], x[~fits])


def test_cw_linf_gives_an_image_up_when_c_is_too_large():
    """A class that no point of the box has: the attack ends after a few doublings, long before its steps are used."""

    class Counting(nn.Module):
        passes = 0

        def forward(self, x):
            self.passes += 1
            return torch.stack([x.sum(1) * 0 + 9, x.sum(1)], 1)

    model, x = Counting().eval(), torch.rand(2, 3, dtype=torch.float64)
    found = attacks.cw_linf(model, x, torch.zeros(2, dtype=torch.int64), patience=5, initial_c=1.0, largest_c=8.0)
    assert torch.equal(found, x)
    assert model.passes <= 5 * 4 + 2


# ---------------------------------------------------------------------------------------------- L0 of Carlini and Wagner


def fewest(gap, need, x):
    """How many positions of ``x`` (channels, positions), the best ones first, it takes for ``gap`` to gain ``need``."""
    gains = np.maximum(gap * (1 - x), -gap * x).sum(0)
    return int(np.searchsorted(np.cumsum(-np.sort(-gains)), need) + 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_cw_l0_comes_near_the_fewest_pixels(channels):
    random = np.random.default_rng(3)
    side, kappa = 5, 0.5 if channels == 1 else 3.0
    weight = random.normal(size=(2, channels * side * side)) / math.sqrt(channels)
    bias = -0.5 * weight.sum(1)
    x = random.uniform(size=(12, channels, side, side))
    y = (x.reshape(12, -1) @ weight.T + bias).argmax(1)
    need = kappa - margins(weight, bias, x.reshape(12, -1), y)
    signs = np.where(y == 0, 1, -1)
    gaps = (weight[1] - weight[0]).reshape(channels, -1)
    rows = zip(signs, need, x.reshape(12, channels, -1), strict=True)
    best = np.array([fewest(sign * gaps, one, image) for sign, one, image in rows])
    model = affine(weight, bias, flat=True)
    found = attacks.cw_l0(model, torch.tensor(x), torch.tensor(y), confidence=kappa, rounds=25, steps=25).numpy()
    count = (found != x).any(1).reshape(12, -1).sum(1)
    assert (margins(weight, bias, found.reshape(12, -1), y) >= kappa).all()
    assert (count >= best).all()
    assert (count <= best + 2).all()
    assert count.sum() <= 1.35 * best.sum()
    assert best.max() > 2, "too easy to show anything"


@pytest.mark.parametrize("wanted", [1, 2, 4])
def test_cw_l0_finds_the_few_pixels_that_are_enough(wanted):
    """The gap grows by 2 with each of ``wanted`` pixels, by 0.2 with the others: any other choice needs more pixels."""
    gap = np.full(20, 0.2)
    chosen = np.arange(wanted) * 3 + 1
    gap[chosen] = 2.0
    model = affine(np.stack([np.zeros(20), gap]), np.array([2.0 * wanted - 0.6, 0.0]))
    x = torch.zeros(2, 20, dtype=torch.float64)
    found = attacks.cw_l0(model, x, torch.zeros(2, dtype=torch.int64))
    for row in found:
        assert row.nonzero()[:, 0].tolist() == chosen.tolist()
    assert (guesses(model, found) == 1).all()


def test_cw_l0_counts_the_channels_of_a_position_together():
    """One position with three weak channels does what would take three values elsewhere; each of those is stronger alone."""
    gap = np.zeros((3, 4, 4))
    gap[:, 2, 1] = 2.0
    gap[0, 0, :3] = 2.2
    model = affine(np.stack([np.zeros(48), gap.flatten()]), np.array([5.0, 0.0]), flat=True)
    x = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    found = attacks.cw_l0(model, x, torch.tensor([0]))
    assert guesses(model, found) == 1
    assert (found != x).any(1).nonzero().tolist() == [[0, 2, 1]]
    none = attacks.cw_l0(model, x, torch.tensor([0]), eps=0.5)
    assert torch.equal(none, x)


def test_cw_l0_confidence_and_eps(net, digits):
    x, y = (t[:10] for t in digits)
    run = functools.partial(attacks.cw_l0, net, x, y, rounds=12, steps=12, drop=0.4)
    near, sure = run(), run(confidence=5.0)
    pixels = [(found != x).flatten(1).sum(1) for found in (near, sure)]
    with torch.no_grad():
        assert (attacks.margin_loss(net(near), y) > 0).all()
        assert (attacks.margin_loss(net(sure), y) > 4.99).all()
    assert pixels[1].sum() > pixels[0].sum()
    eps = float(pixels[0].median())
    bounded = run(eps=eps)
    fits = pixels[0] <= eps
    assert torch.equal(bounded[fits], near[fits])
    assert torch.equal(bounded[~fits], x[~fits])


# ---------------------------------------------------------------------------------------------- any criterion in L2


def half_full(z):
    return 0.5 - z[:, 0]


def test_accept_alone_decides_which_points_count():
    x = torch.full((3, 2), 0.1, dtype=torch.float64)
    search = functools.partial(attacks.minimal_l2, x=x, steps=80)
    plain = search(half_full)
    assert torch.allclose(plain - x, torch.tensor([0.4, 0.0], dtype=torch.float64), atol=0.01)
    assert torch.equal(search(half_full, accept=lambda z: z[:, 0] > 2), x)  # criterion met, never accepted
    never = search(lambda z: 1.5 - z[:, 0], accept=lambda z: z[:, 0] > 0.3)  # accepted, criterion never met
    assert (never[:, 0] > 0.3).all()
    assert torch.allclose(never - x, torch.tensor([0.2, 0.0], dtype=torch.float64), atol=0.03)
    rows = torch.tensor([True, False, True])
    some = search(half_full, accept=lambda z: rows & (z[:, 0] > 0.5))  # each example by itself
    assert torch.equal(some[rows], plain[rows])
    assert torch.equal(some[~rows], x[~rows])


def test_accept_sees_detached_points_and_the_search_follows_it():
    """What is accepted sets the distance, not the criterion: c falls once a point is accepted and grows while none is."""
    x = torch.full((1, 2), 0.1, dtype=torch.float64)
    seen = []

    def accept(z):
        seen.append(z.requires_grad)
        return z[:, 0] > 0.7

    found = attacks.minimal_l2(lambda z: 0.9 - z[:, 0], x, accept=accept, steps=100)
    assert not any(seen)
    assert 0.7 < float(found[0, 0]) < 0.75


def test_the_penalty_is_in_the_objective_but_not_in_the_search():
    x = torch.full((2, 2), 0.2, dtype=torch.float64)

    def both(z):
        return 1.0 - z.sum(1)

    plain = attacks.minimal_l2(both, x, steps=80)
    assert torch.allclose(plain, torch.full_like(x, 0.5), atol=0.01)
    constant = attacks.minimal_l2(both, x, penalty=lambda z: torch.full_like(z[:, 0], 7.0), steps=80)
    assert torch.equal(constant, plain), "the search took the penalty for a failure"
    kept = attacks.minimal_l2(both, x, penalty=lambda z: 50 * (z[:, 1] - 0.2).square(), steps=80)
    assert (kept.sum(1) > 1).all()
    assert (kept[:, 1] < 0.3).all(), "the penalty had no effect"
