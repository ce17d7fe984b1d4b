"""The contract of every attack, which :func:`attack` holds it to and writes into its docstring.

Parameters
----------
model : maps images (n, ...) in [0, 1] to logits (n, k), in eval mode; its weights and mode stay as they are
x : (n, ...) float in [0, 1]
y : (n,) int64, the true labels
eps : budget, 0 or more, in the attack's norm; 0 returns ``x``
targets : (n,) int64, labels to reach instead of any wrong one, or None

Returns
-------
x_adv : (n, ...), of the dtype and device of ``x``, in [0, 1] and within ``eps`` of ``x`` (to rounding, 1e-6)

Raises
------
TypeError, ValueError
    for bad input, with what to do (``advlab.checks``)

Guarantee
---------
No guarantee: an attack finds errors, it never shows that there are none.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from .. import checks

A = TypeVar("A", bound=Callable[..., Tensor])


def attack(function: A) -> A:
    """``function`` on checked copies, which a graph can be built on in any context; ``x`` where there is nothing to do."""

    @functools.wraps(function)
    def checked(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> Tensor:
        eps, targets, norm = options.get("eps", math.inf), options.get("targets"), options.get("norm", "linf")
        with torch.inference_mode(False), torch.enable_grad():
            checks.budget(eps)
            checks.classifier_inputs(model, x, y)
            if targets is not None:
                checks.classifier_inputs(model, x, targets, labels="targets")
                options["targets"] = targets.clone()
            if norm not in ("linf", "l2"):
                raise ValueError(f"norm is {norm!r}; it must be 'linf' or 'l2'")
            x = x.detach().clone()
            return function(model, x, y.clone(), **options) if len(x) and eps != 0 else x

    if function.__doc__ and __doc__:
        own, (_, taken, promised) = inspect.cleandoc(function.__doc__), __doc__.strip().split("\n\n", 2)
        if "targets" not in inspect.signature(function).parameters:
            taken = taken.rpartition("\n")[0]
        own = own.replace("Parameters\n----------", taken, 1)
        checked.__doc__ = own.replace("\n\nReferences\n", f"\n\n{promised}\n\nReferences\n", 1)
    return cast(A, checked)
