"""Exact verification of ReLU networks: a proof, a counterexample, or "unknown", for images, data sets and files."""

from ..store import StoreError
from ..work import worker_pool
from .affine import normal_form
from .certificates import needed_lead, reachable, verify_one_bit, verify_squeezed
from .dataset import Store, Verdicts, verify_dataset
from .onnx_files import read_onnx
from .prepared import network_hash
from .properties import verify_property
from .smoothing import Certified, certified_radius, smoothed_predict
from .verifier import Verdict, verify
from .vnnlib import read_vnnlib, verify_files

__all__ = [
    "Certified",
    "Store",
    "StoreError",
    "Verdict",
    "Verdicts",
    "certified_radius",
    "needed_lead",
    "network_hash",
    "normal_form",
    "reachable",
    "read_onnx",
    "read_vnnlib",
    "smoothed_predict",
    "verify",
    "verify_dataset",
    "verify_files",
    "verify_one_bit",
    "verify_property",
    "verify_squeezed",
    "worker_pool",
]
