"""What every public function that takes a classifier and labelled inputs checks first, with errors that say what to do."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

#: Half precision is refused: steps, margins and distances of attacks are below its rounding.
PRECISIONS = (torch.float32, torch.float64)

#: A setting's range: (test, in words).
Range = tuple[Callable[[Any], bool], str]
COUNT: Range = (lambda v: v >= 1 and isinstance(v, Integral), "a whole number and at least 1")
WHOLE: Range = (lambda v: v >= 0 and isinstance(v, Integral), "a whole number from 0 up")
POSITIVE: Range = (lambda v: 0 < v < math.inf, "above 0 and finite")
NOT_NEGATIVE: Range = (lambda v: 0 <= v < math.inf, "at least 0 and finite")
SHARE: Range = (lambda v: 0 < v < 1, "between 0 and 1")


class NoGradientError(ValueError):
    """No gradient reaches the model's input, so that an attack by gradients cannot begin."""


def classifier_inputs(
    model: Callable[[Tensor], Any], x: Tensor, y: Tensor, *, labels: str = "y", gradient: bool = False
) -> list[nn.Module]:
    """Check that ``model`` in eval mode maps ``x`` (n, ...), floats in [0, 1], to logits (n, k), and ``y`` (n,) is in 0..k-1.

    Costs one forward pass of one image, and with ``gradient`` one backward pass, to see that a gradient reaches the input.
    Returns the modules that the answer came from: ``model``, or those that it runs where it is a function.
    Raises TypeError for a wrong type, NoGradientError, and ValueError for anything else.
    """
    tensors(**{"x": x, labels: y})
    inputs(x)
    indices(y, len(x), labels)
    with watched(model) as parts, torch.set_grad_enabled(gradient):
        if not len(x):
            return parts
        at = x[:1].detach().clone().requires_grad_(gradient)
        answer = tried(model, at)
    below(y, logits(answer, 1).shape[1], labels)
    if gradient:
        passes_gradient(answer, at)
    return parts


def indices(y: Tensor, n: int, name: str = "y") -> None:
    """Raises TypeError where ``y`` is not of int64, ValueError where it is not (n,)."""
    if y.dtype != torch.int64:
        raise TypeError(f"{name} is {y.dtype}; it must be class indices as int64: {name}.long()")
    if y.shape != (n,):
        raise ValueError(f"{name} has the shape {tuple(y.shape)}; {n} inputs need ({n},)")


def below(y: Tensor, k: int, name: str = "y") -> None:
    """Raises ValueError where one of the labels ``y`` (n,) is none of the ``k`` classes."""
    if y.numel() and (y.min() < 0 or y.max() >= k):
        raise ValueError(f"{name} ranges from {y.min()} to {y.max()}, but the model has the classes 0 to {k - 1}")


def inputs(x: Tensor) -> None:
    """Raises TypeError where ``x`` is in no precision for attacks, ValueError where it is no batch (n, ...) in [0, 1]."""
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; it must be a float tensor in [0, 1]: for bytes, x.float() / 255")
    if x.dtype not in PRECISIONS:
        raise TypeError(f"x is {x.dtype}, too coarse for attacks and what is measured of them: x.float(), and model.float()")
    if x.ndim < 2:
        raise ValueError(f"x has the shape {tuple(x.shape)}; it must be a batch, (n, c, h, w) or (n, d): x.unsqueeze(0)")
    pixels(x, "x", "x must lie in [0, 1] (normalise inside the model)")


def pixels(x: Tensor, name: str, words: str) -> None:
    """Raises ValueError, the first such value of ``name`` and ``words``, where ``x`` (n, ...) is not in [0, 1], or is NaN."""
    if x.numel() and not (x.min() >= 0 and x.max() <= 1):  # also false for NaN
        raise ValueError(f"{first(~((x >= 0) & (x <= 1)), x, name)}; {words}")


def tried(model: Callable[[Tensor], Any], x: Tensor) -> Any:
    """What ``model`` answers to the first input, ``x`` (1, ...). Raises ValueError where it takes none, or changes it."""
    try:
        return answered(model, x)
    except RuntimeError as e:
        shape = ", ".join(map(str, x.shape[1:]))
        raise ValueError(f"the model cannot take inputs of the shape (n, {shape}), as {x.dtype}: {e}") from e


def answered(function: Callable[[Tensor], Any], x: Tensor, name: str = "the model") -> Any:
    """``function`` of a copy of ``x``. Raises ValueError where it changes that, as it would change the images of the caller."""
    given = x.clone()
    answer = function(given)
    if not torch.equal(given, x) and not (given.shape == x.shape and torch.allclose(given, x, 0, 0, equal_nan=True)):
        raise ValueError(f"{name} changes its input in place: let it work on a copy, as in x = x - 0.5 for x -= 0.5")
    return answer


def passes_gradient(value: Tensor, at: Tensor) -> None:
    """Raises NoGradientError where no gradient of ``value`` reaches ``at``."""
    if not value.requires_grad or torch.autograd.grad(value.sum(), at, allow_unused=True)[0] is None:
        raise NoGradientError(
            "the model passes no gradient to its input: wrap its non-differentiable part in bpda or straight_through"
        )


def tensors(**values: Any) -> None:
    """Raises TypeError where one is no tensor."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{' and '.join(values)} must be torch tensors; {name} is {type(value).__name__}")


def ready(model: nn.Module) -> None:
    """Raises ValueError where a part of ``model`` is in training mode, TypeError where its weights are in half precision."""
    for name, part in model.named_modules():
        if part.training:
            raise ValueError(
                f"the model is in training mode{f' in its part {name}' * bool(name)} ({type(part).__name__}), so that dropout "
                "and batch norm change its answers: call model.eval()"
            )
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and weight.dtype not in PRECISIONS:
            raise TypeError(f"the model's {name} is {weight.dtype}, too coarse for attacks and evaluation: model.float()")


@contextlib.contextmanager
def watched(model: Callable[[Tensor], Any]) -> Iterator[list[nn.Module]]:
    """The modules that ``model`` answers with, each of them ``ready``: itself, or what it runs here where it is a function."""
    if isinstance(model, nn.Module):
        ready(model)
        yield [model]
        return
    parts: list[nn.Module] = []
    thread, known = threading.get_ident(), set[int]()

    def look(module: nn.Module, _: Any) -> None:
        if threading.get_ident() == thread and id(module) not in known:
            ready(module)
            parts.append(module)
            known.update(map(id, module.modules()))

    hook = register_module_forward_pre_hook(look)
    try:
        yield parts
    finally:
        hook.remove()


def logits(answer: Any, n: int) -> Tensor:
    """What a model returned for ``n`` inputs, if those are logits (n, classes) of two classes or more."""
    if not isinstance(answer, Tensor):
        raise TypeError(f"the model returns {type(answer).__name__}; it must return its logits alone, a tensor (n, classes)")
    if answer.dtype not in PRECISIONS:
        raise TypeError(f"the model's logits are {answer.dtype}; attacks and evaluation need float32 or float64: model.float()")
    if answer.ndim != 2 or len(answer) != n:
        raise ValueError(f"the model maps ({n}, ...) to {tuple(answer.shape)}; it must give logits of the shape (n, classes)")
    if answer.shape[1] < 2:
        raise ValueError("the model has one logit z, for one class; for two, let it return torch.cat([0 * z, z], 1)")
    return answer


def finite(value: Tensor, name: str, begin: int = 0) -> Tensor:
    """``value``, rows of ``name`` from ``begin`` on, if all is finite. Raises ValueError that names the first that is not."""
    if not is_finite(value):
        raise ValueError(f"{first(~value.isfinite(), value, name, begin)}; it must be finite")
    return value


def is_finite(value: Tensor) -> bool:
    """Whether all of ``value`` is finite. A sum is one look at it, and finite only if all is; it may overflow, though."""
    return math.isfinite(value.detach().sum().item()) or bool(value.isfinite().all())


def first(bad: Tensor, value: Tensor, name: str, begin: int = 0) -> str:
    """The first place where ``bad`` is true, with the value there, such as "x[3, 0, 7, 7] is nan"."""
    row, *place = bad.nonzero()[0].tolist()
    return f"{name}[{', '.join(map(str, [begin + row, *place]))}] is {value[(row, *place)].item():.3g}"


def setting(name: str, value: Any, within: Range) -> None:
    """Raises ValueError for a number that is not ``within`` its range, or is no number."""
    test, words = within
    if not isinstance(value, Real) or not test(value):
        raise ValueError(f"{name} is {value!r}; it must be {words}")


def budget(eps: float, *, limited: bool = False) -> None:
    """Check a budget, finite if ``limited``. Raises TypeError for what is no number, ValueError for one that is no budget."""
    if not isinstance(eps, Real | Tensor):
        raise TypeError(f"eps is {eps!r}; a budget is a number from 0 up")
    if isinstance(eps, Tensor) and eps.numel() != 1:
        raise TypeError(f"eps has the shape {tuple(eps.shape)}; it is one budget for all images, a number: call once for each")
    if not eps >= 0 or (limited and eps == math.inf):
        raise ValueError(f"eps is {eps}; a budget is a{' finite' * limited} number from 0 up")
