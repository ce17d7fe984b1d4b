"""ReLU stability (Xiao et al. 2019): bounds of every unit, the losses that make units stable, and pruning. Chapter 3."""

from .bounds import UnitCounts, count_units, interval_bounds, unstable
from .losses import rs_loss, sparsity_loss
from .pruning import prune_relus, prune_small_weights

__all__ = [
    "UnitCounts",
    "count_units",
    "interval_bounds",
    "prune_relus",
    "prune_small_weights",
    "rs_loss",
    "sparsity_loss",
    "unstable",
]
