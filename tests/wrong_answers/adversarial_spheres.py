"""Answers that a reader of chapter 1 could give, and that must not pass."""

import math
from statistics import NormalDist

import torch
from scipy.special import ndtr

from advlab import spheres


def angle_to(x, poles):
    return (x @ poles.T).amax(1).clamp(-1, 1).acos()


def all_the_measure_to_each(x, poles, log_measure):
    edge = spheres.cap_angle(log_measure, x.shape[1])
    return 2 * ((angle_to(x, poles) - edge).clamp_min(0) / 2).sin()


def to_the_pole(x, poles, log_measure):
    return 2 * (angle_to(x, poles) / 2).sin()


def along_the_sphere(x, poles, log_measure):
    edge = spheres.cap_angle(log_measure - math.log(len(poles)), x.shape[1])
    return (angle_to(x, poles) - edge).clamp_min(0)


def below_zero(x, poles, log_measure):
    edge = spheres.cap_angle(log_measure - math.log(len(poles)), x.shape[1])
    return 2 * ((angle_to(x, poles) - edge) / 2).sin()


def with_floats(x, poles, log_measure):
    share = max(math.exp(log_measure) / len(poles), 1e-300)
    edge = spheres.cap_angle(math.log(share), x.shape[1]) if log_measure > -700 else math.pi
    return 2 * ((angle_to(x, poles) - edge).clamp_min(0) / 2).sin()


def best(log10_rate, d):
    return spheres.optimal_distance(log10_rate * math.log(10), d)


def natural_logarithms(d, before, after):
    return spheres.optimal_distance(after, d) / spheres.optimal_distance(before, d)


def upside_down(d, before, after):
    return best(before, d) / best(after, d)


def difference(d, before, after):
    return 1 + best(after, d) - best(before, d)


def normal_law(d, before, after):
    return spheres.gaussian_distance(after * math.log(10), d) / spheres.gaussian_distance(before * math.log(10), d)


def through_floats(d, before, after):
    rates = [max(10.0**before, 1e-300), max(10.0**after, 1e-300)]
    return spheres.optimal_distance(math.log(rates[1]), d) / spheres.optimal_distance(math.log(rates[0]), d)


def as_printed(alphas):
    c = alphas - 1
    return 1 - ndtr(float(c.sum() / (2 * c.square().sum()).sqrt()))


def without_the_square(alphas):
    c = alphas - 1
    return ndtr(float(c.sum() / (2 * c.abs().sum()).sqrt()))


def without_the_two(alphas):
    c = alphas - 1
    return ndtr(float(c.sum() / c.square().sum().sqrt()))


def cancels(alphas):
    c = alphas - 1
    return 1 - ndtr(float(-c.sum() / (2 * c.square().sum()).sqrt()))


def chord_between(first, edge):
    return (2 - 2 * (first * edge + (1 - first**2).sqrt() * math.sqrt(1 - edge**2))).clamp_min(0).sqrt()


def one_end_only(x, good, spoiled):
    edge = math.sqrt((1 - good) / (spoiled - good)) if spoiled > 1 else 0
    return chord_between(x[:, 0], edge)


def to_the_axis(x, good, spoiled):
    return (2 - 2 * x[:, 0].abs()).sqrt()


def errors_too(x, good, spoiled):
    if spoiled <= 1:
        return torch.full_like(x[:, 0], math.inf)
    return chord_between(x[:, 0].abs(), math.sqrt((1 - good) / (spoiled - good)))


def never_certified(x, good, spoiled):
    edge = math.sqrt(min((1 - good) / (spoiled - good), 1))
    return torch.where(x[:, 0].abs() >= edge, 0, chord_between(x[:, 0].abs(), edge))


def angles(x, good, spoiled):
    if spoiled <= 1:
        return torch.full_like(x[:, 0], math.inf)
    edge = math.acos(math.sqrt((1 - good) / (spoiled - good)))
    return (x[:, 0].abs().acos() - edge).clamp_min(0)


def split(score, d, n, keep, moves, last=True, accept_all=False):
    x = spheres.sample_sphere(n, d)
    total = 0.0
    for _ in range(60):
        ranked = score(x).sort(descending=True)
        level = ranked.values[int(keep * n) - 1]
        if level > 0:
            return total + (math.log10((ranked.values > 0).double().mean()) if last else 0)
        total += math.log10(keep)
        x = x[ranked.indices[: int(keep * n)]][torch.randint(int(keep * n), (n,))]
        for _ in range(moves):
            new = torch.nn.functional.normalize(x + 0.4 * torch.randn_like(x) / d**0.5)
            take = torch.full((n,), True) if accept_all else score(new) > level
            x = torch.where(take[:, None], new, x)
    return total


def whole_levels(score, d, n, keep, moves):
    return split(score, d, n, keep, moves, last=False)


def natural(score, d, n, keep, moves):
    return split(score, d, n, keep, moves) * math.log(10)


def copies_only(score, d, n, keep, moves):
    return split(score, d, n, keep, 0)


def every_move(score, d, n, keep, moves):
    return split(score, d, n, keep, moves, accept_all=True)


def by_sampling(score, d, n, keep, moves):
    return math.log10((score(spheres.sample_sphere(50 * n, d)) > 0).double().mean())


class Of(torch.nn.Module):
    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def forward(self, x):
        return self.rule(x)


def height(log_rate, d):
    return math.cos(spheres.cap_angle(log_rate, d))


def sign_turned(log_rate, d):
    return Of(lambda x: height(log_rate, d) - x[:, 0])


def two_caps(log_rate, d):
    return Of(lambda x: x[:, 0].abs() - height(log_rate - math.log(2), d))


def normal_height(log_rate, d):
    return Of(lambda x: x[:, 0] + NormalDist().inv_cdf(max(math.exp(log_rate), 1e-300)) / math.sqrt(d))


def through_exp(log_rate, d):
    return Of(lambda x: x[:, 0] - (height(log_rate, d) if math.exp(log_rate) else 1))


WRONG = {
    "adversarial_spheres.distance_to_caps": [
        (all_the_measure_to_each, "a quarter"),
        (to_the_pole, "nearest pole"),
        (along_the_sphere, "chord"),
        (below_zero, "its distance is 0"),
        (with_floats, "stay in logarithms"),
    ],
    "adversarial_spheres.growth": [
        (natural_logarithms, "powers of ten"),
        (upside_down, "distance after"),
        (difference, "a ratio"),
        (normal_law, "normal law"),
        (through_floats, "stay in logarithms"),
    ],
    "adversarial_spheres.inner_error_rate": [
        (as_printed, "read correctly"),
        (without_the_square, "sampled points"),
        (without_the_two, "variance of z^2"),
        (cancels, "lower tail"),
    ],
    "adversarial_spheres.distance_to_cone": [
        (one_end_only, "both ends"),
        (to_the_axis, "stop at its edge"),
        (errors_too, "errors themselves"),
        (never_certified, "certified"),
        (angles, "not angles"),
    ],
    "adversarial_spheres.splitting_log10": [
        (whole_levels, "last level"),
        (natural, "natural logarithm"),
        (copies_only, "Each level multiplies"),
        (every_move, "taken back"),
        (by_sampling, "math domain error"),
    ],
    "adversarial_spheres.half_space": [
        (sign_turned, "sign is turned"),
        (two_caps, "one cap"),
        (normal_height, "the normal law"),
        (through_exp, "stay in logarithms"),
    ],
}
