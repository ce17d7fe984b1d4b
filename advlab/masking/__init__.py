"""Random Mask (Luo et al. 2018): masks on feature maps, drawn once and fixed, and networks that carry them. Chapter 4."""

from .defences import (
    DROPOUTS,
    DropBlock,
    Jpeg,
    StochasticPruning,
    dropout_resnet,
    jpeg,
    pruned_at_random,
    single_step,
    trades_loss,
    trades_pairs,
)
from .masks import KINDS, RandomMask, draw_mask, translation_error, wrapped_around
from .networks import (
    Coordinates,
    coordinate_resnet,
    insert_layers,
    insert_masks,
    masked_resnet,
    masked_stability_cnn,
    narrow_resnet,
    redraw_masks,
)

__all__ = [
    "DROPOUTS",
    "KINDS",
    "Coordinates",
    "DropBlock",
    "Jpeg",
    "RandomMask",
    "StochasticPruning",
    "coordinate_resnet",
    "draw_mask",
    "dropout_resnet",
    "insert_layers",
    "insert_masks",
    "jpeg",
    "masked_resnet",
    "masked_stability_cnn",
    "narrow_resnet",
    "pruned_at_random",
    "redraw_masks",
    "single_step",
    "trades_loss",
    "trades_pairs",
    "translation_error",
    "wrapped_around",
]
