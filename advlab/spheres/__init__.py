"""Adversarial Spheres (Gilmer et al. 2018): two spheres in many dimensions, and exact answers about them. Chapter 1."""

from .sampling import concentric_spheres, sample_sphere

__all__ = ["concentric_spheres", "sample_sphere"]
