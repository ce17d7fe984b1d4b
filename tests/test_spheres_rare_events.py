"""Splitting against closed forms, exact tails and plain sampling, down to one in 10 ** 41; and what it says when it fails."""

import math
import time

import numpy as np
import pytest
import torch
from scipy.special import betainc, betaln
from scipy.stats import norm, t

from advlab import spheres
from advlab.spheres import rare_events

LOG10 = math.log(10)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def beta_tail_log10(k, d, share):
    """log10 P(|first k coordinates|^2 > share) on the unit sphere, by SciPy, or its leading term where that underflows."""
    value = betainc((d - k) / 2, k / 2, 1 - share)
    if value > 1e-290:
        return math.log10(value)
    a, b = (d - k) / 2, k / 2
    return (a * math.log(1 - share) + (b - 1) * math.log(share) - betaln(a, b) - math.log(a)) / math.log(10)


def spectrum(target):
    """300 equal alphas and 200 zeros, d = 500, whose inner error rate is 10 ** target."""
    low, high = 1.0, 500 / 300
    for _ in range(60):
        alpha = (low + high) / 2
        low, high = (alpha, high) if beta_tail_log10(300, 500, 1 / alpha) < target else (low, alpha)
    return torch.tensor([alpha] * 300 + [0.0] * 200, dtype=torch.float64)


@pytest.mark.parametrize("target", [-3, -16, -41])
def test_quadratic_truths(target):
    alphas = spectrum(target)
    truth = spheres.quadratic_log_error(alphas) / math.log(10)
    assert truth == pytest.approx(target, abs=1e-6)
    c = (alphas - 1).float()
    start = time.process_time()
    found = spheres.rare_event_log10(lambda x: x.square() @ c, 500, generator=generator(1))
    seconds = time.process_time() - start
    assert abs(found.log10 - truth) < 3 * found.standard_error
    assert 0.01 < found.standard_error < 0.5
    assert seconds < 25, "the target is 1 to 4 CPU seconds a run of four; this leaves room for a busy machine"
    assert found.survivors.shape[1] == 500
    assert (found.survivors.square() @ c > 0).all()
    torch.testing.assert_close(found.survivors.norm(dim=1), torch.ones(len(found.survivors)))


def test_the_standard_error_is_what_it_says():
    """Twenty estimates of one cap: their spread and their mean agree with their standard errors."""
    truth = spheres.log_cap_measure(math.acos(0.5), 60) / math.log(10)
    g = generator(2)
    found = [spheres.rare_event_log10(lambda x: x[:, 0] - 0.5, 60, generator=g, particles=200) for _ in range(20)]
    z = torch.tensor([(f.log10 - truth) / f.standard_error for f in found])
    assert abs(float(z.mean())) < 1.0
    assert 0.4 < float(z.square().mean().sqrt()) < 1.7


def test_the_standard_error_is_the_jackknifes_where_runs_differ(monkeypatch):
    """Leave each of four runs out, take the log of the mean of the others; few runs: widened by Student's law."""
    logs = np.array([-30.0, -34.0, -31.0, -40.0])
    runs = iter([rare_events.Splitting(log, [], [], 1, torch.zeros(0, 5)) for log in logs.tolist()])
    monkeypatch.setattr(rare_events, "splitting", lambda *given, **options: next(runs))
    found = spheres.rare_event_log10(lambda x: x[:, 0], 5, particles=10_000)
    others = np.array([np.log(np.exp(np.delete(logs, i)).mean()) for i in range(4)])
    jackknife = math.sqrt(3 / 4 * ((others - others.mean()) ** 2).sum())
    assert found.log10 == pytest.approx(np.log10(np.exp(logs).mean()))
    assert found.standard_error == pytest.approx(jackknife * t.ppf(0.975, 3) / norm.ppf(0.975) / LOG10)


def comparable(target):
    """A spectrum with many axes that compete to be the longest, so that particles miss the best."""
    base = torch.linspace(0, 1, 500, dtype=torch.float64)
    low, high = 1.0, 2.0
    for _ in range(50):
        scale = (low + high) / 2
        low, high = (low, scale) if spheres.quadratic_log_error(scale * base) / LOG10 > target else (scale, high)
    return scale * base


@pytest.mark.parametrize(
    ("target", "seeds"),
    [
        pytest.param(-9, 20, marks=pytest.mark.book),
        pytest.param(-31, 4, marks=pytest.mark.book),
        pytest.param(-31, 20, marks=pytest.mark.slow),
        pytest.param(-55, 20, marks=pytest.mark.slow),
    ],
)
def test_the_error_covers_where_it_is_hard(target, seeds):
    """Against exact rates: at most one of twenty seeds is three standard errors off, and none is at four seeds."""
    alphas = comparable(target)
    truth, c = spheres.quadratic_log_error(alphas) / LOG10, (alphas - 1).float()
    found = [spheres.rare_event_log10(lambda x: x.square() @ c, 500, generator=generator(seed)) for seed in range(seeds)]
    z = torch.tensor([(f.log10 - truth) / f.standard_error for f in found])
    assert int((z.abs() >= 3).sum()) <= seeds // 20
    assert all(f.standard_error < 1.5 for f in found), "and it covers by little more than it must"


def test_it_agrees_with_plain_sampling_on_an_outer_sphere():
    x = spheres.sample_sphere(400_000, 30, 1.3, generator=generator(3))
    c = torch.linspace(-1, 0.4, 30)
    share = float((x.square() @ c > 0).double().mean())
    assert 5e-4 < share < 0.1
    found = spheres.rare_event_log10(lambda x: x.square() @ c, 30, 1.3, generator=generator(4), particles=2000)
    sampling = math.sqrt((1 - share) / (share * 400_000)) / math.log(10)
    assert abs(found.log10 - math.log10(share)) < 4 * math.hypot(sampling, found.standard_error)


def test_frequent_sure_and_impossible_events():
    half = spheres.rare_event_log10(lambda x: x[:, 0], 10, generator=generator(5))
    assert abs(half.log10 - math.log10(0.5)) < 4 * half.standard_error
    sure = spheres.rare_event_log10(lambda x: torch.ones(len(x)), 10, generator=generator(6))
    assert sure.log10 == 0
    for score in (lambda x: x[:, 0] - 1.01, lambda x: -torch.ones(len(x))):
        never = spheres.rare_event_log10(score, 10, generator=generator(7), particles=50, floor=-20.0)
        assert never.log10 == -math.inf
        assert math.isnan(never.standard_error)
        assert never.survivors.shape == (0, 10)


def test_a_run_shows_its_ladder_and_repeats():
    run = spheres.splitting(lambda x: x[:, 0] - 0.6, 50, generator=generator(8))
    assert run.levels == sorted(run.levels)
    assert all(level < 0 for level in run.levels)
    assert len(run.scores) == len(run.levels) + 1
    for level, scores in zip(run.levels, run.scores[1:], strict=True):
        assert scores.min() > level, "all particles stand above the level"
    assert run.evaluations == 500 * (1 + 6 * len(run.levels))
    again = spheres.splitting(lambda x: x[:, 0] - 0.6, 50, generator=generator(8))
    assert again.log == run.log


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 5}, "at least 10"),
        ({"particles": 10.5}, "at least 10"),
        ({"moves": 0}, "moves is 0"),
        ({"quantile": 1.0}, "between 0 and 1"),
        ({"quantile": 0.99, "particles": 10}, "all of only 10 particles"),
        ({"floor": math.nan}, "floor is nan"),
        ({"floor": -math.inf}, "floor is -inf"),
        ({"floor": 30.0}, "floor is 30.0; it must be below 0"),
        ({"runs": 1}, "at least 2"),
        ({"score": lambda x: x}, r"must give \(n,\)"),
        ({"score": lambda x: x[:, 0] * math.nan}, "none NaN"),
    ],
)
def test_bad_input(options, message):
    options = {"score": lambda x: x[:, 0] - 2, "d": 5, **options}  # impossible: a search that only its floor ends
    with pytest.raises(ValueError, match=message):
        spheres.rare_event_log10(**options)
