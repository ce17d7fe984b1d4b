"""Answers that a reader of chapter 5 could give, and that must not pass."""

import math

import torch
from scipy.stats import binomtest, chi2_contingency


def counts_false_alarms_as_safe(clean, attacked, y):
    return ((clean == y) | (clean == -1)) & ((attacked == y) | (attacked == -1))


def forgets_the_alarm(clean, attacked, y):
    return (clean == y) & (attacked == y)


def only_after(clean, attacked, y):
    return (attacked == y) | (attacked == -1)


def unchanged(clean, attacked, y):
    return clean == attacked


def least_mean(table):
    return float(table.double().mean(1).min())


def mean_of_all(table):
    return float(table.double().mean())


def any_attack_fails(table):
    return float(table.any(0).double().mean())


def moves_the_squeezed(x, eps, bits):
    levels = 2**bits - 1
    squeezed = (x * levels).round() / levels
    return (squeezed - eps).clamp(0, 1), (squeezed + eps).clamp(0, 1)


def does_not_squeeze(x, eps, bits):
    return (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)


def a_level_more(x, eps, bits):
    levels = 2**bits - 1
    ends = [((end.clamp(0, 1)) * levels).round() for end in (x - eps, x + eps)]
    return ((ends[0] - 1) / levels).clamp(0, 1), ((ends[1] + 1) / levels).clamp(0, 1)


def one_rival(threshold, classes):
    return math.log((1 + threshold) / (1 - threshold))


def no_threshold(threshold, classes):
    return 0.0


def more_than_one_half(threshold, classes):
    return (
        math.log((classes - 1) * (1 + threshold) / (1 - threshold))
        if classes > 2
        else math.log((1 + threshold) / (1 - threshold))
    )


def twice_the_distance(threshold, classes):
    return math.log((1 + (classes - 1) * 2 * threshold) / (1 - 2 * threshold)) if threshold < 0.5 else 100.0


def one_sided(first, second):
    more, less = int((first & ~second).sum()), int((second & ~first).sum())
    return binomtest(max(more, less), more + less, alternative="greater").pvalue if more + less else 1.0


def not_paired(first, second):
    counts = [[int(v.sum()), int((~v).sum())] for v in (first, second)]
    return float(chi2_contingency(counts).pvalue)


def all_images(first, second):
    return float(binomtest(int((first & ~second).sum()), len(first)).pvalue)


WRONG = {
    "all_against_all.stands": [
        (counts_false_alarms_as_safe, "sent away for nothing"),
        (forgets_the_alarm, "what the detector is for"),
        (only_after, "is an error"),
        (unchanged, "wrong from the start"),
        (lambda clean, attacked, y: ((clean == y) & (attacked == y)).float(), "bool tensor"),
    ],
    "all_against_all.worst_case": [
        (least_mean, "break different images"),
        (mean_of_all, "break different images"),
        (any_attack_fails, "should be 0.5"),
    ],
    "all_against_all.box": [
        (moves_the_squeezed, "Squeeze the ends of the ball"),
        (does_not_squeeze, "outside your box"),
        (a_level_more, "larger than it need be"),
        (lambda x, eps, bits: torch.stack(does_not_squeeze(x, eps, bits)), "a pair"),
    ],
    "all_against_all.lead": [
        (one_rival, "all other classes"),
        (no_threshold, "could close that"),
        (more_than_one_half, "not the least"),
        (twice_the_distance, "not the least"),
    ],
    "all_against_all.paired": [
        (one_sided, "count both sides"),
        (not_paired, "Only images that differ"),
        (all_images, "Only images that differ"),
    ],
}
