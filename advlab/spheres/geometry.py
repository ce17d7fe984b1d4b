"""Caps on the sphere: how far a set of a given measure can be (Adversarial Spheres, arXiv 1801.02774).

Measures are shares of the whole sphere, given as natural logarithms in float64, because those of the paper's sets fall
below the smallest float. A cap of the polar angle t holds every point within the angle t of its pole: t = pi / 2 is half
of the sphere. Angles and distances are on the unit sphere; a chord scales with the radius.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from scipy.special import ndtri_exp

METRICS = ("chord", "geodesic")
MOST = 1e100  #: dimensions: the squares of many more are no floats
_LOG_HALF = -math.log(2)


def log_cap_measure(angle: float, d: int) -> float:
    """Natural log of the share of the sphere in d dimensions that a cap covers.

    Half the regularised incomplete beta function I(sin(angle)^2; (d - 1) / 2, 1 / 2) up to the equator, one minus that of
    the opposite cap beyond it.

    Parameters
    ----------
    angle : float, polar angle of the cap in radians, from 0 to pi
    d : int, dimensions, from 2 up
    Returns
    -------
    float, at most 0; -inf for the angle 0, 0.0 for pi
    Raises
    ------
    ValueError
        d below 2 or above 1e100, or another angle
    Guarantee
    ---------
    None formal; relative error below 1e-10 against 30 digits in tests, from d = 2 to 150,528 and from 0 to below -5000.
    References
    ----------
    Gilmer et al. (2018), section 5
    Examples
    --------
    >>> round(math.exp(log_cap_measure(math.pi / 3, 3)), 12)  # Archimedes: (1 - cos) / 2
    0.25
    >>> round(log_cap_measure(0.3, 500), 6)
    -612.270255
    """
    _check_dimension(d)
    _check_angle(angle)
    if angle == 0 or angle == math.pi:
        return 0.0 if angle else -math.inf
    minor = log_betainc((d - 1) / 2, 0.5, *_log_sin2_cos2(angle)) + _LOG_HALF  # the cap or, past the equator, its opposite
    return minor if angle <= math.pi / 2 else math.log1p(-math.exp(minor))


def cap_angle(log_measure: float, d: int) -> float:
    """The polar angle in [0, pi] of the cap whose log measure that is: the inverse of :func:`log_cap_measure`.

    Guarantee: Newton's method on a concave function, so it converges from anywhere; the log measure of the angle agrees
    within 1e-9 in tests. Raises ValueError for d < 2, a log measure above 0, or one whose angle is below 1e-307, the end
    of float64: e.g. below -708 for d = 2, -4951 for d = 8.

    >>> round(cap_angle(math.log(0.25), 3), 12) == round(math.pi / 3, 12)
    True
    >>> round(cap_angle(math.log(1e-6), 500), 6)
    1.358701
    """
    _check_dimension(d)
    _check_log_measure(log_measure)
    if log_measure > _LOG_HALF:
        return math.pi - _opposite_angle(log_measure, d)
    return _minor_angle(log_measure, d)


def mean_distance_to_cap(angle: float, d: int, metric: str = "chord") -> float:
    """Mean distance from a uniform point of the unit sphere in d dimensions to a cap of that polar ``angle`` in [0, pi].

    Points inside the cap count as 0. The ``metric`` is "chord" (straight through space) or "geodesic" (along the sphere).
    Guarantee: none formal; relative error below 1e-10 against 30 digits in tests, from d = 2 to 150,528. 0.0 where the
    value is below the smallest float. Raises ValueError for d < 2, another angle or metric.

    >>> round(mean_distance_to_cap(math.pi / 2, 2, "geodesic"), 12) == round(math.pi / 8, 12)
    True
    >>> round(mean_distance_to_cap(math.pi / 2, 500), 6)
    0.017859
    """
    _check_dimension(d)
    _check_angle(angle)
    return _mean_distance(math.pi - angle + math.sin(math.pi) if angle < math.pi else 0.0, d, metric)


def optimal_distance(log_measure: float, d: int, metric: str = "chord") -> float:
    """The largest mean distance from a uniform point of the unit sphere to an error set of that measure.

    Parameters
    ----------
    log_measure : float, natural log of the set's share of the sphere, at most 0
    d : int, dimensions, from 2 up
    metric : "chord", straight through space, or "geodesic", along the sphere in radians
    Returns
    -------
    float, on the unit sphere; a chord scales with the radius
    Raises
    ------
    ValueError
        d below 2, a log measure above 0 or without an angle in float64 (see :func:`cap_angle`), another metric
    Guarantee
    ---------
    No set of that measure, of any shape, has a larger mean distance: a cap minimises the measure of every neighbourhood
    (Levy's isoperimetric inequality), and attains it. Floating point as in :func:`mean_distance_to_cap`.
    References
    ----------
    Gilmer et al. (2018), Theorem 5.1, whose asymptotic form is :func:`gaussian_distance`
    Examples
    --------
    >>> round(optimal_distance(math.log(1e-6), 500), 4)
    0.2116
    """
    _check_dimension(d)
    _check_log_measure(log_measure)
    if log_measure > _LOG_HALF:
        return _mean_distance(_opposite_angle(log_measure, d), d, metric)
    return _mean_distance(math.pi - _minor_angle(log_measure, d), d, metric)


def gaussian_distance(log_measure: float, d: int) -> float:
    """Theorem 5.1's asymptotic form, minus the normal quantile of the measure over the square root of d.

    It is negative for measures above 1/2, where :func:`optimal_distance` stays positive, and infinite for 0 (-inf) and
    1 (0.0). No guarantee: not a bound at any fixed d; at d = 500 within 0.7 % of the exact chord for measures from 1e-8 to
    0.01, too large by 11 % at 1e-100, too small by 12 % at 0.2. Raises ValueError for d < 2 or a log measure above 0.

    >>> round(gaussian_distance(math.log(1e-6), 500), 4)
    0.2126
    """
    _check_dimension(d)
    _check_log_measure(log_measure)
    return -float(ndtri_exp(log_measure)) / math.sqrt(d)


def log_betainc(a: float, b: float, log_x: float, log_y: float) -> float:
    """Natural log of the regularised incomplete beta function I(x; a, b), from the logs of x and of y = 1 - x.

    Both logs are given because either number may be below the smallest float or within rounding of 1. Lentz's evaluation
    of the continued fraction DLMF 8.17.22 where it converges fast, one minus the mirrored function elsewhere.

    >>> round(math.exp(log_betainc(2.0, 1.0, math.log(0.3), math.log(0.7))), 12)
    0.09
    """
    if log_x > math.log((a + 1) / (a + b + 2)):
        return math.log1p(-math.exp(log_betainc(b, a, log_y, log_x)))
    x, numerator, denominator, fraction = math.exp(log_x), 1.0, 0.0, 1.0
    for j in itertools.count(1):
        m = j // 2
        top = -(a + m) * (a + b + m) if j % 2 else m * (b - m)
        term = top * x / ((a + j - 1) * (a + j))
        denominator = 1 / (1 + term * denominator)
        numerator = 1 + term / numerator
        fraction *= numerator * denominator
        if abs(numerator * denominator - 1) < 3e-16:
            break
    scaled = a * (log_x + math.log1p(b / a)) + b * (log_y + math.log1p(a / b))  # x^a y^b over its maximum
    return scaled - _log_beta_scaled(a, b) - math.log(a) - math.log(fraction)


def check_outer_radius(outer_radius: float) -> None:
    """Raise ValueError unless the outer radius is above 1, the inner one."""
    if not 1 < outer_radius < math.inf:
        raise ValueError(f"outer_radius is {outer_radius}; it must be above 1, the radius of the inner sphere, and finite")


def _check_dimension(d: int) -> None:
    if not 2 <= d <= MOST:
        raise ValueError(f"d is {d}; a sphere needs at least 2 dimensions, and at most {MOST:g}")


def _check_angle(angle: float) -> None:
    if not 0 <= angle <= math.pi:
        raise ValueError(f"angle is {angle}; a cap's polar angle is in radians, from 0 to pi")


def _check_log_measure(log_measure: float) -> None:
    if not log_measure <= 0:
        raise ValueError(f"log_measure is {log_measure}; it is the natural log of a share, so at most 0: take math.log of it")


def _log_sin2_cos2(angle: float) -> tuple[float, float]:
    """Logs of the squared sine and cosine, each to full relative precision (the sine also near pi, by its reduction)."""
    sin, cos = math.sin(angle), abs(math.cos(angle))
    log_sin2 = 2 * math.log(sin) if sin < 0.7 else math.log1p(-cos * cos)
    log_cos2 = 2 * math.log(cos) if cos < 0.7 else math.log1p(-sin * sin)
    return log_sin2, log_cos2


def _log_beta_scaled(a: float, b: float) -> float:
    """Log of the beta function over a^a b^b / (a + b)^(a + b), free of the cancellation of large log gammas."""
    return 0.5 * math.log(2 * math.pi * (a + b) / (a * b)) + _stirling_rest(a) + _stirling_rest(b) - _stirling_rest(a + b)


def _stirling_rest(a: float) -> float:
    """What Stirling's formula leaves of log gamma."""
    if a < 20:
        return math.lgamma(a) - (a - 0.5) * math.log(a) + a - 0.5 * math.log(2 * math.pi)
    q = 1 / (a * a)
    return (1 / 12 - q * (1 / 360 - q * (1 / 1260 - q * (1 / 1680 - q / 1188)))) / a


def _log_beta_half(a: float) -> float:
    """Log of the beta function of a and 1/2."""
    return _log_beta_scaled(a, 0.5) - a * math.log1p(0.5 / a) - 0.5 * math.log1p(2 * a)


def _minor_angle(log_measure: float, d: int) -> float:
    """The polar angle of a cap that covers at most half of the sphere."""
    if log_measure == -math.inf:
        return 0.0
    log_beta = _log_beta_half((d - 1) / 2)
    log_small = (log_measure + math.log(d - 1) + log_beta) / (d - 1)  # with sin t ~ t: never above the answer
    if log_small < -707:
        raise ValueError(
            f"no float64 holds the angle of a cap of log measure {log_measure:g} in {d} dimensions; "
            f"raise the measure or d (the angle would be exp({log_small:.6g}))"
        )
    quantile = float(ndtri_exp(log_measure))
    angle = max(math.exp(log_small), math.asin(math.exp(-quantile * quantile / (2 * d - 2))))
    for _ in range(60):  # the log measure is concave in log t, so Newton's steps approach from below after the first
        miss = log_measure - log_cap_measure(angle, d)
        log_density = (d - 2) * _log_sin2_cos2(angle)[0] / 2 - log_beta
        step = miss / (angle * math.exp(log_density - log_measure + miss))
        angle = min(angle * math.exp(step), math.pi / 2)
        if abs(step) < 1e-15 or abs(miss) < 4e-16 * abs(log_measure):
            break
    return angle


def _opposite_angle(log_measure: float, d: int) -> float:
    """The polar angle of what a cap of more than half leaves; 0.0 where no float64 holds it."""
    try:
        return _minor_angle(math.log(-math.expm1(log_measure)), d) if log_measure else 0.0
    except ValueError:
        return 0.0


@functools.cache
def _gauss_legendre() -> tuple[np.ndarray, np.ndarray]:
    """150 nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(150)
    return (nodes + 1) / 2, weights / 2


def _mean_distance(rest: float, d: int, metric: str) -> float:
    """Mean distance to the cap that leaves the polar angle ``rest`` = pi - angle around the opposite pole."""
    if metric not in METRICS:
        raise ValueError(f"metric is {metric!r}; it must be one of {', '.join(METRICS)}")
    if rest == 0:
        return 0.0
    peak = min(rest, math.pi / 2)  # of the density sin^(d-2), as an angle from the opposite pole
    low = math.asin(math.sin(peak) * math.exp(-60 / (d - 2))) if d > 2 else 0.0  # e^-60 of the peak is left out
    near, far = max(rest - (math.pi - low), 0.0), rest - low  # geodesic distances from the cap
    nodes, weights = _gauss_legendre()
    away = near + (far - near) * nodes
    polar = rest - away
    sin, cos = np.sin(polar), np.cos(polar)
    with np.errstate(divide="ignore"):
        log_sin = np.where(sin < 0.7, np.log(sin), np.log1p(-np.minimum(cos * cos, 0.9)) / 2)
    density = np.exp((d - 2) * log_sin - _log_beta_half((d - 1) / 2))
    distance = 2 * np.sin(away / 2) if metric == "chord" else away
    return float((far - near) * (weights @ (density * distance)))
