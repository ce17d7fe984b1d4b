"""Answers that a reader of chapter 2 could give, and that must not pass."""

import math

import torch
from torch.nn.functional import pad

from advlab import squeezing


def windows(x, padding=(1, 0, 1, 0), mode="replicate"):
    return pad(x, padding, mode=mode).unfold(2, 2, 1).unfold(3, 2, 1).flatten(4)


def share(one, other):
    return (one != other).double().mean()


def zeros_at_the_border(x):
    return share(windows(x, mode="constant").median(4).values, squeezing.median_filter(x, 2))


def pixel_at_the_upper_left(x):
    return share(windows(x, (0, 1, 0, 1)).median(4).values, squeezing.median_filter(x, 2))


def counted(x):
    return (windows(x).median(4).values != squeezing.median_filter(x, 2)).sum()


def against_the_image(x):
    return share(windows(x).median(4).values, x)


def logits(k, lead, rivals):
    z = torch.full((k,), -60.0)
    z[0] = lead
    for j in rivals:
        z[j] = 0.0
    return z


def one_answer_twice(m, k):
    return logits(k, m, range(1, k)), logits(k, m, range(1, k))


def one_rival_each(m, k):
    return logits(k, m, [1]), logits(k, m, [k - 1])


def two_classes(m, k):
    return logits(k, m, []), logits(k, m, []).flip(0)


def half_the_margin(m, k):
    return logits(k, m / 2, range(1, k)), logits(k, m, [])


def infinite(m, k):
    return logits(k, m, range(1, k)), logits(k, math.inf, [])


def rates(scores, few, rate, draws, level=None, others_only=True, redraw=True):
    found, order = [], torch.randperm(len(scores))
    for _ in range(draws):
        order = torch.randperm(len(scores)) if redraw else order
        drawn = scores[order[:few]]
        t = level(drawn) if level else drawn.sort().values[math.ceil(few * (1 - rate)) - 1]
        found.append((scores[order[few:] if others_only else order] > t).double().mean())
    return torch.stack(found)


def interpolated(scores, few, rate, draws):
    return rates(scores, few, rate, draws, level=lambda s: s.quantile(1 - rate))


def all_counted(scores, few, rate, draws):
    return rates(scores, few, rate, draws, others_only=False)


def drawn_once(scores, few, rate, draws):
    return rates(scores, few, rate, draws, redraw=False)


def lower_quantile(scores, few, rate, draws):
    return rates(scores, few, rate, draws, level=lambda s: s.sort().values[math.ceil(few * rate) - 1])


def mean_only(scores, few, rate, draws):
    return rates(scores, few, rate, draws).mean()


def level_of(scores, rate):
    return scores.sort().values[math.ceil(len(scores) * (1 - rate)) - 1]


def first_threshold(clean, attacked, rate):
    t = level_of(clean[:, 0], rate)
    return torch.stack([(attacked[:, : k + 1].amax(1) > t).double().mean() for k in range(clean.shape[1])])


def each_alone(clean, attacked, rate):
    return torch.stack([(a > level_of(c, rate)).double().mean() for c, a in zip(clean.T, attacked.T, strict=True)])


def mean_score(clean, attacked, rate):
    found = []
    for k in range(1, clean.shape[1] + 1):
        found.append((attacked[:, :k].mean(1) > level_of(clean[:, :k].mean(1), rate)).double().mean())
    return torch.stack(found)


def threshold_on_attacks(clean, attacked, rate):
    found = []
    for k in range(1, clean.shape[1] + 1):
        score = attacked[:, :k].amax(1)
        found.append((score > level_of(score, rate)).double().mean())
    return torch.stack(found)


def all_squeezers_only(clean, attacked, rate):
    return (attacked.amax(1) > level_of(clean.amax(1), rate)).double().mean()


def plain_rounding(x, bits):
    return (x * (2**bits - 1)).round() / (2**bits - 1)


def detached(x, bits):
    return plain_rounding(x.detach(), bits)


def too_many_grays(x, bits):
    return x + ((x * 2**bits).round() / 2**bits - x).detach()


def identity(x, bits):
    return x * 1.0


def slope_of_the_levels(x, bits):
    levels = 2**bits - 1
    return x * levels + (plain_rounding(x, bits) - x * levels).detach()


def gradient(loss, z):
    at = z.detach().requires_grad_()
    return torch.autograd.grad(loss(at).sum(), at)[0]


def clipped_after(loss, x, eps, rate, steps):
    z = x
    for _ in range(steps):
        z = z - rate * gradient(loss, z)
    return z.clamp(x - eps, x + eps).clamp(0, 1)


def ball_that_moves(loss, x, eps, rate, steps):
    z = x
    for _ in range(steps):
        z = (z - rate * gradient(loss, z)).clamp(z - eps, z + eps).clamp(0, 1)
    return z


def no_box(loss, x, eps, rate, steps):
    z = x
    for _ in range(steps):
        z = (z - rate * gradient(loss, z)).clamp(x - eps, x + eps)
    return z


def uphill(loss, x, eps, rate, steps):
    z = x
    for _ in range(steps):
        z = (z + rate * gradient(loss, z)).clamp(x - eps, x + eps).clamp(0, 1)
    return z


def mean_over_the_batch(loss, x, eps, rate, steps):
    z = x
    for _ in range(steps):
        z = (z - rate * gradient(loss, z) / len(x)).clamp(x - eps, x + eps).clamp(0, 1)
    return z


WRONG = {
    "feature_squeezing.share_that_differs": [
        (zeros_at_the_border, "pad no zeros"),
        (pixel_at_the_upper_left, "lower right"),
        (counted, "Return a share"),
        (against_the_image, "Both filters"),
    ],
    "feature_squeezing.loudest": [
        (one_answer_twice, "0.000 of the bound"),
        (one_rival_each, "all rivals at the margin"),
        (two_classes, "disagree about the class"),
        (half_the_margin, "leads by 4 only"),
        (infinite, "finite"),
    ],
    "feature_squeezing.false_positive_rates": [
        (interpolated, "no interpolation"),
        (all_counted, "Count the others alone"),
        (drawn_once, "its own images"),
        (lower_quantile, "88th smallest"),
        (mean_only, "one rate for each draw"),
    ],
    "feature_squeezing.caught_by_more": [
        (first_threshold, "keeps the first threshold"),
        (each_alone, "greatest of the first k"),
        (mean_score, "joint score"),
        (threshold_on_attacks, "of the clean"),
        (all_squeezers_only, "for each number of squeezers"),
    ],
    "feature_squeezing.round_through": [
        (plain_rounding, "flat almost everywhere"),
        (detached, "No gradient comes through"),
        (too_many_grays, "1 bits are 2 grays"),
        (identity, "not rounded"),
        (slope_of_the_levels, "slope 1"),
    ],
    "feature_squeezing.descend_inside": [
        (clipped_after, "clipped after the last step"),
        (ball_that_moves, "where it began"),
        (no_box, "left [0, 1]"),
        (uphill, "went up"),
        (mean_over_the_batch, "image's own loss"),
    ],
}
