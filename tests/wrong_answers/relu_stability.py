"""Answers that a reader of chapter 3 could give, and that must not pass."""

import copy
import math

import numpy as np
import torch
from torch import nn

from advlab import stability

# ------------------------------------------------------------------------------------------ sum or mean


def all_units(net, x, eps):
    return [low[0].numel() for low, _ in stability.interval_bounds(net, x, eps)[:-1]]


def with_the_logits(net, x, eps):
    return [math.prod(low.shape[2:]) for low, _ in stability.interval_bounds(net, x, eps)]


def all_layers_so_far(net, x, eps):
    bounds = stability.interval_bounds(net, x, eps)
    parts = [[*bounds[: k + 1], bounds[-1]] for k in range(len(bounds) - 1)]
    return [float(stability.rs_loss(part) / stability.rs_loss(part, "mean")) for part in parts]


def the_batch_too(net, x, eps):
    return [len(low) * math.prod(low.shape[2:]) for low, _ in stability.interval_bounds(net, x, eps)[:-1]]


# ------------------------------------------------------------------------------------------ any slope


def crowns_rule(c, low, high):
    alpha = float(high > -low)
    return alpha, min((alpha - c) * low, (alpha - c) * high)


def upper_line(c, low, high):
    alpha = high / (high - low)
    return alpha, min((alpha - c) * low, (alpha - c) * high)


def any_number(c, low, high):
    return c, 0.0


def of_the_relu_alone(c, low, high):
    alpha = min(max(c, 0.0), 1.0)
    return alpha, min(alpha * low, alpha * high)


def greatest_value(c, low, high):
    alpha = min(max(c, 0.0), 1.0)
    return alpha, max((alpha - c) * low, (alpha - c) * high)


# ------------------------------------------------------------------------------------------ the least value


def value(w, b, v, c, x):
    return v @ np.maximum(w * x + b, 0) + c


def ends_only(w, b, v, c, low, high):
    return min(value(w, b, v, c, x) for x in (low, high))


def every_switch(w, b, v, c, low, high):
    kinks = [-q / p for p, q in zip(w, b, strict=True) if p != 0]
    return min(value(w, b, v, c, x) for x in (low, high, *kinks))


def divides_by_zero(w, b, v, c, low, high):
    kinks = [-q / p for p, q in zip(w.tolist(), b.tolist(), strict=True)]
    return min(value(w, b, v, c, x) for x in (low, high, *kinks) if low <= x <= high)


def by_samples(w, b, v, c, low, high):
    return min(value(w, b, v, c, x) for x in np.linspace(low, high, 501))


def intervals(w, b, v, c, low, high):
    ends = np.maximum(np.stack([w * low + b, w * high + b]), 0) * v
    return ends.min(0).sum() + c


# ------------------------------------------------------------------------------------------ stable, yet loose


def three(first, bias, last):
    net = nn.Sequential(nn.Linear(len(first), len(first)), nn.ReLU(), nn.Linear(len(first), len(last))).double()
    with torch.no_grad():
        net[0].weight.copy_(first)
        net[0].bias.fill_(bias)
        net[2].weight.copy_(last)
        net[2].bias.zero_()
    return net


def random_matrix(n=40):
    return torch.eye(n).double() + 0.5 * torch.randn(n, n, generator=torch.Generator().manual_seed(0)).double()


def not_lifted():
    first = random_matrix()
    return three(first, 0.0, torch.linalg.inv(first))


def great_weights():
    return three(1000 * torch.eye(4).double(), 1.0, 1000 * torch.eye(4).double())


def constant():
    first = torch.ones(4, 4).double()
    return three(first, 1.0, torch.tensor([[1.0, -1.0, 1.0, -1.0]]).double())


# ------------------------------------------------------------------------------------------ three verdicts


def right(net, x, y):
    return int(copy.deepcopy(net).double()(x[None].double()).argmax()) == y


def not_proved_is_broken(net, x, y, eps, bound, candidate):
    return "robust" if bound > 0 else "counterexample"


def zero_will_do(net, x, y, eps, bound, candidate):
    return "robust" if bound >= 0 else "unknown" if candidate is None or right(net, candidate, y) else "counterexample"


def trusts_the_attack(net, x, y, eps, bound, candidate):
    return "robust" if bound > 0 else "unknown" if candidate is None else "counterexample"


def any_image(net, x, y, eps, bound, candidate):
    return "robust" if bound > 0 else "unknown" if candidate is None or right(net, candidate, y) else "counterexample"


def any_values(net, x, y, eps, bound, candidate):
    if candidate is not None and (candidate - x).abs().max() > eps:
        return "unknown"
    return any_image(net, x, y, eps, bound, candidate)


def in_float32(net, x, y, eps, bound, candidate):
    if candidate is not None and candidate.min() >= 0 and candidate.max() <= 1 and (candidate - x).abs().max() <= eps:
        return "unknown" if int(net(candidate[None]).argmax()) == y else "counterexample"
    return "robust" if bound > 0 else "unknown"


def in_place(net, x, y, eps, bound, candidate):
    net.double()
    return any_values(net, x, y, eps, bound, candidate)


# ------------------------------------------------------------------------------------------ a hundred per cent stable


def biases(net, value, which=slice(None)):
    made = copy.deepcopy(net)
    layers = [m for m in made.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in layers[which]:
        layer.bias.data.fill_(value)
    return made


def no_weights(net):
    made = copy.deepcopy(net)
    for p in made.parameters():
        p.data.zero_()
    return made


def the_same_network(net):
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            p.data.fill_(-1e3)
    return net


# ------------------------------------------------------------------------------------------ proved and wrong


def float_net(*layers, dtype=torch.float32):
    parts = []
    for weight, bias in layers:
        layer = nn.Linear(len(weight[0]), len(weight))
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1]).to(dtype)


def through(big, back, dtype=torch.float32):
    return float_net(([[1.0]], [1.0]), ([[1.0]], [big]), ([[1.0], [0.0]], [-back, 0.5]), dtype=dtype)


WRONG = {
    "relu_stability.sum_or_mean": [
        (all_units, "sums over channels"),
        (with_the_logits, "do not count"),
        (all_layers_so_far, "one layer at a time"),
        (the_batch_too, "batch's mean"),
    ],
    "relu_stability.slope": [
        (crowns_rule, "the ReLU alone"),
        (upper_line, "the ReLU alone"),
        (any_number, "from 0 to 1"),
        (of_the_relu_alone, "least value of the linear function"),
        (greatest_value, "no lower bound"),
    ],
    "relu_stability.least": [
        (ends_only, "switch inside"),
        (every_switch, "is stable"),
        (divides_by_zero, "ZeroDivisionError"),
        (by_samples, "samples can miss"),
        (intervals, "cannot be added"),
    ],
    "relu_stability.loose": [
        (not_lifted, "A bias can lift it"),
        (great_weights, "parts of a sum cancel"),
        (constant, "does not depend on the input"),
        (lambda: nn.Linear(2, 2), "Return an nn.Sequential"),
    ],
    "relu_stability.verdict": [
        (not_proved_is_broken, "nothing was proved"),
        (zero_will_do, "two classes may be equal"),
        (trusts_the_attack, "is classified right"),
        (any_image, "not in the ball"),
        (any_values, "leaves [0, 1]"),
        (in_float32, "replay it there"),
        (in_place, "works in place"),
        (lambda *a: "safe", "none of the three"),
    ],
    "relu_stability.dead": [
        (lambda net: biases(net, 0.0), "may be on or off"),
        (lambda net: biases(net, -1.0), "weights times inputs"),
        (lambda net: biases(net, -1e3, slice(-1, None)), "may be on or off"),
        (no_weights, "A weight differs"),
        (the_same_network, "deepcopy"),
    ],
    "relu_stability.float": [
        (lambda: through(2.0**20, 2.0**20), "2^24"),
        (lambda: through(2.0**25, 2.0**25 + 4), "taken away"),
        (lambda: through(2.0**25, 2.0**25, torch.float64), "float32"),
        (lambda: float_net(([[1.0], [0.0]], [1.0, 0.5])), "2^24"),
        (lambda: float_net(([[1.0, 1.0]], [0.0])), "one input"),
    ],
}
