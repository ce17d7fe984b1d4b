"""Gradient attacks on pixels in [0, 1], one contract for all: ``attack(model, x, y, *, eps, ...) -> x_adv``.

No argument is changed, and gradients are taken with respect to the input only. No guarantee: an attack finds errors, it never
shows that there are none.
"""

from .auto_pgd import apgd
from .black_box import hop_skip_jump, square
from .carlini_wagner import cw_l0, cw_l2, cw_linf, minimal_l2
from .ensemble import autoattack
from .fast_minimum import fmn_linf, sigma_zero
from .gradient import bim, fgsm, mi_fgsm, pgd
from .losses import LOSSES, Loss, ce_loss, dlr_loss, margin_loss
from .minimal import ddn, deepfool, jsma
from .surrogates import bpda, expectation, straight_through

__all__ = [
    "LOSSES",
    "Loss",
    "apgd",
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
    "expectation",
    "fgsm",
    "fmn_linf",
    "hop_skip_jump",
    "jsma",
    "margin_loss",
    "mi_fgsm",
    "minimal_l2",
    "pgd",
    "sigma_zero",
    "square",
    "straight_through",
]
