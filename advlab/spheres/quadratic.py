"""The quadratic network of Adversarial Spheres (arXiv 1801.02774, section 4), where everything can be computed exactly.

The network is ``f(x) = scale * |W x|^2 + bias``; it calls x outer where f(x) > 0. In the eigenbasis of W'W the decision
boundary is the ellipsoid ``sum alpha_i x_i^2 = 1`` with ``alpha_i = -scale * s_i^2 / bias``, s the singular values of W.
Its errors on the sphere of radius 1 or R are the cone ``sum c_i x_i^2 > 0``, where ``c = alpha - 1`` on the inner sphere
and ``c = 1 / R^2 - alpha`` on the outer one. Everything here follows from c, in float64.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import torch
from scipy.optimize import root_scalar
from scipy.special import erfcx, log_ndtr
from torch import Tensor

from .geometry import check_outer_radius, log_betainc

METHODS = ("exact", "saddlepoint", "clt")
SPHERES = ("inner", "outer")


class Quadratic(Protocol):
    """What :func:`alphas` reads of a network: ``weight`` (h, d), and the scalars ``scale`` and ``bias``."""

    @property
    def weight(self) -> Tensor: ...
    @property
    def scale(self) -> Tensor: ...
    @property
    def bias(self) -> Tensor: ...


def alphas(net: Quadratic) -> Tensor:
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


def eigenbasis(net: Quadratic) -> tuple[Tensor, Tensor]:
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
    """Whether every alpha lies in [1 / R^2, 1]: the network is then right on every point of both spheres (section 4).

    Guarantee: a certificate, in exact arithmetic on the given alphas (rounding in their computation is not covered); if
    it is False, errors of positive measure exist. Raises ValueError for alphas that are no finite non-negative vector
    (d,), and for an outer radius of 1 or less.

    >>> is_perfect([0.6, 0.8, 1.0]), is_perfect([0.6, 0.8, 1.01])
    (True, False)
    """
    spectrum = _spectrum(alphas, outer_radius)
    return bool(spectrum.max() <= 1 and spectrum.min() >= 1 / outer_radius**2)


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
    log_tail = _log_tail_exact if method == "exact" else _log_tail_saddlepoint
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
            errors[rows] = _nearest_in_cone(points[rows], c)
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
    return float(np.linalg.norm(_nearest_in_cone(x, c) - x))


def ignored_log_error(used: int, d: int, outer_radius: float = 1.3, method: str = "exact") -> float:
    """Natural log of the error rate of the best network that sees only ``used`` of ``d`` coordinates, all alike (section 4).

    Its alphas are one a, ``used`` times, and zeros; a makes the errors of both spheres equal, and so the larger of them
    smallest. "exact" takes them from the beta law of ``used`` squared coordinates, "clt" from Eq. 3, corrected. -inf if
    nothing is ignored (exact only). Raises ValueError unless 1 <= used <= d, and for another method or radius.

    >>> [round(ignored_log_error(k, 500) / math.log(10), 2) for k in (100, 300, 450)]
    [-1.71, -6.62, -27.61]
    """
    check_outer_radius(outer_radius)
    if not 1 <= used <= d:
        raise ValueError(f"used is {used}; of {d} coordinates, from 1 to {d} can be used")
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


def _quadratic_form(net: Quadratic) -> Tensor:
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


def _stationary(ratios: np.ndarray, pole: float) -> float:
    """The root s in (0, 1) of sum r / (1 - r s) = pole / s, for ratios r <= 1 of which one is 1 and the sum is <= 0."""
    low, high, s = 0.0, 1 - 1 / (len(ratios) + 4), 0.5
    for _ in range(200):
        terms = ratios / (1 - ratios * s)
        value, slope = terms.sum() - pole / s, terms @ terms + pole / (s * s)
        low, high = (s, high) if value < 0 else (low, s)
        newton = s - value / slope
        if abs(newton - s) <= 4e-16 * s:
            break
        s = newton if low < newton < high else (low + high) / 2
    return s


def _log_tail_exact(c: np.ndarray) -> float:
    """The log of P(sum c z^2 > 0) for a mean sum(c) <= 0 and coefficients of both signs.

    P is the integral of exp(F(s)) / (2 pi i) along a vertical line, F(s) = -1/2 sum log(1 - 2 c s) - log s. The line goes
    through the minimum of the convex F on (0, 1 / (2 max c)); s = s0 + i y with y = delta sinh t turns the algebraic tail
    into an exponential one, and the trapezoidal rule converges geometrically because the nearest singularities are
    farther than delta.
    """
    top = c.max()
    ratios, counts = np.unique(c / top, return_counts=True)
    s0 = _stationary(c / top, 2.0)  # in units of 1 / (2 max c)
    shifted = ratios / (1 - ratios * s0)
    delta = 1 / math.sqrt(0.5 * counts @ shifted**2 + 1 / s0**2)
    log_peak = -0.5 * float(counts @ np.log1p(-ratios * s0)) - math.log(s0)

    def integrand(t: np.ndarray) -> np.ndarray:
        y = delta * np.sinh(t)
        turned = np.multiply.outer(y, shifted)
        log_size = -0.25 * np.log1p(turned * turned) @ counts - 0.5 * np.log1p((y / s0) ** 2)
        phase = 0.5 * np.arctan(turned) @ counts - np.arctan(y / s0)
        return np.exp(log_size) * np.cos(phase) * np.cosh(t)

    def size(t: float) -> float:
        y = delta * math.sinh(t)
        return -0.25 * float(counts @ np.log1p((y * shifted) ** 2)) - 0.5 * math.log1p((y / s0) ** 2) + t

    end = 2.0
    while size(end) > -42:
        end += 1.0
    step = 0.25
    total = step * (integrand(np.arange(0, end, step)).sum() - 0.5)
    for _ in range(12):
        refined = total / 2 + step / 2 * integrand(np.arange(step / 2, end, step)).sum()
        settled = abs(refined - total) <= 1e-8 * abs(refined)
        total, step = refined, step / 2
        if settled:
            break
    return log_peak + math.log(delta * total / math.pi)


def _log_tail_saddlepoint(c: np.ndarray) -> float:
    """The same by Lugannani and Rice's formula, with its limit where the saddlepoint meets the pole."""
    ratios = c / c.max()
    s0 = _stationary(ratios, 0.0)
    terms = ratios * s0 / (1 - ratios * s0)
    w, u = math.sqrt(max(float(np.log1p(-ratios * s0).sum()), 0.0)), math.sqrt(0.5 * float(terms @ terms))
    if w < 1e-4:
        skewness = math.sqrt(8) * float((c**3).sum()) / float(c @ c) ** 1.5
        return math.log(0.5 - skewness / (6 * math.sqrt(2 * math.pi)))
    mills = math.sqrt(math.pi / 2) * float(erfcx(w / math.sqrt(2)))
    return -w * w / 2 - 0.5 * math.log(2 * math.pi) + math.log(mills + 1 / u - 1 / w)


def _nearest_in_cone(x: np.ndarray, c: np.ndarray) -> np.ndarray:
    """For each row x (n, d) the nearest y of the same length with sum c y^2 >= 0, where max c > 0."""
    top = c.max()
    ratios, gaps = c / top, (top - c) / top  # 1 - ratio, exact next to the top
    y = x.copy()
    rows = np.flatnonzero(x**2 @ ratios < 0)
    if not len(rows):
        return y
    x = x[rows]
    y[rows] = _project(x, ratios, gaps)
    y[rows] *= (np.linalg.norm(x, axis=1) / np.linalg.norm(y[rows], axis=1))[:, None]
    return y


def _project(x: np.ndarray, ratios: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """The projection on the cone of rows outside of it: x / (1 - nu c) with nu max c = 1 - exp(u), u <= 0.

    With A and B the positive and the negative part of sum c x^2 / (1 - nu c)^2, u solves log A = log B, whose difference
    falls in u: Newton's method inside a bracket.
    """
    is_top = gaps == 0
    squares = x**2
    plus, minus = np.maximum(ratios, 0), np.maximum(-ratios, 0)
    in_top = squares[:, is_top].sum(1)
    # the hard case: without its top part, x stays outside of the cone for every nu, and the top part is (almost) zero
    rest = x / np.where(is_top, np.inf, gaps)
    missing = -(rest**2 @ ratios)
    hard = (missing > 0) & (in_top < 1e-290 * missing)
    y = np.empty_like(x)
    y[hard] = rest[hard]
    if hard.any():
        direction = x[hard][:, is_top]
        direction[:, 0] += (direction == 0).all(1)
        direction /= abs(direction).max(1, keepdims=True)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        y[np.ix_(hard, is_top)] = direction * np.sqrt(missing[hard])[:, None]
    if hard.all():
        return y
    easy = ~hard
    x, squares, in_top = x[easy], squares[easy], in_top[easy]
    # the root lies above sqrt(in_top / B at 1), and above 1e-150 where the top part is absent
    low = np.log(np.maximum(np.sqrt(in_top / (squares @ minus)), 1e-150))
    high = np.zeros_like(low)
    u = np.maximum(low, -1.0)
    base, parts = np.where(ratios > 0, gaps, 1.0), np.stack([plus, minus])  # sums of positive terms: nothing cancels
    for _ in range(100):
        inverse = 1 / (base + np.stack([np.exp(u), -np.expm1(u)], 1) @ parts)  # 1 / (1 - nu c), (n, d)
        terms = squares * inverse * inverse
        a, b = terms @ plus, terms @ minus
        terms *= inverse
        value = np.log(a / b)
        slope = -2 * np.exp(u) * (terms @ (plus * plus) / a + terms @ (minus * minus) / b)
        low, high = np.where(value > 0, u, low), np.where(value > 0, high, u)
        newton = u - value / slope
        done = (abs(value) < 1e-14) | (abs(newton - u) <= 1e-14 * abs(u))
        if done.all():
            break
        inside = (newton > low) & (newton < high)
        u = np.where(done, u, np.where(inside, newton, (low + high) / 2))
    y[easy] = x * inverse
    return y
