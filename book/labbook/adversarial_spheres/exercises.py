"""Exercises of chapter 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import torch
from scipy.special import betaincinv
from torch import Tensor, nn

from advlab.spheres import nearest_error, nearest_error_quadratic

from ..exercises import close, exercise, require

Score = Callable[[Tensor], Tensor]


def _on_sphere(n: int, d: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return nn.functional.normalize(torch.randn(n, d, dtype=dtype))


def _polar_angle(measure: float, d: int) -> float:
    """Of the cap of that share, below one half, by SciPy: I(sin^2; (d - 1) / 2, 1 / 2) / 2."""
    return math.asin(math.sqrt(betaincinv((d - 1) / 2, 0.5, 2 * measure)))


def _mean_chord(measure: float, d: int) -> float:
    """Mean distance to a cap, by the trapezoidal rule over the polar angle."""
    edge = _polar_angle(measure, d)
    angle = torch.linspace(1e-9, math.pi, 200_001, dtype=torch.float64)
    density = angle.sin().abs() ** (d - 2)
    chord = 2 * ((angle - edge).clamp_min(0) / 2).sin()
    return float((chord * density).sum() / density.sum())


@exercise("adversarial_spheres.growth", "What a factor of a thousand buys", minutes=10, level="easy")
def growth(answer: Callable[[int, float, float], float]) -> None:
    expected = _mean_chord(1e-4, 10) / _mean_chord(1e-2, 10)
    found = answer(10, -2.0, -4.0)
    require(float(found) > 1, "Rarer errors are farther, so the ratio is above 1: divide the distance after by that before.")
    natural = _mean_chord(math.exp(-4), 10) / _mean_chord(math.exp(-2), 10)
    require(
        abs(float(found) - natural) > 1e-4,
        "The rates are powers of ten, and the library takes natural logarithms: multiply by log(10).",
    )
    close(
        found,
        expected,
        "the ratio in 10 dimensions, from one in a hundred to one in ten thousand,",
        tolerance=1e-4,
        hint="The normal law is an approximation for many dimensions, and this is a ratio, not a difference.",
    )
    for d in (3, 60):
        ratio = _mean_chord(1e-6, d) / _mean_chord(1e-3, d)
        close(answer(d, -3.0, -6.0), ratio, f"the ratio in {d} dimensions, from 1e-3 to 1e-6,", tolerance=1e-4)
    deep = answer(100_000, -500.0, -2000.0)
    require(1.9 < deep < 2.1, "From 1e-500 to 1e-2000 the ratio is about 2. Those rates are 0 in floats: stay in logarithms.")


@exercise("adversarial_spheres.inner_error_rate", "Correct an equation", minutes=15, level="medium")
def inner_error_rate(answer: Callable[[Tensor], float]) -> None:
    alphas = torch.linspace(0.6, 1.33, 100, dtype=torch.float64)
    found = answer(alphas)
    sampled = float((_on_sphere(20_000, 100).square() @ alphas > 1).double().mean())
    require(
        abs(float(found) - (1 - sampled)) > 0.02,
        f"Of 20,000 sampled points {sampled:.3f} are errors; yours says {float(found):.3f}, the share that is read correctly.",
    )
    close(found, sampled, "the error rate, beside 20,000 sampled points,", tolerance=0.02, hint="The variance of z^2 is 2.")

    def law(c: list[float]) -> float:
        return math.erfc(-math.fsum(c) / math.sqrt(2 * math.fsum(v * v for v in c)) / math.sqrt(2)) / 2

    for spread in (0.05, 0.2, 0.5):
        c = (spread * torch.rand(80, dtype=torch.float64) - 0.3 * spread).tolist()
        close(answer(1 + torch.tensor(c, dtype=torch.float64)), law(c), "the normal law for a random spectrum")
    far = torch.full((200,), 0.6, dtype=torch.float64)
    far[0] = 1.2
    found = float(answer(far))
    require(
        found > 0,
        "For a rate of 1e-23 yours is 0: 1 minus something near 1 loses it. Use the lower tail, by scipy.special.ndtr.",
    )
    close(math.log(found), math.log(law((far - 1).tolist())), "the logarithm of a very small rate")


@exercise("adversarial_spheres.distance_to_caps", "The other side of the theorem", minutes=15, level="medium")
def distance_to_caps(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    poles, x = _on_sphere(4, 3), _on_sphere(60, 3)
    x[0], x[1], x[2] = poles[0], nn.functional.normalize(poles[1] + 0.01 * x[1], dim=0), -poles[2]
    height = 1 - 2 * 0.01 / 4  # Archimedes: a cap of three dimensions has the share (1 - cos) / 2
    turn = torch.linspace(0, 2 * math.pi, 20_001, dtype=torch.float64)[:-1, None]
    near = []
    for pole in poles:
        one, other = torch.linalg.svd(pole[None]).Vh[1:]
        ring = height * pole + math.sqrt(1 - height**2) * (turn.cos() * one + turn.sin() * other)
        near.append(torch.where(x @ pole >= height, 0.0, torch.cdist(x, ring).amin(1)))
    expected = torch.stack(near).amin(0)
    found = answer(x, poles, math.log(0.01))
    require(isinstance(found, Tensor) and found.shape == (60,), "Return one distance for each point, a tensor (n,).")
    require(found[0] >= 0, "A point inside a cap has a negative distance. It is an error itself: its distance is 0.")
    require(
        not torch.allclose(found, torch.cdist(x, poles).amin(1).to(found), atol=1e-3),
        "That is the distance to the nearest pole. The cap begins earlier, at its polar angle.",
    )
    close(found[:2], expected[:2], "the distance of a pole and of a point in a cap", tolerance=1e-3)
    close(
        found,
        expected,
        "the distance in three dimensions, four caps of one hundredth together",
        tolerance=1e-3,
        hint="Each cap has a quarter of the measure, and the distance is a chord, 2 sin(angle / 2).",
    )
    many = answer(_on_sphere(4000, 50), _on_sphere(1, 50), math.log(1e-6))
    close(many.mean(), _mean_chord(1e-6, 50), "the mean distance to one cap, which meets the theorem's bound,", tolerance=0.02)
    deep = answer(_on_sphere(5, 500), _on_sphere(10, 500), -4000.0)
    require(
        (deep > 0.5).all(), "At the log measure -4000 the distances are wrong. exp of it is 0 in floats: stay in logarithms."
    )


@exercise("adversarial_spheres.distance_to_cone", "Break the certificate", minutes=20, level="medium")
def distance_to_cone(answer: Callable[[Tensor, float, float], Tensor]) -> None:
    x = _on_sphere(50, 20)
    spoiled = torch.full((20,), 0.8, dtype=torch.float64)
    spoiled[0] = 1.5
    expected, _ = nearest_error_quadratic(x, spoiled)
    found = answer(x, 0.8, 1.5)
    require(isinstance(found, Tensor) and found.shape == (50,), "Return one distance for each point, a tensor (n,).")
    right_side = x[:, 0] > 0
    if torch.allclose(found[right_side], expected[right_side]):
        require(
            torch.allclose(found, expected),
            "Right for points with a positive first coordinate only. There are errors round both ends of the spoiled axis.",
        )
    require(
        not torch.allclose(found, (2 - 2 * x[:, 0].abs()).sqrt().to(found)),
        "That is the distance to the end of the axis. The errors form a cone round it: stop at its edge.",
    )
    close(
        found,
        expected,
        "the distance to the nearest error",
        hint="An error has a z_1^2 + g (1 - z_1^2) > 1; chords, not angles.",
    )
    inside = nn.functional.normalize(torch.tensor([[1.0, *[0.01] * 19], [-1.0, *[0.02] * 19]], dtype=torch.float64))
    close(answer(inside, 0.8, 1.5), [0.0, 0.0], "the distance of points that are errors themselves")
    flat = nn.functional.normalize(torch.tensor([[0.0, *[1.0] * 19]], dtype=torch.float64))
    close(answer(flat, 0.8, 1.5), nearest_error_quadratic(flat, spoiled)[0], "the distance of a point with z_1 = 0")
    thin = spoiled.clone()
    thin[0] = 1.001
    close(
        answer(x, 0.8, 1.001), nearest_error_quadratic(x, thin)[0], "with the spoiled alpha 1.001, the distance", tolerance=1e-4
    )
    close(answer(x[:3], 0.8, 0.95), [math.inf] * 3, "with no alpha above 1, the distance", hint="That network is certified.")


def _linear(d: int, measure: float) -> Score:
    axis, height = _on_sphere(1, d)[0], math.cos(_polar_angle(measure, d))
    return lambda x: x.double() @ axis - height


@exercise("adversarial_spheres.splitting_log10", "Splitting, from scratch", minutes=30, level="hard")
def splitting_log10(answer: Callable[[Score, int, int, float, int], float]) -> None:
    where = "for a cap of measure 10^-6.1 in 30 dimensions"
    found = float(answer(_linear(30, 10**-6.1), 30, 2000, 0.2, 15))
    require(
        abs(found / -6.1 - math.log(10)) > 0.15,
        f"Yours says {found:.2f} {where}: that is the natural logarithm. Return log10.",
    )
    require(
        abs(found - 8 * math.log10(0.2)) > 1e-6,
        f"Yours says {found:.2f} {where}: a whole number of levels. The last level needs the share that is above 0.",
    )
    close(
        found,
        -6.1,
        f"log10 of the rate {where}",
        tolerance=0.035,
        hint="Each level multiplies by the share kept; a move that falls below the level is taken back.",
    )
    axis = _on_sphere(1, 12)[0]
    height = math.cos(_polar_angle(0.5e-3, 12))
    found = answer(lambda x: (x.double() @ axis).abs() - height, 12, 1000, 0.5, 10)
    close(found, -3.0, "log10 of the rate for two opposite caps in 12 dimensions", tolerance=0.08)
    axis = _on_sphere(1, 10)[0]
    often = answer(lambda x: x.double() @ axis, 10, 4000, 0.2, 5)
    close(often, math.log10(0.5), "for a half-space, where nothing has to be split, log10 of the rate", tolerance=0.04)


@exercise("adversarial_spheres.half_space", "Meet the bound", minutes=20, level="hard")
def half_space(answer: Callable[[float, int], nn.Module]) -> None:
    def rate_of(net: nn.Module, d: int, batches: int) -> float:
        with torch.no_grad():
            logits = [net(_on_sphere(20_000, d, torch.float32)) for _ in range(batches)]
        require(
            all(isinstance(z, Tensor) and z.shape == (20_000,) for z in logits),
            "The module takes points (n, d) and gives one logit for each, (n,).",
        )
        return float((torch.cat(logits) > 0).double().mean())

    net = answer(math.log(0.05), 3)
    require(isinstance(net, nn.Module), f"Return an nn.Module; yours is a {type(net).__name__}.")
    net.eval()
    rate = rate_of(net, 3, 5)
    require(rate < 0.9, "Nearly every point is called outer: the logit's sign is turned.")
    height = -NormalDist().inv_cdf(0.05) / math.sqrt(3)
    require(
        abs(rate - (1 - height) / 2) > 0.005,
        f"In three dimensions the error rate is {rate:.3f}, not 0.05: that is the height of the normal law. A cap's is exact.",
    )
    close(rate, 0.05, "the error rate in three dimensions", tolerance=0.004)
    net = answer(math.log(1e-3), 100).eval()
    close(1000 * rate_of(net, 100, 10), 1.0, "the error rate in 100 dimensions, times 1000,", tolerance=0.2)
    x = _on_sphere(100, 100, torch.float32)
    distance, _ = nearest_error(net, x, torch.zeros(100, dtype=torch.int64), steps=100)
    ratio = float(distance.mean()) / _mean_chord(1e-3, 100)
    require(
        not ratio < 0.9,
        f"The rate is right, but the errors are near: their mean distance is {ratio:.2f} of the bound. Put them into one cap.",
    )
    close(ratio, 1.0, "the mean distance to an error, over the bound,", tolerance=0.04)
    deep = answer(-800.0, 500).eval()
    at = _on_sphere(1, 500, torch.float32).requires_grad_()
    (g,) = torch.autograd.grad(deep(at).sum(), at)
    require(
        deep(nn.functional.normalize(g)) > 0 > deep(at),
        "At the log rate -800 there is no error left. exp(-800) is 0 in floats: stay in logarithms.",
    )
