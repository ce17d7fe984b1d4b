"""The contract of every attack, which :func:`attack` holds it to and writes into its docstring.

Parameters
----------
model : maps images (n, ...) in [0, 1] to logits (n, k), in eval mode; its weights and mode stay as they are
x : (n, ...) float in [0, 1]
y : (n,) int64, the true labels
eps : budget, 0 or more, in the attack's norm; 0 returns ``x``; infinite where it may be left out
targets : (n,) int64, labels to reach instead of any wrong one, or None

Returns
-------
x_adv : (n, ...), of the dtype and device of ``x``, finite, in [0, 1] and within ``eps`` of ``x`` (to rounding, 1e-6). Where
    ``eps`` may be left out the attack looks for the least change: what meets its goal already comes back as it is

Raises
------
TypeError, ValueError
    with what to do (``advlab.checks``): for bad input, half precision, a part in training mode, an output that is no finite
    logits of two classes or more or passes no gradient to the input, a model that changes its input in place, and a setting
    with which the attack would do nothing

Guarantee
---------
No guarantee: an attack finds errors, it never shows that there are none.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from numbers import Integral
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from .. import checks

A = TypeVar("A", bound=Callable[..., Tensor])

#: What each setting of an attack must be, so that it does something: by its name, or "attack.name" where they differ.
SETTINGS: dict[str, checks.Range] = {
    **dict.fromkeys(("steps", "restarts", "search_steps", "rounds", "patience", "queries"), checks.COUNT),
    **dict.fromkeys(("batch", "batch_size"), checks.COUNT),
    **dict.fromkeys(("step_size", "learning_rate", "initial_c", "largest_c", "initial_norm", "sigma"), checks.POSITIVE),
    **dict.fromkeys(("confidence", "overshoot", "momentum", "decay"), checks.NOT_NEGATIVE),
    **dict.fromkeys(("shrink", "drop", "gamma", "threshold"), checks.SHARE),
    "classes": (lambda v: v >= 2 and isinstance(v, Integral), "a whole number and at least 2"),
    "jsma.gamma": (lambda v: 0 <= v <= 1, "from 0 to 1"),
    "share": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
    "theta": (lambda v: 0 < abs(v) <= 1, "from -1 to 1 and not 0"),
}


class Guarded(nn.Module):
    """A model for an attack on ``x``: it says where its logits or gradients are not finite. ``parts``: its modules."""

    def __init__(self, model: Callable[[Tensor], Tensor], x: Tensor, parts: list[nn.Module]) -> None:
        super().__init__()
        self.training = False
        self.model, self.x, self.parts = model, x, parts

    def forward(self, points: Tensor) -> Tensor:
        answer, seen = self.model(points), points.detach()
        self._look("logits", seen, answer)
        if points.requires_grad and torch.is_grad_enabled():
            points.register_hook(functools.partial(self._look, "gradients", seen))
        return answer

    def _look(self, what: str, seen: Tensor, value: Tensor) -> None:
        if not checks.is_finite(value):
            place = seen[~value.detach().isfinite().flatten(1).all(1)][0]  # attacks drop examples: which one of x is it?
            nearest = int((self.x - place).flatten(1).norm(dim=1).argmin())
            raise ValueError(f"the model's {what} are not finite: first at x[{nearest}], or near it")


def attack(function: A, *, gradient: bool = True) -> A:
    """``function`` on checked copies, which a graph can be built on in any context; ``x`` where there is nothing to do.

    Without ``gradient`` it is a black box, and runs where no graph is built.
    """
    signature, name = inspect.signature(function), function.__name__
    limited = "eps" in signature.parameters and signature.parameters["eps"].default is inspect.Parameter.empty

    @functools.wraps(function)
    def checked(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> Tensor:
        signature.bind(model, x, y, **options)
        with torch.inference_mode(False), torch.set_grad_enabled(gradient):
            check_options(name, options, limited)
            parts = checks.classifier_inputs(model, x, y, gradient=gradient)
            if (targets := options.get("targets")) is not None:
                checks.classifier_inputs(model, x, targets, labels="targets")
                options["targets"] = targets.clone()
            if (start := options.get("start")) is not None:
                checks.tensors(start=start)
                if start.shape != x.shape:
                    raise ValueError(f"start has the shape {tuple(start.shape)}, x {tuple(x.shape)}; they must be equal")
                checks.finite(start, "start")
            x = x.detach().clone()
            if not len(x) or options.get("eps") == 0:
                return x
            x_adv = checks.finite(function(Guarded(model, x, parts), x, y.clone(), **options), "the attack's result")
            checks.pixels(x_adv, "the attack's result", "it must lie in [0, 1]: see whether the model changes its input")
            return x_adv

    if function.__doc__ and __doc__:
        own, (_, taken, promised) = inspect.cleandoc(function.__doc__), __doc__.strip().split("\n\n", 2)
        if "targets" not in signature.parameters:
            taken = taken.rpartition("\n")[0]
        own = own.replace("Parameters\n----------", taken, 1)
        checked.__doc__ = own.replace("\n\nReferences\n", f"\n\n{promised}\n\nReferences\n", 1)
    return cast(A, checked)


def check_options(name: str, options: dict[str, Any], limited: bool = False) -> None:
    """Raises ValueError for a setting of the attack ``name`` outside of its range; ``limited``: eps must be finite."""
    for option, value in options.items():
        within = SETTINGS.get(f"{name}.{option}", SETTINGS.get(option))
        if within is not None and value is not None:
            checks.setting(option, value, within)
    checks.budget(options.get("eps", 0), limited=limited)
    if (norm := options.get("norm", "linf")) not in ("linf", "l2"):
        raise ValueError(f"norm is {norm!r}; it must be 'linf' or 'l2'")
