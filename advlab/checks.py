"""What every public function that takes a classifier and labelled inputs checks first, with errors that say what to do."""

import math

import torch
from torch import Tensor, nn


def classifier_inputs(model: nn.Module, x: Tensor, y: Tensor, *, labels: str = "y") -> None:
    """Check that ``model`` in eval mode maps ``x`` (n, ...), floats in [0, 1], to logits (n, k), and ``y`` (n,) is in 0..k-1.

    Costs one forward pass of one image. Raises TypeError for a wrong type, ValueError for anything else.
    """
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise TypeError(f"x and {labels} must be torch tensors; they are {type(x).__name__} and {type(y).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; it must be a float tensor in [0, 1]: for bytes, x.float() / 255")
    if y.is_floating_point() or y.dtype == torch.bool:
        raise TypeError(f"{labels} is {y.dtype}; it must be class indices as int64: {labels}.long()")
    if x.ndim < 2:
        raise ValueError(f"x has the shape {tuple(x.shape)}; it must be a batch, (n, c, h, w) or (n, d): x.unsqueeze(0)")
    if y.shape != (len(x),):
        raise ValueError(f"{labels} has the shape {tuple(y.shape)}; {len(x)} inputs need ({len(x)},)")
    if any(part.training for part in model.modules()) if isinstance(model, nn.Module) else getattr(model, "training", False):
        raise ValueError("the model is in training mode, so that dropout and batch norm change its answers: call model.eval()")
    if not len(x):
        return
    if not (x.min() >= 0 and x.max() <= 1):  # also false for NaN
        raise ValueError(f"x ranges from {x.min():.3g} to {x.max():.3g}; it must lie in [0, 1] (normalise inside the model)")
    try:
        with torch.no_grad():
            logits = model(x[:1])
    except RuntimeError as e:
        raise ValueError(f"the model cannot take inputs of the shape (n, {', '.join(map(str, x.shape[1:]))}): {e}") from e
    if logits.ndim != 2 or len(logits) != 1:
        raise ValueError(f"the model maps (1, ...) to {tuple(logits.shape)}; it must give logits of the shape (n, classes)")
    if y.min() < 0 or y.max() >= logits.shape[1]:
        raise ValueError(
            f"{labels} ranges from {y.min()} to {y.max()}, but the model has the classes 0 to {logits.shape[1] - 1}"
        )


def budget(eps: float) -> None:
    """Check a perturbation budget. Raises ValueError for one that is negative or not a number."""
    if not eps >= 0 or math.isnan(eps):
        raise ValueError(f"eps is {eps}; a budget is a number from 0 up")
