"""ReLU stability (Xiao et al. 2019): bounds, the paper's levers, and exact verification. Chapter 3."""

from .bounds import interval_bounds, unstable
from .levers import rs_loss, sparsity_loss

__all__ = ["interval_bounds", "rs_loss", "sparsity_loss", "unstable"]
