"""Which degrees a network's logit is made of: spherical harmonics, and how near the optimal distance they let it come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .sampling import sample_sphere


@dataclass(frozen=True)
class DegreeShares:
    """Shares of the variance of a function on the sphere, by the degree of its spherical harmonics; they sum to 1.

    ``mean_degree`` is ``k_eff``, the mean of k (k + d - 2) / (d - 1) over the variance: 1 for degree 1 alone, about 2 for
    degree 2 alone. ``ratio`` is ``1 / sqrt(k_eff)``. ``errors`` holds the standard errors of the five, by name.

    >>> shares = degree_shares(lambda x: x[:, 0] ** 2, 20, n=4000, generator=torch.Generator().manual_seed(0))
    >>> abs(shares.degree_2 - 1) < 0.2, abs(shares.ratio - 0.5**0.5) < 0.1  # a quadratic function is of degree 2
    (True, True)
    """

    degree_1: float
    degree_2: float
    odd_from_3: float
    even_from_4: float
    mean_degree: float
    errors: dict[str, float]

    @property
    def ratio(self) -> float:
        """The share of the optimal distance that a function of these degrees is expected to reach (a heuristic)."""
        return self.mean_degree**-0.5


def degree_shares(
    f: Callable[[Tensor], Tensor],
    d: int,
    radius: float = 1.0,
    *,
    n: int = 40_000,
    folds: int = 10,
    generator: torch.Generator | None = None,
) -> DegreeShares:
    """How the variance of ``f`` splits over degrees on the sphere of that radius, from n points and their antipodes.

    ``f`` maps (n, d) float32 to (n,) and is differentiable. Odd and even parts come from antipodes, exactly; degrees 1
    and 2 from products of projections in different folds, which are unbiased; the mean degree from gradients at n / 10
    points, since E|grad f|^2 = sum of k (k + d - 2) Var_k (in units of the radius). To first order a typical point
    of margin z standard deviations is z / sqrt(d k_eff) away from the boundary, and an optimal error set z / sqrt(d).

    No guarantee: estimates, whose standard errors come from the folds; the ratio rests on margins that are nearly normal.
    Raises ValueError for d below 3, fewer than 3 folds, or fewer than 20 points a fold.

    >>> shares = degree_shares(lambda x: x[:, 0], 20, n=4000, generator=torch.Generator().manual_seed(0))
    >>> round(shares.mean_degree, 1), abs(shares.degree_1 - 1) < 0.2  # a linear function is of degree 1
    (1.0, True)
    """
    if d < 3 or folds < 3 or n < 20 * folds:
        raise ValueError(f"d is {d}, folds {folds} and n {n}: need d from 3, 3 folds, and 20 points for each of them")
    powers = _powers(f, d, radius, n // folds, [sample_sphere(n // folds, d, generator=generator) for _ in range(folds)])
    shares = _shares(powers)
    others = torch.stack([_shares(powers[:, torch.arange(folds) != i]) for i in range(folds)])
    errors = ((others - others.mean(0)).square().sum(0) * (folds - 1) / folds).sqrt()  # the jackknife over the folds
    names = ("degree_1", "degree_2", "odd_from_3", "even_from_4", "mean_degree")
    return DegreeShares(*shares.tolist(), errors=dict(zip(names, errors.tolist(), strict=True)))


def _powers(f: Callable[[Tensor], Tensor], d: int, radius: float, each: int, points: list[Tensor]) -> Tensor:
    """For each fold of points (each, d): the variance in all, of degree 1, of degree 2, odd, and times k_eff, (5, folds)."""
    folds = len(points)
    even_power, odd_power, gradients = [], [], []
    first = torch.zeros(folds, d, dtype=torch.float64)
    second = torch.zeros(folds, d, d, dtype=torch.float64)
    with torch.no_grad():
        pairs = [(f(radius * x).double(), f(-radius * x).double()) for x in points]
    mean = torch.cat([p + q for p, q in pairs]).mean() / 2
    for i, (x, (plus, minus)) in enumerate(zip(points, pairs, strict=True)):
        even, odd = (plus + minus) / 2 - mean, (plus - minus) / 2
        even_power.append(even.square().mean())
        odd_power.append(odd.square().mean())
        first[i] = odd @ x.double() / each
        second[i] = (x.double() * even[:, None]).T @ x.double() / each
        second[i] -= torch.eye(d) * second[i].trace() / d
        at = x[: max(2, each // 10)].requires_grad_()
        (g,) = torch.autograd.grad(f(radius * at).sum(), at)
        tangent = g - (g * at).sum(1, keepdim=True) * at
        gradients.append(tangent.detach().double().square().sum(1).mean())
    # degree 1 is x.a with a = d E[f x], of variance |a|^2 / d; degree 2 is x.Mx with M = d (d + 2) / 2 E[f (x x^T - I / d)],
    # of variance 2 |M|^2 / (d (d + 2)) (traces cancel); E|grad f|^2 / (d - 1) is sum of k (k + d - 2) / (d - 1) Var_k
    one, two = d * _products(first), d * (d + 2) / 2 * _products(second.flatten(1))
    even, odd = torch.stack(even_power), torch.stack(odd_power)
    return torch.stack([even + odd, one, two, odd, torch.stack(gradients) / (d - 1)])


def _shares(powers: Tensor) -> Tensor:
    """The five numbers of :class:`DegreeShares` from the mean of :func:`_powers` over folds."""
    variance, one, two, odd, gradient = powers.mean(1)
    return torch.stack([one, two, odd - one, variance - odd - two, gradient]) / variance


def _products(parts: Tensor) -> Tensor:
    """For each fold its mean inner product with the other folds: unbiased estimates of a squared length, (folds,)."""
    gram = parts @ parts.T
    return (gram.sum(1) - gram.diagonal()) / (len(parts) - 1)
