"""Linear classifiers, whose nearest errors have a closed form: the worked example of CONTRIBUTING.md."""

from .geometry import least_squares, nearest_error

__all__ = ["least_squares", "nearest_error"]
