"""ReLU stability (Xiao et al. 2019): bounds, the paper's levers, and exact verification. Chapter 3."""

from ..models import MaskedReLU
from .affine import normal_form
from .bounds import UnitCounts, count_units, interval_bounds, unstable
from .dataset import Store, StoreError, Verdicts, verify_dataset, worker_pool
from .levers import prune_relus, prune_small_weights, rs_loss, sparsity_loss
from .verifier import Verdict, network_hash, verify, verify_property
from .vnnlib import read_onnx, read_vnnlib, verify_files

__all__ = [
    "MaskedReLU",
    "Store",
    "StoreError",
    "UnitCounts",
    "Verdict",
    "Verdicts",
    "count_units",
    "interval_bounds",
    "network_hash",
    "normal_form",
    "prune_relus",
    "prune_small_weights",
    "read_onnx",
    "read_vnnlib",
    "rs_loss",
    "sparsity_loss",
    "unstable",
    "verify",
    "verify_dataset",
    "verify_files",
    "verify_property",
    "worker_pool",
]
