"""Nearest errors of linear classifiers: on the border, and never nearer, by a linear program and by least squares."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from advlab import linear

WEIGHT, BIAS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double(), torch.tensor([0.0, 0.1, -0.2, 0.3])
X = torch.rand(20, 3, generator=torch.Generator().manual_seed(1)).double()
Y = (X @ WEIGHT.T + BIAS).argmax(1)


def searched(x, y, norm):
    """The least distance to a point where another class has the largest logit, class by class."""
    found = []
    for k in set(range(4)) - {y}:
        normal, gap = (WEIGHT[y] - WEIGHT[k]).numpy(), float((WEIGHT[y] - WEIGHT[k]) @ x + BIAS[y] - BIAS[k])
        if norm == "linf":  # variables: the change d and its bound t;  normal d <= -gap,  |d| <= t
            rows = [[*normal, 0], *([*(s * (i == j) for j in range(3)), -1] for i in range(3) for s in (1, -1))]
            found.append(linprog([0, 0, 0, 1], rows, [-gap, *[0] * 6], bounds=[(None, None)] * 4).fun)
        else:
            found.append(float(np.linalg.norm(np.linalg.lstsq([normal], [-gap])[0])))
    return min(found)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_closed_form_is_what_optimisation_finds(norm):
    exact = linear.nearest_error(WEIGHT, BIAS, X, Y, norm)
    assert exact.tolist() == pytest.approx([searched(x, int(y), norm) for x, y in zip(X, Y, strict=True)], abs=1e-6)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="must be 'l2' or 'linf'"):
        linear.nearest_error(WEIGHT, BIAS, X, Y, "l1")
    with pytest.raises(ValueError, match="must be above 0"):
        linear.least_squares(X, Y, ridge=0)
