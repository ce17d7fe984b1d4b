"""Gradient attacks on pixels in [0, 1], one contract for all.

Every attack is a function ``attack(model, x, y, *, eps, ...) -> x_adv`` with the same shape, dtype and device as ``x``
(n, ...). ``x_adv`` lies in [0, 1] and in the ball of radius ``eps`` around ``x`` (to rounding, 1e-6). ``eps=0`` returns
``x``. ``y`` (n,) are the true labels; ``targets`` (n,), where taken, are labels to reach instead of any wrong one. No
argument is changed, the model keeps its mode, gradients are taken with respect to the input only. The model maps (n, ...)
to logits (n, k) and must be in eval mode. Bad input raises TypeError or ValueError (:mod:`advlab.checks`).

No guarantee: an attack finds errors, it never shows that there are none.
"""

from .black_box import hop_skip_jump, square
from .carlini_wagner import cw_l0, cw_l2, cw_linf, minimal_l2
from .ensemble import autoattack
from .gradient import bim, fgsm, mi_fgsm, pgd
from .losses import LOSSES, Loss, ce_loss, dlr_loss, margin_loss
from .minimal import ddn, deepfool, jsma
from .surrogates import bpda, straight_through

__all__ = [
    "LOSSES",
    "Loss",
    "autoattack",
    "bim",
    "bpda",
    "ce_loss",
    "cw_l0",
    "cw_l2",
    "cw_linf",
    "ddn",
    "deepfool",
    "dlr_loss",
    "fgsm",
    "hop_skip_jump",
    "jsma",
    "margin_loss",
    "mi_fgsm",
    "minimal_l2",
    "pgd",
    "square",
    "straight_through",
]
