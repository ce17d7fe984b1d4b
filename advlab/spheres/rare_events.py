"""Error rates that nobody can sample: adaptive multilevel splitting on the sphere.

A rare event {score > 0} is reached through a ladder of levels, each exceeded by a fixed share of the particles that stand
above the one before (Au and Beck 2001; Cérou and Guyader 2007). Between levels the particles take steps of random
direction (preconditioned Crank-Nicolson in the Gaussian vector of which a point on the sphere is the direction), are
kept if they stay above the level, and the length of the steps follows the share that is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import torch
from scipy.stats import norm
from scipy.stats import t as student
from torch import Tensor

from .. import checks
from .sampling import sample_sphere

Score = Callable[[Tensor], Tensor]

ACCEPTED = 0.35  # the share of steps to accept; between 0.25 and 0.4 the cost hardly changes
LONG = 0.2  # steps shorter than that come with more moves, as (LONG / step)^2: so many lead as far away
#: What each setting must be.
SETTINGS: dict[str, checks.Range] = {
    "particles": (lambda v: v >= 10 and isinstance(v, Integral), "a whole number and at least 10"),
    "moves": checks.COUNT,
    "quantile": checks.SHARE,
    "floor": (lambda v: -math.inf < v < 0, "below 0 and finite, the log10 of a rate"),
    "runs": (lambda v: v >= 2 and isinstance(v, Integral), "a whole number and at least 2, for a standard error"),
}


class RareEvent(NamedTuple):
    """What :func:`rare_event_log10` estimates. ``standard_error`` is in decades; ``survivors`` are points of the event.

    >>> never = rare_event_log10(lambda x: x[:, 0] - 2, 50, floor=-30)  # no coordinate of the unit sphere is above 1
    >>> never.log10, len(never.survivors)  # a search that ended, no proof
    (-inf, 0)
    """

    log10: float
    standard_error: float
    evaluations: int
    survivors: Tensor


@dataclass(frozen=True)
class Splitting:
    """One run of splitting. ``scores[i]`` (particles,) are those that choose ``levels[i]``; ``log`` is natural.

    >>> run = splitting(lambda x: x[:, 0] - 0.4, 50, generator=torch.Generator().manual_seed(0))
    >>> run.levels == sorted(run.levels), bool((run.survivors[:, 0] > 0.4).all())
    (True, True)
    """

    log: float
    levels: list[float]
    scores: list[Tensor]
    evaluations: int
    survivors: Tensor


# Nine parameters: those of splitting, one run, and the number of runs.
def rare_event_log10(
    score: Score,
    d: int,
    radius: float = 1.0,
    *,
    generator: torch.Generator | None = None,
    particles: int = 500,
    moves: int = 6,
    quantile: float = 0.2,
    runs: int = 4,
    floor: float = -300.0,
) -> RareEvent:
    """log10 of P(score(x) > 0) for x uniform on a sphere, by multilevel splitting.

    Parameters
    ----------
    score : (n, d) float32 -> (n,) numbers, none NaN
    d, radius : int and float, dimensions and radius of the sphere
    generator : what to draw from; torch's global generator by default
    particles, moves : int, points of a run (from 10 up), and steps of each between two levels (from 1 up), more where they
        must be short
    quantile : float in (0, 1), the share of particles above each level
    runs : int, independent runs, from 2 up; their probabilities are averaged, since each is nearly unbiased
    floor : float below 0, log10 below which a run ends
    Returns
    -------
    RareEvent, whose ``standard_error`` is in decades, the larger of the jackknife's over the runs, widened by Student's law for
    so few, and the least that this many particles can have, and whose ``survivors`` (m, d) have a positive score. -inf and no
    survivors below ``10 ** floor``.
    Raises
    ------
    ValueError
        numbers out of range, a quantile of so few particles that all would stay, or a score of another shape or NaN
    Guarantee
    ---------
    No guarantee: an estimate, tested to be within three standard errors of exact rates down to 1e-55. A part of the event that
    no particle comes near is missed without a sign; -inf is no proof.
    References
    ----------
    Au and Beck (2001); Cérou and Guyader (2007)
    Examples
    --------
    >>> cap = rare_event_log10(lambda x: x[:, 0] - 0.5, 50, generator=torch.Generator().manual_seed(0))
    >>> abs(cap.log10 + 3.75) < 4 * cap.standard_error
    True
    """
    checks.setting("runs", runs, SETTINGS["runs"])
    options = {"generator": generator, "particles": particles, "moves": moves, "quantile": quantile, "floor": floor}
    done = [splitting(score, d, radius, **options) for _ in range(runs)]
    logs = torch.tensor([run.log for run in done], dtype=torch.float64)
    total = torch.logsumexp(logs, 0) - math.log(runs)
    evaluations, survivors = sum(run.evaluations for run in done), torch.cat([run.survivors for run in done])
    if total == -math.inf:
        return RareEvent(-math.inf, math.nan, evaluations, survivors)
    error = _standard_error(logs, float(total), quantile, particles)
    return RareEvent(float(total) / math.log(10), error / math.log(10), evaluations, survivors)


def _standard_error(logs: Tensor, total: float, quantile: float, particles: int) -> float:
    """Of the log of the mean of runs (runs,): the jackknife's, or what so many particles cannot go below."""
    runs = len(logs)
    others = torch.stack([torch.logsumexp(torch.cat([logs[:i], logs[i + 1 :]]), 0) - math.log(runs - 1) for i in range(runs)])
    others = others.clamp(min=total - 700)  # a run without success, beside one that had it
    jackknife = (others - others.mean()).square().sum().mul((runs - 1) / runs).sqrt()
    jackknife *= float(student.ppf(0.975, runs - 1) / norm.ppf(0.975))  # few runs: two errors shall hold 95 %
    # each level multiplies by a binomial share: var log p is about the sum of (1 - share) / (share particles)
    steps = -total / -math.log(quantile)
    variance = (1 - quantile) / quantile * int(steps) + math.expm1((steps % 1) * -math.log(quantile))
    return max(float(jackknife), math.sqrt(variance / (particles * runs)))


@torch.no_grad()
def splitting(
    score: Score,
    d: int,
    radius: float = 1.0,
    *,
    generator: torch.Generator | None = None,
    particles: int = 500,
    moves: int = 6,
    quantile: float = 0.2,
    floor: float = -300.0,
) -> Splitting:
    """One run of adaptive multilevel splitting; see :func:`rare_event_log10`. Its levels and scores can be drawn.

    P(score > 0) = P(score > l1) P(score > l2 | score > l1) ...: each level multiplies by the share of particles above it. The
    plain version counts, ``(score(sample_sphere(n, d)) > 0).double().mean()``, at some 100 / P points;
    ``test_it_agrees_with_plain_sampling_on_an_outer_sphere`` compares.

    Raises ValueError as :func:`rare_event_log10`.

    >>> run = splitting(lambda x: x[:, 0] - 0.4, 50, generator=torch.Generator().manual_seed(0))
    >>> abs(run.log / math.log(10) + 2.7) < 0.5, run.evaluations > 1000
    (True, True)
    """
    for name, value in (("particles", particles), ("moves", moves), ("quantile", quantile), ("floor", floor)):
        checks.setting(name, value, SETTINGS[name])
    keep = max(1, round(quantile * particles))
    if keep >= particles:
        raise ValueError(
            f"quantile is {quantile}; all of only {particles} particles would stay: lower it, or give more of them"
        )

    def measured(points: Tensor) -> Tensor:
        values = score(points)
        if values.shape != points.shape[:1] or values.isnan().any():
            raise ValueError(f"score gave {tuple(values.shape)} for {tuple(points.shape)}: it must give (n,) numbers, none NaN")
        return values.double()

    x = sample_sphere(particles, d, radius, generator=generator)
    scores = measured(x)
    log, levels, trace, evaluations, step = 0.0, [], [scores], particles, 0.3
    while True:
        level = min(float(scores.topk(keep + 1).values[-1]), 0.0)
        above = (scores > level).nonzero().squeeze(1)
        log += math.log(len(above) / particles) if len(above) else -math.inf
        if level >= 0 or log < floor * math.log(10):
            break
        levels.append(level)
        chosen = torch.cat([above, above[torch.randint(len(above), (particles - len(above),), generator=generator)]])
        x, scores = x[chosen], scores[chosen]
        for _ in range(math.ceil(moves * max(1.0, (LONG / step) ** 2))):
            proposed = torch.randn(x.shape, generator=generator).mul_(step * radius / d**0.5)
            proposed.add_(x, alpha=(1 - step**2) ** 0.5)
            proposed.mul_(radius / proposed.norm(dim=1, keepdim=True))
            proposed_scores = measured(proposed)
            stays = proposed_scores > level
            x, scores = torch.where(stays[:, None], proposed, x), torch.where(stays, proposed_scores, scores)
            step = min(0.95, step * math.exp(0.3 * (float(stays.double().mean()) - ACCEPTED)))
            evaluations += particles
        trace.append(scores)
    if level < 0 or not len(above):
        return Splitting(-math.inf, levels, trace, evaluations, x[:0])
    return Splitting(log, levels, trace, evaluations, x[above])
