"""Intervals against SciPy, robust accuracy against counting, and each honesty flag raised by a model that deserves it."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from advlab import attacks, evaluate

pgd = functools.partial(attacks.pgd, eps=0.1, steps=10)


@given(n=st.integers(1, 500), data=st.data(), confidence=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_clopper_pearson_is_scipys_exact_interval(n, data, confidence):
    k = data.draw(st.integers(0, n))
    expected = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
    assert evaluate.clopper_pearson(k, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_intervals_of_nothing_and_bad_counts():
    assert evaluate.clopper_pearson(0, 0) == (0.0, 1.0)
    for bad in [(-1, 5), (6, 5), (1, 5, 1.0), (1, 5, 0.0), (3, np.inf), (2.5, 5)]:
        with pytest.raises(ValueError, match="need 0 <="):
            evaluate.clopper_pearson(*bad)
    with pytest.raises(ValueError, match=r"must be \(n,\)"):
        evaluate.median_interval(torch.empty(0))
    with pytest.raises(ValueError, match=r"must be \(n,\)"):
        evaluate.mean_interval(torch.empty(2, 2))
    for interval in (evaluate.median_interval, evaluate.mean_interval):
        for confidence in (-1.0, 0, 1, 1.5, 95, np.nan):
            with pytest.raises(ValueError, match=r"confidence is .*between 0 and 1"):
                interval(torch.rand(30), confidence)
    with pytest.raises(ValueError, match="draws is 0"):
        evaluate.mean_interval(torch.rand(30), draws=0)


def test_mean_interval_covers_about_as_often_as_it_says_and_says_nothing_of_one_value():
    draws = np.random.default_rng(0).exponential(size=(400, 60))
    ends = [evaluate.mean_interval(torch.tensor(d), draws=500) for d in draws]
    assert 0.88 < np.mean([low <= 1 <= high for _, low, high in ends]) < 0.97
    narrow = [evaluate.mean_interval(torch.tensor(d), confidence=0.5, draws=500) for d in draws]
    assert 0.4 < np.mean([low <= 1 <= high for _, low, high in narrow]) < 0.6
    assert ends[0][0] == pytest.approx(draws[0].mean())
    assert evaluate.mean_interval(torch.tensor([2.0])) == (2.0, -np.inf, np.inf)
    assert evaluate.mean_interval(torch.tensor([1.0, 3.0])) == (2.0, 1.0, 3.0)


@pytest.mark.parametrize("n", [6, 25, 100])
def test_median_interval_covers_at_least_as_often_as_it_says(n):
    random = np.random.default_rng(0)
    draws = random.exponential(size=(2000, n))
    covered = [low <= np.log(2) <= high for _, low, high in (evaluate.median_interval(torch.tensor(d)) for d in draws)]
    assert np.mean(covered) > 0.94
    assert evaluate.median_interval(torch.tensor(draws[0]))[0] == pytest.approx(np.median(draws[0]))
    wide = [high - low for _, low, high in (evaluate.median_interval(torch.tensor(d)) for d in draws[:50])]
    assert max(wide) < np.inf


def test_robust_accuracy_counts_what_is_right_before_and_after(net, digits):
    x, y = digits
    found = evaluate.robust_accuracy(net, x, y, pgd, eps=0.1, batch_size=17)
    with torch.no_grad():
        right, still = net(x).argmax(1) == y, net(found.x_adv).argmax(1) == y
    assert torch.equal(found.robust, right & still)
    assert found.accuracy == (right & still).double().mean()
    assert found.clean == right.double().mean()
    assert found.n == 60
    assert found.interval == evaluate.clopper_pearson(int(found.robust.sum()), 60)
    assert found.flags == ()
    nothing = evaluate.robust_accuracy(net, x, y, functools.partial(attacks.pgd, eps=0.0))
    assert nothing.accuracy == nothing.clean, "an attack without a budget must give the clean accuracy"
    empty = evaluate.robust_accuracy(net, x[:0], y[:0], pgd, eps=0.1)
    assert empty.n == 0
    assert empty.interval == (0.0, 1.0)
    lucky = evaluate.robust_accuracy(net, x, (y + 1) % 10, lambda m, x, y: torch.rand_like(x))
    assert lucky.accuracy <= lucky.clean, "an attack cannot mend an error"


def test_a_dishonest_attack_is_refused(net, digits):
    for attack, says in [
        (lambda m, x, y: x[:, :, :5], "shape"),
        (lambda m, x, y: x + 1, "left"),
        (lambda m, x, y: x * torch.nan, "left"),
        (lambda m, x, y: 1 - x, "budget"),
    ]:
        with pytest.raises(ValueError, match=says):
            evaluate.robust_accuracy(net, *digits, attack, eps=0.1)
    with pytest.raises(ValueError, match="norm"):
        evaluate.distances(digits[0], digits[0], "l7")
    with pytest.raises(ValueError, match=r"model.eval\(\)"):
        evaluate.robust_accuracy(nn.Flatten().train(), *digits, pgd)


class Wrapped(nn.Module):
    """A model around the network, for flags to find."""

    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        return self.change(self, x)


def noisy(self, x):
    return self.net(x + 0.1 * torch.randn_like(x))


def probabilities(self, x):
    return self.net(x).softmax(1)


def saturated(self, x):
    return self.net(x) * 1e4


def quantised(self, x):
    return self.net(attacks.bpda(lambda v: (v * 2).round() / 2, lambda v: v * 0)(x))


def purified(self, x):
    with torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        step = torch.autograd.grad(self.net(at).logsumexp(1).sum(), at)[0].sign()
    return self.net((x + 0.01 * step).clamp(0, 1))


def counting(self, x):
    self.passes += 1
    return self.net(x)


def masked(self, x):
    return self.net(attacks.bpda(lambda v: v, lambda v: -v)(x))  # a gradient that points the wrong way


CASES = {
    "randomised": noisy,
    "softmax-output": probabilities,
    "zero-gradient": saturated,
    "inference-gradient": purified,
    "changes-state": counting,
    "black-box-wins": masked,
}


@pytest.mark.parametrize("flag", CASES)
def test_each_flag_is_raised_by_a_model_that_deserves_it(flag, net, digits):
    found = evaluate.robust_accuracy(Wrapped(net, CASES[flag]).eval(), *digits, pgd, eps=0.1)
    assert flag in {f.id for f in found.flags}
    assert f"flags/{flag}" in " ".join(map(str, found.flags))


def test_an_idle_attack_is_flagged_and_the_plain_network_is_not(net, digits):
    idle = evaluate.robust_accuracy(net, *digits, lambda m, x, y: x, eps=0.1)
    assert {"budget-unused", "black-box-wins"} == {f.id for f in idle.flags}
    flat = evaluate.robust_accuracy(Wrapped(net, quantised).eval(), *digits, pgd)
    assert "zero-gradient" in {f.id for f in flat.flags}
    elsewhere = {"changes-input"}  # in test_contract.py
    assert set(CASES) | {"budget-unused"} | elsewhere == set(evaluate.FLAGS), "a flag without a test"


def test_transfer_matrix_by_hand(net, digits):
    from advlab import data, models, training

    torch.manual_seed(1)
    other = models.stability_cnn()
    training.fit(other, *data.mnist("train", 3000), epochs=2, optimizer=lambda w: torch.optim.Adam(w, 2e-3), progress=False)
    nets = {"a": net, "b": other}
    found = evaluate.transfer_matrix(nets, nets, *digits, functools.partial(attacks.mi_fgsm, eps=0.2), batch_size=13)
    for row, source in enumerate(nets.values()):
        with torch.no_grad():
            right = source(digits[0]).argmax(1) == digits[1]
            assert found.n[row] == right.sum()
            x_adv = torch.cat(
                [
                    attacks.mi_fgsm(source, p, q, eps=0.2)
                    for p, q in zip(digits[0][right].split(13), digits[1][right].split(13), strict=True)
                ]
            )
            for column, target in enumerate(nets.values()):
                k = int((target(x_adv).argmax(1) == digits[1][right]).sum())
                assert found.accuracy[row, column] == k / found.n[row]
                assert tuple(found.interval[row, column].tolist()) == evaluate.clopper_pearson(k, found.n[row])
    assert found.accuracy[0, 0] < found.accuracy[0, 1], "a network's own adversarial images hurt it most"

    weak = functools.partial(attacks.mi_fgsm, eps=0.1)
    x_adv, labels, index = evaluate.transferable(net, *digits, weak, fooled=True)
    tried, _, all_right = evaluate.transferable(net, *digits, weak)
    assert 0 < len(x_adv) < len(tried), "some of the attacks failed"
    assert set(index.tolist()) < set(all_right.tolist())
    assert torch.equal(labels, digits[1][index])
    assert (evaluate.distances(x_adv, digits[0][index]) <= 0.1 + 1e-6).all()
    assert (net(x_adv).argmax(1) != labels).all()
    assert (net(digits[0][index]).argmax(1) == labels).all()
    assert len(x_adv) == (net(tried).argmax(1) != digits[1][all_right]).sum()
    kept = evaluate.transfer_matrix(nets, nets, *digits, weak, fooled=True)
    assert kept.accuracy[0, 0] == kept.accuracy[1, 1] == 0
    assert kept.n[0] == len(x_adv)
    assert kept.accuracy[0, 1] == int((other(x_adv).argmax(1) == labels).sum()) / len(x_adv)


def test_a_source_without_a_right_answer_and_a_careless_attack(net, digits):
    x, wrong = digits[0][:9], (net(digits[0][:9]).argmax(1) + 1) % 10
    none = evaluate.transfer_matrix({"a": net}, {"a": net}, x, wrong, functools.partial(attacks.fgsm, eps=0.1), fooled=True)
    assert none.n == (0,)
    assert none.accuracy.isnan().all()
    assert none.interval.tolist() == [[[0.0, 1.0]]]
    for attack, says in ((lambda m, x, y: x - 1, r"left \[0, 1\]"), (lambda m, x, y: x[:1], "shape")):
        with pytest.raises(ValueError, match=says):
            evaluate.transferable(net, *digits, attack)


class FirstPixel(nn.Module):
    """Class 1 where the first pixel is bright. Counts the images it sees."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        bright = x.flatten(1)[:, 0]
        return torch.stack([1 - bright, bright], 1)


def test_seeds_are_the_first_correct_images_in_order_and_no_more_are_looked_at():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(1300, 2, 3, generator=generator), torch.randint(2, (1300,), generator=generator)
    rows = [i for i in range(1300) if bool(x[i, 0, 0] > 0.5) == bool(y[i])]
    assert 500 < len(rows) < 800
    for n in (1, 100, 400, len(rows)):
        model = FirstPixel().eval()
        seeds, labels = evaluate.first_correct(model, x, y, n)
        assert torch.equal(seeds, x[rows[:n]])
        assert torch.equal(labels, y[rows[:n]])
        assert model.seen <= rows[n - 1] + 500
    seeds, labels = evaluate.first_correct(FirstPixel().eval(), x, y, 0)
    assert (seeds.shape, labels.shape) == ((0, 2, 3), (0,))
    assert evaluate.first_correct(FirstPixel().eval(), x[:0], y[:0], 0)[0].shape == (0, 2, 3)
    for bad in (-1, 2.5, "2"):
        with pytest.raises(ValueError, match=r"n is .*whole number from 0 up"):
            evaluate.first_correct(FirstPixel().eval(), x, y, bad)
    for labels in (y[:2], y[:, None], torch.cat([y, y])):
        with pytest.raises(ValueError, match="y has the shape"):
            evaluate.first_correct(FirstPixel().eval(), x, labels, 1)
    for images, n in ((x, len(rows) + 1), (x[:0], 1)):
        with pytest.raises(ValueError, match=f"{n} were asked for"):
            evaluate.first_correct(FirstPixel().eval(), images, y[: len(images)], n)


def test_distances_in_each_norm_against_numpy():
    x = torch.rand(5, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x_adv = x.clone()
    x_adv[1, 2, 0, 0] += 1e-12
    x_adv[2, :, 1, 1] -= 0.25
    x_adv[3] = 1 - x[3]
    delta = (x_adv - x).numpy().reshape(5, -1)
    for norm, order in (("linf", np.inf), ("l2", 2)):
        found = evaluate.distances(x_adv, x, norm)
        assert found.dtype == x.dtype
        np.testing.assert_allclose(found.numpy(), [np.linalg.norm(row, order) for row in delta], rtol=1e-12)
    assert float(evaluate.distances(x_adv, x)[0]) == 0.0
    with pytest.raises(ValueError, match="shape"):
        evaluate.distances(x_adv[:, :1], x)


def test_what_a_smaller_budget_broke_stays_broken():
    """A network of one weight, y = x - 1/2 against 0, and an attack that forgets everything beyond 0.25."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.0], [1.0]]))
        net[1].bias.copy_(torch.tensor([0.0, -0.5]))
    x = torch.tensor([0.55, 0.65, 0.75, 0.95]).view(4, 1, 1, 1)
    y = torch.ones(4, dtype=torch.int64)

    def attack(model, x, y, *, eps):
        return (x - eps * (eps <= 0.25)).clamp(0, 1)

    curve = evaluate.security_curve(net, x, y, attack, [0.0, 0.1, 0.2, 0.3], queries=0)
    assert [found.accuracy for found in curve] == [1.0, 0.75, 0.5, 0.5]
    assert [found.clean for found in curve] == [1.0] * 4
    assert curve[3].interval == evaluate.clopper_pearson(2, 4)
    for found, eps in zip(curve, (0.0, 0.1, 0.2, 0.3), strict=True):
        assert (net(found.x_adv).argmax(1) == 1).tolist() == found.robust.tolist(), "each image is the one that broke it"
        assert (found.x_adv - x).abs().max() <= eps + 1e-6
    for budgets in ([], [0.1, 0.1], [0.2, 0.1], [0.1, float("nan")]):
        with pytest.raises(ValueError, match="each greater than the one before"):
            evaluate.security_curve(net, x, y, attack, budgets)
