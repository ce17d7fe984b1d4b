"""Adversarial Spheres (Gilmer et al. 2018): two spheres in many dimensions, and exact answers about them. Chapter 1."""

from .attacks import manifold_pgd, nearest_error
from .degrees import DegreeShares, degree_shares
from .geometry import cap_angle, gaussian_distance, log_cap_measure, mean_distance_to_cap, optimal_distance
from .quadratic import (
    alphas,
    eigenbasis,
    ignored_log_error,
    inputs_needed,
    is_perfect,
    mean_field_distance,
    nearest_error_quadratic,
    quadratic_log_error,
)
from .rare_events import RareEvent, Splitting, rare_event_log10, splitting
from .sampling import concentric_spheres, sample_sphere

__all__ = [
    "DegreeShares",
    "RareEvent",
    "Splitting",
    "alphas",
    "cap_angle",
    "concentric_spheres",
    "degree_shares",
    "eigenbasis",
    "gaussian_distance",
    "ignored_log_error",
    "inputs_needed",
    "is_perfect",
    "log_cap_measure",
    "manifold_pgd",
    "mean_distance_to_cap",
    "mean_field_distance",
    "nearest_error",
    "nearest_error_quadratic",
    "optimal_distance",
    "quadratic_log_error",
    "rare_event_log10",
    "sample_sphere",
    "splitting",
]
