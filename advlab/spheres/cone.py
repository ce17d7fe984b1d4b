"""The cone ``sum c_i x_i^2 > 0`` on which a quadratic network errs: how much of a sphere it covers, and its nearest point."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erfcx


def _stationary(ratios: np.ndarray, pole: float) -> float:
    """The root s in (0, 1) of sum r / (1 - r s) = pole / s, for ratios r <= 1 of which one is 1 and the sum is <= 0.

    It is where F'(s) = sum c / (1 - 2 c s) - pole / (2 s) is 0, with s in units of 1 / (2 max c) and r = c / max c. F' rises.
    """
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


def log_tail_exact(c: np.ndarray) -> float:
    """The log of P(sum c z^2 > 0) for a mean sum(c) <= 0 and coefficients of both signs.

    P is the integral of exp(F(s)) / (2 pi i) along a vertical line, F(s) = -1/2 sum log(1 - 2 c s) - log s. The line goes
    through the minimum of the convex F on (0, 1 / (2 max c)); s = s0 + i y with y = delta sinh t turns the algebraic tail
    into an exponential one, and the trapezoidal rule converges geometrically because the nearest singularities are
    farther than delta.
    """
    # 1 - r s = (1 - r s0) (1 - i y r / (1 - r s0)): its modulus gives log_size, its angle gives phase; delta is F'' ^ -1/2
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


def log_tail_saddlepoint(c: np.ndarray) -> float:
    """The same by Lugannani and Rice's formula, with its limit where the saddlepoint meets the pole.

    Phi(-w) + phi(w) (1 / u - 1 / w) with w^2 = -2 K(s0), u^2 = s0^2 K''(s0), K(s) = -1/2 sum log(1 - r s); mills is Phi / phi.
    """
    ratios = c / c.max()
    s0 = _stationary(ratios, 0.0)
    terms = ratios * s0 / (1 - ratios * s0)
    w, u = math.sqrt(max(float(np.log1p(-ratios * s0).sum()), 0.0)), math.sqrt(0.5 * float(terms @ terms))
    if w < 1e-4:
        skewness = math.sqrt(8) * float((c**3).sum()) / float(c @ c) ** 1.5
        return math.log(0.5 - skewness / (6 * math.sqrt(2 * math.pi)))
    mills = math.sqrt(math.pi / 2) * float(erfcx(w / math.sqrt(2)))
    return -w * w / 2 - 0.5 * math.log(2 * math.pi) + math.log(mills + 1 / u - 1 / w)


def nearest_in_cone(x: np.ndarray, c: np.ndarray) -> np.ndarray:
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

    Where |y - x|^2 is least under y'Cy >= 0, its gradient is a multiple of the constraint's: y - x = nu C y. Any such y is the
    global minimum if I - nu C is positive semidefinite. With A and B the positive and the negative part of
    y'Cy = sum c x^2 / (1 - nu c)^2, u solves log A = log B, whose difference falls in u: Newton's method inside a bracket.
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
        # for c > 0, 1 - nu c = gap + r exp(u); for c < 0 it is 1 + |r| (1 - exp(u))
        inverse = 1 / (base + np.stack([np.exp(u), -np.expm1(u)], 1) @ parts)  # (n, d)
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
        bracketed = (newton > low) & (newton < high)
        u = np.where(done, u, np.where(bracketed, newton, (low + high) / 2))
    y[easy] = x * inverse
    return y
