"""The quadratic network of Adversarial Spheres (arXiv 1801.02774, section 4), where everything can be computed exactly.

The network is ``f(x) = scale * |W x|^2 + bias``; it calls x outer where f(x) > 0. In the eigenbasis of W'W the decision
boundary is the ellipsoid ``sum alpha_i x_i^2 = 1`` with ``alpha_i = -scale * s_i^2 / bias``, s the singular values of W.
Its errors on the sphere of radius 1 or R are the cone ``sum c_i x_i^2 > 0``, where ``c = alpha - 1`` on the inner sphere
and ``c = 1 / R^2 - alpha`` on the outer one. Everything here follows from c, in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import root_scalar
from scipy.special import log_ndtr
from torch import Tensor

from ..models import SphereQuadratic
from .cone import log_tail_exact, log_tail_saddlepoint, nearest_in_cone
from .geometry import MOST, check_outer_radius, log_betainc

METHODS = ("exact", "saddlepoint", "clt")
SPHERES = ("inner", "outer")


def alphas(net: SphereQuadratic) -> Tensor:
    """The squared inverse axes of the network's ellipsoid, (d,) float64 in ascending order (section 4).

    Zeros stand for directions that the network ignores, at least d - h of them. Raises ValueError unless
    scale > 0 > bias, and for a weight that is no matrix: the boundary is no ellipsoid then.

    >>> from advlab import models
    >>> net = models.SphereQuadratic(d=3, width=3)
    >>> _ = net.weight.data.copy_(torch.diag(torch.tensor([1.0, 2.0, 3.0])))
    >>> _ = net.scale.data.fill_(2), net.bias.data.fill_(-4)
    >>> [round(a, 4) for a in alphas(net).tolist()]  # -w s^2 / b for singular values s
    [0.5, 2.0, 4.5]
    """
    return torch.linalg.eigvalsh(_quadratic_form(net)).clamp_min(0)


def eigenbasis(net: SphereQuadratic) -> tuple[Tensor, Tensor]:
    """The :func:`alphas` (d,) and the orthonormal axes V (d, d) of the ellipsoid, both float64: ``x @ V`` has the
    coordinates that :func:`nearest_error_quadratic` takes, ``error @ V.T`` leads back. Raises as :func:`alphas` does.

    >>> from advlab import models
    >>> net = models.SphereQuadratic(d=5, width=8)
    >>> spectrum, axes = eigenbasis(net)
    >>> spectrum.allclose(alphas(net)), (axes.T @ axes).allclose(torch.eye(5, dtype=torch.float64))
    (True, True)
    """
    values, vectors = torch.linalg.eigh(_quadratic_form(net))
    return values.clamp_min(0), vectors


def is_perfect(alphas: Any, outer_radius: float = 1.3) -> bool:
    """Whether every alpha lies in (1 / R^2, 1]: the network is then right on every point of both spheres (section 4).

    Guarantee: a certificate, in exact arithmetic on the given alphas (rounding in their computation is not covered). If it is
    False there are errors; they are of measure zero only where an alpha of exactly 1 / R^2, the least of all, makes them.
    Raises ValueError for alphas that are no finite non-negative vector (d,), and for an outer radius of 1 or less.

    >>> is_perfect([0.6, 0.8, 1.0]), is_perfect([0.6, 0.8, 1.01]), is_perfect([0.25, 0.8, 1.0], outer_radius=2.0)
    (True, False, False)
    """
    spectrum = _spectrum(alphas, outer_radius)
    return bool(spectrum.max() <= 1 and spectrum.min() > 1 / outer_radius**2)


def quadratic_log_error(alphas: Any, outer_radius: float = 1.3, sphere: str = "inner", method: str = "exact") -> float:
    """Natural log of the share of one ``sphere``, "inner" or "outer", that the network gets wrong.

    ``alphas`` is anything that ``torch.as_tensor`` takes, (d,), in any order. Methods:

    - "exact": P(sum c_i z_i^2 > 0) for normal z by numerical inversion of the Laplace transform along the vertical line
      through the saddlepoint. Relative error of the log below 1e-9 in tests, at any depth, from d = 2 to 5,000.
    - "saddlepoint": Lugannani and Rice's approximation; the probability within 1 % for trained spectra, 10 % where one
      alpha dominates, 40 % in the worst spectra tried.
    - "clt": the paper's Eq. 3, corrected (a normal distribution function of mean over standard deviation, where the paper
      misses a sign and a square). It can be wrong by tens of orders of magnitude either way, and never sees perfection.

    Guarantee: "exact" and "saddlepoint" return -inf if and only if no point of the sphere is wrong, and 0.0 if almost
    every point is. Raises ValueError for alphas that are no finite non-negative vector, another sphere or method, and an
    outer radius of 1 or less.

    >>> spectrum = torch.tensor([3.0] + [0.77] * 499)
    >>> [round(quadratic_log_error(spectrum, method=m) / math.log(10), 2) for m in METHODS]
    [-12.76, -12.72, -46.98]
    >>> quadratic_log_error([0.6, 0.8, 1.0])
    -inf
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
    c = _coefficients(_spectrum(alphas, outer_radius), outer_radius, sphere)
    if method == "clt":
        spread = math.sqrt(2 * float(c @ c))
        return float(log_ndtr(c.sum() / spread)) if spread else -math.inf
    c = c[c != 0]
    if not len(c) or c.max() < 0:
        return -math.inf
    if c.min() > 0:
        return 0.0
    log_tail = log_tail_exact if method == "exact" else log_tail_saddlepoint
    if c.sum() <= 0:
        return log_tail(c)
    return math.log1p(-math.exp(log_tail(-c))) + 0.0


def nearest_error_quadratic(x: Tensor, alphas: Any, outer_radius: float = 1.3) -> tuple[Tensor, Tensor]:
    """For each point (n, d), given in the eigenbasis, the nearest error on its own sphere: ``distance`` (n,) as a chord in
    absolute units, and ``error`` (n, d), both float64.

    The radius of a point decides its sphere. A point that is wrong already has the distance 0 and is its own error; where
    the whole sphere is right, distance and error are NaN (a certificate, as in :func:`is_perfect`). The errors returned
    lie on the decision boundary, so that the network may call them either way.

    Guarantee: the global optimum up to rounding (constraint met within 1e-10). The nearest point of the cone
    ``sum c_i y_i^2 >= 0`` is ``(I - nu C)^-1 x`` with I - nu C positive semidefinite, and one monotone equation gives nu.
    Raises ValueError for a shape that does not fit the alphas, a point on neither sphere (0.1 % of the radius off), and
    as :func:`quadratic_log_error` does.

    >>> distance, error = nearest_error_quadratic(torch.tensor([[0.0, 1.0], [0.0, 1.3]]), [1.5, 0.5])
    >>> distance, (error * torch.tensor([1.5, 0.5]) * error).sum(1)
    (tensor([0.7654, 0.0000], dtype=torch.float64), tensor([1.0000, 0.8450], dtype=torch.float64))
    """
    spectrum = _spectrum(alphas, outer_radius)
    if x.ndim != 2 or x.shape[1] != len(spectrum):
        raise ValueError(f"x has the shape {tuple(x.shape)}; with {len(spectrum)} alphas it must be (n, {len(spectrum)})")
    points = x.detach().double().cpu().numpy()
    radii = np.linalg.norm(points, axis=1)
    outer = abs(radii - outer_radius) < abs(radii - 1)
    expected = np.where(outer, outer_radius, 1.0)
    off = ~(abs(radii - expected) <= 1e-3 * expected)
    if off.any():
        row = int(off.argmax())
        raise ValueError(
            f"row {row} of x has the length {radii[row]:.6g}; points must lie on the sphere of radius 1 or {outer_radius:g}: "
            "scale x, or pass the outer_radius it was sampled with"
        )
    errors = np.full_like(points, np.nan)
    for sphere, rows in (("inner", ~outer), ("outer", outer)):
        c = _coefficients(spectrum, outer_radius, sphere)
        if rows.any() and c.max() > 0:
            errors[rows] = nearest_in_cone(points[rows], c)
    distance = np.linalg.norm(errors - points, axis=1)
    return torch.from_numpy(distance).to(x.device), torch.from_numpy(errors).to(x.device)


def mean_field_distance(alphas: Any, outer_radius: float = 1.3, sphere: str = "inner") -> float:
    """The mean of :func:`nearest_error_quadratic` over one sphere, relative to its radius, as d grows: every squared
    coordinate of the point is replaced by its mean 1 / d.

    0.0 where the mean of c is not negative, that is, where about half of the sphere or more is wrong; NaN where no point
    is. No guarantee: asymptotic; in tests within 1 % of the mean at d = 500 (3 % where one alpha dominates), 10 % at d = 20.
    Raises as :func:`quadratic_log_error` does.

    >>> round(mean_field_distance([3.0] + [0.77] * 499), 4)
    0.2813
    """
    spectrum = _spectrum(alphas, outer_radius)
    c = _coefficients(spectrum, outer_radius, sphere)
    if c.max() <= 0:
        return math.nan
    x = np.full((1, len(c)), len(c) ** -0.5)
    return float(np.linalg.norm(nearest_in_cone(x, c) - x))


def ignored_log_error(used: int, d: int, outer_radius: float = 1.3, method: str = "exact") -> float:
    """Natural log of the error rate of the best network that sees only ``used`` of ``d`` coordinates, all alike (section 4).

    Its alphas are one a, ``used`` times, and zeros; a makes the errors of both spheres equal, and so the larger of them
    smallest. "exact" takes them from the beta law of ``used`` squared coordinates, "clt" from Eq. 3, corrected. -inf if
    nothing is ignored (exact only). Raises ValueError unless 1 <= used <= d, and for another method or radius.

    >>> [round(ignored_log_error(k, 500) / math.log(10), 2) for k in (100, 300, 450)]
    [-1.71, -6.62, -27.61]
    """
    check_outer_radius(outer_radius)
    if not 1 <= used <= d <= MOST:
        raise ValueError(f"used is {used}; of {d} coordinates, at most {MOST:g}, from 1 to {d} can be used")
    if method not in ("exact", "clt"):
        raise ValueError(f"method is {method!r}; it must be exact or clt")
    if method == "exact":
        return -math.inf if used == d else _ignored_exact(used / 2, (d - used) / 2, outer_radius**-2)
    return float(log_ndtr(-math.sqrt(d / 2) if used == d else _ignored_clt(used, d - used, outer_radius**-2)))


def inputs_needed(log_error: float, d: int, outer_radius: float = 1.3, method: str = "exact") -> int:
    """The fewest of ``d`` coordinates with which :func:`ignored_log_error` is below ``log_error``.

    The paper's "ignoring 62 % of the input" at d = 3000 and 1e-14 is the method "clt". Raises ValueError where all d do
    not suffice (clt only), and as :func:`ignored_log_error` does.

    >>> [inputs_needed(math.log(1e-14), 500, method=m) for m in ("clt", "exact")]
    [412, 392]
    """
    low, high = 0, d
    if not ignored_log_error(d, d, outer_radius, method) < log_error:
        raise ValueError(f"even all {d} inputs give no error below exp({log_error:g}) by {method}; raise log_error")
    while high - low > 1:
        k = (low + high) // 2
        low, high = (low, k) if ignored_log_error(k, d, outer_radius, method) < log_error else (k, high)
    return high


def _ignored_exact(a: float, b: float, shrink: float) -> float:
    """The balanced log error for a share of Beta(a, b): P(share > t) = P(share < shrink t)."""

    def tails(logit: float) -> tuple[float, float]:  # t as log(t / (1 - t)), since it comes within rounding of 1
        log_t, log_rest = -float(np.logaddexp(0, -logit)), -float(np.logaddexp(0, logit))
        return (
            log_betainc(b, a, log_rest, log_t),
            log_betainc(a, b, log_t + math.log(shrink), math.log1p(-shrink * math.exp(log_t))),
        )

    def gap(logit: float) -> float:
        inner, outer = tails(logit)
        return inner - outer

    middle, reach = math.log(a / b), 1.0
    while gap(middle - reach) < 0 or gap(middle + reach) > 0:
        reach *= 2
    return tails(root_scalar(gap, bracket=(middle - reach, middle + reach), xtol=1e-14).root)[0]


def _ignored_clt(used: int, ignored: int, shrink: float) -> float:
    """The balanced mean over standard deviation of Eq. 3 for ``used`` equal alphas and ``ignored`` zeros."""

    def z(c: float, rest: float) -> float:
        return (used * c + ignored * rest) / math.sqrt(2 * (used * c * c + ignored * rest * rest))

    def gap(log_a: float) -> float:
        return z(math.exp(log_a) - 1, -1) - z(shrink - math.exp(log_a), shrink)

    middle = math.log((used + ignored) / used)  # there half of the inner sphere is wrong
    return z(math.exp(root_scalar(gap, bracket=(middle + math.log(shrink), middle), xtol=1e-15).root) - 1, -1)


def _quadratic_form(net: SphereQuadratic) -> Tensor:
    """The symmetric (d, d) matrix of the ellipsoid, x' A x = 1."""
    weight, scale, bias = (torch.as_tensor(part).detach().double() for part in (net.weight, net.scale, net.bias))
    if weight.ndim != 2 or scale.numel() != 1 or bias.numel() != 1:
        raise ValueError(f"weight has the shape {tuple(weight.shape)}; it must be (h, d), scale and bias one number each")
    if not (scale > 0 and bias < 0):
        raise ValueError(
            f"scale is {scale.item():g} and bias {bias.item():g}; only scale > 0 > bias gives an ellipsoid: train on, or "
            "start from such values"
        )
    return weight.T @ weight * (-scale / bias).reshape(())


def _spectrum(alphas: Any, outer_radius: float) -> np.ndarray:
    check_outer_radius(outer_radius)
    spectrum = torch.as_tensor(alphas, dtype=torch.float64).detach().cpu().numpy()
    if spectrum.ndim != 1 or not len(spectrum):
        raise ValueError(f"alphas has the shape {spectrum.shape}; it must be (d,) with d at least 1, one network at a time")
    if not (np.isfinite(spectrum).all() and (spectrum >= 0).all()):
        raise ValueError(f"alphas run from {spectrum.min():g} to {spectrum.max():g}; they must be finite and at least 0")
    return spectrum


def _coefficients(spectrum: np.ndarray, outer_radius: float, sphere: str) -> np.ndarray:
    """The c of the error cone sum c x^2 > 0."""
    if sphere not in SPHERES:
        raise ValueError(f"sphere is {sphere!r}; it must be 'inner' or 'outer'")
    return spectrum - 1 if sphere == "inner" else 1 / outer_radius**2 - spectrum
