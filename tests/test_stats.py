"""Shares, means and ratios with their intervals, beside SciPy and beside loops."""

import math

import numpy as np
import pytest
import torch
from scipy import stats as scipys

from labbook import stats


@pytest.mark.parametrize(("k", "n"), [(0, 7), (3, 7), (7, 7)])
def test_a_share_has_the_interval_of_clopper_and_pearson(k, n):
    theirs = scipys.binomtest(k, n).proportion_ci(method="exact")
    found = stats.share(torch.arange(n) < k)
    assert found == stats.share_of(k, n)
    assert (found.value, found.n, *found.interval) == pytest.approx((k / n, n, theirs.low, theirs.high))


def test_a_share_of_nothing_is_what_was_asked_for():
    none = torch.zeros(0, dtype=torch.bool)
    assert math.isnan(stats.share(none).value)
    assert stats.share(none, 0.0).value == 0
    assert stats.share(none).interval == (0, 1)


def test_a_curve_has_a_column_a_number():
    hits = [torch.tensor([True, False]), torch.zeros(0, dtype=torch.bool)]
    found = stats.curve({"eps": [0.1, 0.2]}, "evades", hits, 0.0)
    assert list(found) == ["eps", "evades", "low", "high"]
    assert found["evades"] == [0.5, 0.0]
    assert [found["low"][0], found["high"][0]] == list(stats.share_of(1, 2).interval)


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_the_interval_over_seeds_is_students(kind):
    values = [0.2, 0.25, 0.36]
    found = stats.mean_over_seeds(kind(values))
    theirs = scipys.t.interval(0.95, 2, np.mean(values), scipys.sem(values))
    assert (found.value, *found.interval) == pytest.approx((np.mean(values), *theirs))
    cut = stats.mean_over_seeds(kind(values), 0.2, 0.3)
    assert cut.interval == (0.2, 0.3)
    assert stats.mean_over_seeds(kind([0.5])).interval == (-math.inf, math.inf)


def test_a_mean_over_images_lies_in_its_interval():
    values = np.random.default_rng(0).exponential(size=400)
    found = stats.mean_over_images(values)
    low, high = found.interval
    assert low < found.value == values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert found.n == 400


def test_a_pooled_share_draws_whole_seeds():
    top, bottom = torch.tensor([0.0, 3.0, 1.0, 2.0]), torch.tensor([4.0, 4.0, 1.0, 3.0])
    found = stats.pooled(top, bottom, generator=torch.Generator().manual_seed(3), draws=50)
    picked = torch.randint(4, (50, 4), generator=torch.Generator().manual_seed(3))
    ratios = [sum(float(top[i]) for i in row) / sum(float(bottom[i]) for i in row) for row in picked]
    assert (found.value, found.n) == (0.5, 12)
    assert found.interval == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])), abs=1e-6)


def test_a_ratio_draws_pairs():
    rng = np.random.default_rng(1)
    top, bottom = rng.exponential(size=30), rng.exponential(size=30)
    found = stats.ratio(top, bottom, rng=np.random.default_rng(3), draws=60)
    again, ratios = np.random.default_rng(3), []
    for _ in range(60):
        drawn = again.integers(30, size=30)
        ratios.append(top[drawn].mean() / bottom[drawn].mean())
    assert (found.value, found.n) == (pytest.approx(top.mean() / bottom.mean()), 30)
    assert found.interval == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])))
