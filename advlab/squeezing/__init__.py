"""Feature Squeezing (Xu, Evans and Qi 2018): squeezers, the detector made of them, and who knows it. Chapter 2."""

from .adaptive import binary_filter, evade_l2, evade_linf, needed_margin, paper_adaptive, with_gradient
from .detector import Roc, SqueezingDetector, joint_score
from .squeezers import JOINT, SQUEEZERS, median_filter, non_local_means, reduce_bit_depth

__all__ = [
    "JOINT",
    "SQUEEZERS",
    "Roc",
    "SqueezingDetector",
    "binary_filter",
    "evade_l2",
    "evade_linf",
    "joint_score",
    "median_filter",
    "needed_margin",
    "non_local_means",
    "paper_adaptive",
    "reduce_bit_depth",
    "with_gradient",
]
