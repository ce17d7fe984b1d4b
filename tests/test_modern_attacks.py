"""Auto-PGD, FMN, sigma-zero and the expectation over draws, against plain loops, closed forms and other searches."""

import functools
import math

import numpy as np
import pytest
import torch
from test_attacks import distance, errors, linear
from test_minimal_attacks import affine, fewest, guesses, margins, nearest_linf
from torch import nn

from advlab import attacks

g = torch.Generator


def plain_apgd(model, x, y, eps, steps, begin):
    """Algorithm 1 of Croce and Hein (2020) for one image, in linf and with cross entropy: its last loss-maximal point."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    checkpoints = [round(share * steps) for share in shares]  # steps is 100: no share is rounded

    def climb(z):
        at = z.clone().requires_grad_()
        value = nn.functional.cross_entropy(model(at), y)
        return value.item(), torch.autograd.grad(value, at)[0]

    def project(z):
        return z.clamp(x - eps, x + eps).clamp(0, 1)

    before, z, step = begin, begin, 2 * eps
    value, gradient = climb(z)
    best, best_value, best_gradient = z, value, gradient
    halved, last_best, ups = True, value, 0
    for k in range(steps):
        if k and k in checkpoints:
            window = k - checkpoints[checkpoints.index(k) - 1]
            halved = ups <= 0.75 * window or (not halved and last_best >= best_value)
            last_best, ups = best_value, 0
            if halved:
                step, z, gradient = step / 2, best, best_gradient
        share = 0.75 if k else 1.0
        ahead = project(z + step * gradient.sign())
        z, before = project(z + share * (ahead - z) + (1 - share) * (z - before)), z
        new, gradient = climb(z)
        ups, value = ups + (new > value), new
        if value > best_value:
            best, best_value, best_gradient = z, value, gradient
    return best


def bent(seed=0, d=12):
    """A network with a bend, in double precision, that no point of a small ball fools: runs go to their end."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(d, 20), nn.Tanh(), nn.Linear(20, 5)).double().eval()
    net[2].bias.data[0] += 50
    return net


def test_apgd_is_the_algorithm_of_the_paper():
    net, x = bent(), torch.rand(4, 12, dtype=torch.float64, generator=g().manual_seed(1))
    y, begin = torch.zeros(4, dtype=torch.int64), (x + 0.05).clamp(0, 1)
    found = attacks.apgd(net, x, y, eps=0.2, steps=100, start=begin)
    for k in range(4):
        plain = plain_apgd(net, x[k : k + 1], y[k : k + 1], 0.2, 100, begin[k : k + 1])
        assert torch.allclose(found[k : k + 1], plain, atol=1e-12)


def test_apgd_returns_the_first_success_and_else_the_largest_loss(net, digits):
    x, y = (t[:30] for t in digits)
    run = functools.partial(attacks.apgd, net, x, y, eps=0.06, start=x)
    few, many = run(steps=5), run(steps=20)
    fooled = errors(net, few, y)
    assert 0 < fooled.sum() < 30
    assert not (fooled & ~errors(net, many, y)).any()
    with torch.no_grad():
        loss = [attacks.ce_loss(net(found), y)[~fooled] for found in (x, few)]
    assert (loss[1] > loss[0]).all()


@pytest.mark.parametrize("classes", [2, 3, 6, 14])
def test_the_targeted_loss_aims_at_the_nine_likeliest_classes_in_turn(classes, monkeypatch):
    seen = []
    real = attacks.auto_pgd.in_restarts

    def noted(climb, x, goal, **options):
        seen.append(goal.rival)
        return real(climb, x, goal, **options)

    monkeypatch.setattr(attacks.auto_pgd, "in_restarts", noted)
    model = nn.Sequential(nn.Linear(8, classes)).double().eval()
    x = torch.rand(5, 8, dtype=torch.float64, generator=g().manual_seed(0))
    y = model(x).argmax(1)
    attacks.apgd(model, x, y, eps=1e-6, steps=2, loss="targeted", generator=g().manual_seed(0))
    order = model(x).argsort(1, descending=True)
    assert torch.equal(torch.stack(seen, 1), order[:, 1:10])


def test_apgd_finds_what_pgd_of_as_many_steps_finds(net, digits):
    """On the small network of the tests; bench/ladder.py measures it on shipped ones."""
    left = {}
    for name, attack in {"pgd": attacks.pgd, "apgd": attacks.apgd}.items():
        found = attack(net, *digits, eps=0.06, steps=20, generator=g().manual_seed(0))
        left[name] = int((~errors(net, found, digits[1])).sum())
    assert left["apgd"] <= left["pgd"] + 1


@pytest.mark.parametrize("seed", range(2))
def test_fmn_comes_near_the_linear_programme(seed):
    random = np.random.default_rng(seed)
    weight, bias = random.normal(size=(2, 12)), random.normal(size=2) * 0.1
    x = random.uniform(size=(20, 12))
    x[:, :4] = x[:, :4].round()  # black and white values, so that the box binds
    y = (x @ weight.T + bias).argmax(1)
    model, batch, labels = affine(weight, bias), torch.tensor(x), torch.tensor(y)
    best = np.array([nearest_linf(weight, bias, *one, 0.0) for one in zip(x, y, strict=True)])
    can = np.isfinite(best)
    found = attacks.fmn_linf(model, batch, labels, steps=300)
    ratio = distance(found, batch, "linf").numpy()[can] / best[can]
    assert can.sum() > 15
    assert (guesses(model, found) != labels).numpy()[can].all()
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() < 1.05
    assert np.median(ratio) < 1.01
    eps = float(np.median(best)) * 1.1
    bounded = attacks.fmn_linf(model, batch, labels, steps=300, eps=eps)
    near = distance(found, batch, "linf") <= eps
    assert torch.equal(bounded[near], found[near])
    assert torch.equal(bounded[~near], batch[~near])


def test_fmn_and_sigma_zero_are_stronger_than_carlini_and_wagner_in_less(net, digits):
    """On the small network of the tests; bench/ladder.py measures it on shipped ones, with the time."""
    x, y = (t[:20] for t in digits)
    for ours, theirs, norm in (
        (attacks.fmn_linf(net, x, y, steps=60), attacks.cw_linf(net, x, y, steps=300), "linf"),
        (attacks.sigma_zero(net, x, y, steps=100), attacks.cw_l0(net, x, y, rounds=12, steps=15), "l0"),
    ):
        far = [distance(found, x, norm).double().where(errors(net, found, y), math.inf).median() for found in (ours, theirs)]
        assert far[0] <= far[1] < math.inf


@pytest.mark.parametrize("channels", [1, 3])
def test_sigma_zero_comes_near_the_fewest_pixels(channels):
    random = np.random.default_rng(3)
    weight = random.normal(size=(2, channels * 25)) / math.sqrt(channels)
    bias = -0.5 * weight.sum(1)
    x = random.uniform(size=(12, channels, 5, 5))
    y = (x.reshape(12, -1) @ weight.T + bias).argmax(1)
    need = -margins(weight, bias, x.reshape(12, -1), y)
    gaps = (weight[1] - weight[0]).reshape(channels, -1)
    rows = zip(np.where(y == 0, 1, -1), need, x.reshape(12, channels, -1), strict=True)
    best = np.array([fewest(sign * gaps, one, image) for sign, one, image in rows])
    found = attacks.sigma_zero(affine(weight, bias, flat=True), torch.tensor(x), torch.tensor(y), steps=300).numpy()
    count = (found != x).any(1).reshape(12, -1).sum(1)
    assert (margins(weight, bias, found.reshape(12, -1), y) >= 0).all()
    assert (count >= best).all()
    assert count.sum() <= 1.2 * best.sum()


def test_the_expectation_is_the_mean_over_draws_and_its_gradient_too():
    net, x = linear(np.eye(3), np.zeros(3)), torch.full((2, 3), 0.5, dtype=torch.float64)

    def noisy(v):
        return net(v) ** 2 * torch.rand((), dtype=torch.float64, generator=generator)

    generator = g().manual_seed(0)
    share = torch.rand(7, dtype=torch.float64, generator=g().manual_seed(0)).mean()
    at = x.clone().requires_grad_()
    out = attacks.expectation(noisy, draws=7)(at)
    assert torch.allclose(out, share * x**2)
    assert torch.allclose(torch.autograd.grad(out.sum(), at)[0], 2 * share * x)
    for draws in (0, -1, 1.5):
        with pytest.raises(ValueError, match="draws is"):
            attacks.expectation(noisy, draws=draws)


def test_an_attack_on_a_random_defence_needs_the_expectation():
    """One value in two is hidden at random: a single step follows what it happens to see, the mean what counts."""
    d = 40
    slope = torch.linspace(-1, 1, d, dtype=torch.float64)
    generator = g().manual_seed(0)

    def defended(v):
        kept = torch.rand(v.shape, dtype=v.dtype, generator=generator) < 0.5
        margin = 2 * ((v - 0.5) * kept) @ slope
        return torch.stack([1.5 - margin, margin - 1.5], 1)

    x, y = torch.full((30, d), 0.5, dtype=torch.float64), torch.zeros(30, dtype=torch.int64)
    reached = []
    for model in (defended, attacks.expectation(defended, draws=30)):
        x_adv = attacks.fgsm(model, x, y, eps=0.1)
        reached.append(((x_adv - 0.5) @ slope).mean())
    assert reached[1] > 1.5 * reached[0]
