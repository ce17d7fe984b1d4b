"""Answers that a reader of chapter 0 could give, and that must not pass."""

import math

import torch
from torch.nn.functional import cross_entropy


def gradient(net, x, y):
    at = x.clone().requires_grad_()
    return torch.autograd.grad(cross_entropy(net(at), y, reduction="sum"), at)[0]


def sign_step(net, x, y, eps):
    return (x + eps * gradient(net, x, y).sign()).clamp(0, 1)


def one_norm_for_all(net, x, y, eps):
    g = gradient(net, x, y)
    return (x + eps * g / g.norm().clamp_min(1e-30)).clamp(0, 1)


def downhill(net, x, y, eps):
    g = gradient(net, x, y)
    return (x - eps * g / g.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None, None]).clamp(0, 1)


def not_clipped(net, x, y, eps):
    g = gradient(net, x, y)
    return x + eps * g / g.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None, None]


def divides_by_zero(net, x, y, eps):
    g = gradient(net, x, y)
    return (x + eps * g / g.flatten(1).norm(dim=1)[:, None, None, None]).clamp(0, 1)


def wrong_at(net, x, y, grid):
    return torch.stack([net((x + e * gradient(net, x, y).sign()).clamp(0, 1)).argmax(1) != y for e in grid])


def with_those_misread(net, x, y, grid):
    broken = wrong_at(net, x, y, [0, *grid])
    return (broken[:-1] & ~broken[1:]).any(0)


def the_other_way(net, x, y, grid):
    broken = wrong_at(net, x, y, grid)
    return (~broken[:-1] & broken[1:]).any(0) & (net(x).argmax(1) == y)


def by_the_last(net, x, y, grid):
    broken = wrong_at(net, x, y, grid)
    return broken.any(0) & ~broken[-1] & (net(x).argmax(1) == y)


def labels_ignored(net, x, y, grid):
    broken = wrong_at(net, x, torch.zeros_like(y), grid)
    return (broken[:-1] & ~broken[1:]).any(0) & (net(x).argmax(1) == 0)


def true_class_is_a_rival(logits, y):
    return logits.amax(1) - logits.gather(1, y[:, None])[:, 0]


def turned_round(logits, y):
    rivals = logits.scatter(1, y[:, None], -math.inf)
    return logits.gather(1, y[:, None])[:, 0] - rivals.amax(1)


def zeroed_rival(logits, y):
    return logits.scatter(1, y[:, None], 0.0).amax(1) - logits.gather(1, y[:, None])[:, 0]


def of_probabilities(logits, y):
    return turned_round(-logits.softmax(1), y)


def one_number(logits, y):
    return -turned_round(logits, y).mean()


class Passes(torch.nn.Module):
    def __init__(self, net, passes, combine):
        super().__init__()
        self.net, self.passes, self.combine = net, passes, combine

    def forward(self, x):
        return self.combine(self.net, x, self.passes)


def summed(net, passes):
    return Passes(net, passes, lambda net, x, k: sum(net(x) for _ in range(k))).eval()


def of_softmax(net, passes):
    return Passes(net, passes, lambda net, x, k: sum(net(x).softmax(1) for _ in range(k)) / k).eval()


def one_draw(net, passes):
    return Passes(net, passes, lambda net, x, k: torch.stack([net(x)] * k).mean(0)).eval()


def in_training_mode(net, passes):
    return Passes(net, passes, lambda net, x, k: sum(net(x) for _ in range(k)) / k).train()


def without_gradient(net, passes):
    return Passes(net, passes, lambda net, x, k: sum(net(x).detach() for _ in range(k)) / k).eval()


def signs_in_every_ball(w, eps, p):
    delta = w.sign()
    return eps * delta / torch.linalg.vector_norm(delta, p).clamp_min(1e-30)


def parallel_in_every_ball(w, eps, p):
    return eps * w / torch.linalg.vector_norm(w, p).clamp_min(1e-30)


def own_norm_for_its_dual(w, eps, p):
    delta = w.sign() * w.abs() ** ((p if p < math.inf else 1) - 1)
    return eps * delta / torch.linalg.vector_norm(delta, p).clamp_min(1e-30)


def always_signs(w, eps, p):
    return eps * w.sign()


WRONG = {
    "start_here.l2_step": [
        (sign_step, "the other ball"),
        (one_norm_for_all, "its own norm"),
        (downhill, "against it"),
        (not_clipped, "clip"),
        (divides_by_zero, "not finite"),
    ],
    "start_here.recovers": [
        (with_those_misread, "Nobody broke it"),
        (the_other_way, "broken first, right again later"),
        (by_the_last, "compare all budgets"),
        (labels_ignored, "depend on y"),
        (wrong_at, "one truth value for each image"),
    ],
    "start_here.margin_loss": [
        (true_class_is_a_rival, "Leave it out"),
        (turned_round, "The sign is turned"),
        (zeroed_rival, "which may be negative"),
        (of_probabilities, "rival's logit"),
        (one_number, "for each image"),
    ],
    "start_here.mean_of_passes": [
        (summed, "a sum grows"),
        (of_softmax, "probabilities are no logits"),
        (one_draw, "one draw"),
        (in_training_mode, "training mode"),
        (without_gradient, "no detach"),
    ],
    "start_here.worst_change": [
        (signs_in_every_ball, "parallel to w"),
        (parallel_in_every_ball, "sign(w)"),
        (own_norm_for_its_dual, "is possible"),
        (always_signs, "leaves the ball"),
    ],
}
