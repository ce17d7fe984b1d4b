"""Answers that a reader of chapter 4 could give, and that must not pass."""

import copy
import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from advlab import masking

# ------------------------------------------------------------------------------------------ text and code


def binomial(shape, drop):
    return math.sqrt(shape[1] * shape[2] * drop * (1 - drop))


def hypergeometric_variance(shape, drop):
    each, total = shape[1] * shape[2], math.prod(shape)
    return each * drop * (1 - drop) * (total - each) / (total - 1)


def as_in_the_text(shape, drop):
    return 0.0


def with_channels_for_values(shape, drop):
    channels, total = shape[0], math.prod(shape)
    return math.sqrt(channels * drop * (1 - drop) * (total - channels) / (total - 1))


# ------------------------------------------------------------------------------------------ shifts


def independent_cells(drop, period, dy, dx):
    return 2 * drop if dy % period or dx % period else 0.0


def not_relative(drop, period, dy, dx):
    whole = dy % period == 0 and dx % period == 0
    return 0.0 if whole else 2 * drop * (1 - drop) * period**2 / (period**2 - 1)


def one_direction_is_enough(drop, period, dy, dx):
    whole = dy % period == 0 or dx % period == 0
    return 0.0 if whole else 2 * drop * period**2 / (period**2 - 1)


def only_no_shift(drop, period, dy, dx):
    return 2 * drop * period**2 / (period**2 - 1) if dy or dx else 0.0


# ------------------------------------------------------------------------------------------ matrices


def columns(layer, shape):
    basis = torch.eye(math.prod(shape)).double().view(-1, *shape)
    return layer(basis).flatten(1), layer(torch.zeros(1, *shape).double()).flatten()


def transposed(layer, shape):
    rows, bias = columns(layer, shape)
    return rows - bias, bias


def bias_in_each_column(layer, shape):
    rows, bias = columns(layer, shape)
    return rows.T, bias


def no_bias(layer, shape):
    rows, bias = columns(layer, shape)
    return (rows - bias).T, torch.zeros_like(bias)


# ------------------------------------------------------------------------------------------ tiles


def both_periods(periods, strides):
    return math.lcm(*periods)


def product(periods, strides):
    return math.prod(periods) * math.prod(strides)


def greatest(periods, strides):
    reach = [q * math.prod(strides[: k + 1]) for k, q in enumerate(periods)]
    return max(reach)


def own_stride_only(periods, strides):
    return math.lcm(*(q * s for q, s in zip(periods, strides, strict=True)))


def strides_before(periods, strides):
    return math.lcm(*(q * math.prod(strides[:k]) for k, q in enumerate(periods)))


# ------------------------------------------------------------------------------------------ dropout


def inserted(make):
    return lambda net, layers, shape, drop: masking.insert_layers(
        net, lambda name, size: make(size, drop), layers=layers, shape=shape
    )


class Scaled(nn.Module):
    def __init__(self, mask, factor):
        super().__init__()
        self.mask, self.factor = mask, factor

    def forward(self, maps):
        return self.factor * self.mask(maps)


class Fresh(nn.Module):
    def __init__(self, shape, drop):
        super().__init__()
        self.drop = drop

    def forward(self, maps):
        return nn.functional.dropout(maps, self.drop, training=True)


def into_the_original(net, layers, shape, drop):
    for name in layers:
        net[int(name)] = inserted(lambda size, p: Scaled(masking.RandomMask(size, p), 1 / (1 - p)))(net, ["0"], shape, drop)[0]
    return net


def first_only(net, layers, shape, drop):
    return inserted(lambda size, p: Scaled(masking.RandomMask(size, p), 1 / (1 - p)))(net, layers[:1], shape, drop)


def last_only(net, layers, shape, drop):
    return inserted(lambda size, p: Scaled(masking.RandomMask(size, p), 1 / (1 - p)))(net, layers[-1:], shape, drop)


# ------------------------------------------------------------------------------------------ only those that fool


def reads(net, x, y):
    return net(x).argmax(1) == y


def all_images(source, target, x, y, x_adv):
    right = reads(target, x_adv, y).double()
    return right.mean(), right[~reads(source, x_adv, y)].mean()


def misread_before(source, target, x, y, x_adv):
    right = reads(target, x_adv, y).double()
    return right[reads(source, x, y)].mean(), right[~reads(source, x_adv, y)].mean()


def that_do_not_fool(source, target, x, y, x_adv):
    right, clean = reads(target, x_adv, y).double(), reads(source, x, y)
    return right[clean].mean(), right[clean & reads(source, x_adv, y)].mean()


def fooling_rates(source, target, x, y, x_adv):
    right, clean = reads(target, x_adv, y).double(), reads(source, x, y)
    return 1 - right[clean].mean(), 1 - right[clean & ~reads(source, x_adv, y)].mean()


def target_too(source, target, x, y, x_adv):
    right, clean = reads(target, x_adv, y).double(), reads(source, x, y) & reads(target, x, y)
    return right[clean].mean(), right[clean & ~reads(source, x_adv, y)].mean()


def nothing_is_zero(source, target, x, y, x_adv):
    right, clean = reads(target, x_adv, y), reads(source, x, y)
    fools = clean & ~reads(source, x_adv, y)
    return int((right & clean).sum()) / int(clean.sum()), int((right & fools).sum()) / max(int(fools.sum()), 1)


# ------------------------------------------------------------------------------------------ surrogates


def climbing(loss, project=True, clip=True):
    """PGD that climbs ``loss(nets, images, y)``, or the direction that it returns."""

    def attack(nets, x, y, eps):
        images = x.clone()
        for _ in range(10):
            images.requires_grad_()
            up = loss(nets, images, y)
            (g,) = torch.autograd.grad(up, images) if up.ndim == 0 else (up,)
            images = images.detach() + eps / 4 * g.sign()
            images = torch.min(torch.max(images, x - eps), x + eps) if project else images
            images = images.clamp(0, 1) if clip else images
        return images

    return attack


def mean_logits(nets, x, y):
    return cross_entropy(sum(net(x) for net in nets) / len(nets), y, reduction="sum")


def mean_loss(nets, x, y):
    return sum(cross_entropy(net(x), y, reduction="sum") for net in nets)


def mean_probability(nets, x, y):
    return nn.functional.nll_loss(sum(net(x).softmax(1) for net in nets).log(), y, reduction="sum")


def votes(nets, x, y):
    return sum(torch.autograd.grad(cross_entropy(net(x), y, reduction="sum"), x)[0].sign() for net in nets)


def downhill(nets, x, y):
    return -mean_logits(nets, x, y)


WRONG = {
    "random_mask.count": [
        (binomial, "without replacement"),
        (hypergeometric_variance, "square root"),
        (as_in_the_text, "Count the zeros"),
        (with_channels_for_values, "it should be"),
    ],
    "random_mask.shift": [
        (independent_cells, "independent"),
        (not_relative, "what the mask keeps"),
        (one_direction_is_enough, "*both* directions"),
        (only_no_shift, "whole tiles"),
    ],
    "random_mask.matrix": [
        (transposed, "rows are outputs"),
        (bias_in_each_column, "each column"),
        (no_bias, "an input that is zero"),
    ],
    "random_mask.tiles": [
        (both_periods, "even moves"),
        (product, "multiple of both"),
        (greatest, "multiple of both"),
        (own_stride_only, "Strides multiply"),
        (strides_before, "even moves"),
    ],
    "random_mask.dropout": [
        (inserted(lambda size, drop: nn.Dropout(drop)), "nn.Dropout does nothing"),
        (inserted(Fresh), "drawn once"),
        (inserted(masking.RandomMask), "share that is kept"),
        (inserted(lambda size, drop: Scaled(masking.RandomMask(size, drop), 2)), "drop = 0.75"),
        (inserted(lambda size, drop: Scaled(masking.RandomMask(size, drop, kind="shared"), 1 / (1 - drop))), "the same mask"),
        (inserted(lambda size, drop: Scaled(masking.RandomMask(size, drop, kind="channel"), 1 / (1 - drop))), "should have"),
        (into_the_original, "has changed"),
        (first_only, "the second has no mask"),
        (last_only, "no mask behind the first"),
        (lambda net, layers, shape, drop: copy.deepcopy(net), "Nothing is zero"),
    ],
    "random_mask.fooled": [
        (all_images, "misreads before any attack"),
        (misread_before, "read right before the attack"),
        (that_do_not_fool, "read right before the attack"),
        (fooling_rates, "accuracy is the rest"),
        (target_too, "need not read them right"),
        (nothing_is_zero, "nothing to count"),
    ],
    "random_mask.surrogate": [
        (climbing(mean_loss), "mean of the *logits*"),
        (climbing(mean_probability), "mean of the *logits*"),
        (climbing(votes), "mean of the *logits*"),
        (climbing(lambda nets, x, y: mean_logits(nets[:1], x, y)), "mean of the *logits*"),
        (climbing(mean_logits, project=False), "project it back"),
        (climbing(mean_logits, clip=False), "clip"),
        (climbing(downhill), "it should be"),
    ],
}
