"""Random Mask (Luo et al. 2018): masks on feature maps, drawn once and fixed, and networks that carry them. Chapter 4."""

from .masks import KINDS, RandomMask, draw_mask, translation_error
from .networks import insert_masks, masked_resnet, narrow_resnet

__all__ = [
    "KINDS",
    "RandomMask",
    "draw_mask",
    "insert_masks",
    "masked_resnet",
    "narrow_resnet",
    "translation_error",
]
