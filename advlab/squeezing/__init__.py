"""Feature Squeezing (Xu, Evans and Qi 2018): squeezers, and the detector made of them. Chapter 2."""

from .detector import Roc, SqueezingDetector, joint_score
from .squeezers import JOINT, SQUEEZERS, median_filter, non_local_means, reduce_bit_depth

__all__ = [
    "JOINT",
    "SQUEEZERS",
    "Roc",
    "SqueezingDetector",
    "joint_score",
    "median_filter",
    "non_local_means",
    "reduce_bit_depth",
]
