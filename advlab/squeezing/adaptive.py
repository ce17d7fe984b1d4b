"""Attacks on the squeezing detector by somebody who knows it: wrong, and below the threshold.

The idea that breaks it is that of He et al. (2017) done thoroughly: ask for one wrong class, with a margin, on the input and
on every squeezed version of it at once; the answers then agree, and the detector sees nothing. Squeezers get a gradient
(Athalye et al. 2018). The paper's own adaptive attack (its section 5-D) stands beside it, with its authors' settings.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import TypedDict, Unpack

import torch
from torch import Generator, Tensor, nn

from .. import checks
from ..attacks import minimal_l2
from ..attacks.contract import Guarded, check_options
from ..attacks.losses import Goal
from ..attacks.steps import Adam, input_gradient, random_like
from .squeezers import GRADIENTS as GRADIENTS
from .squeezers import Squeezer
from .squeezers import binary_filter as binary_filter
from .squeezers import with_gradient as with_gradient

_THRESHOLD: checks.Range = (checks.POSITIVE[0], "positive and finite")


def needed_margin(threshold: float, classes: int = 10) -> float:
    """The margin between logits that keeps the detector silent: two softmax outputs with it differ by at most ``threshold``.

    With a margin m every probability but one is at most exp(-m), so that two such outputs for one class lie within
    2 (classes - 1) exp(-m) in L1. Guarantee: that bound. Raises ValueError for a threshold that is not positive and finite, and
    fewer than 2 classes.

    >>> m = needed_margin(0.003)
    >>> round(m, 2), round(2 * 9 * math.exp(-m), 6)
    (8.7, 0.003)
    """
    checks.setting("threshold", threshold, _THRESHOLD)
    if classes < 2:
        raise ValueError(f"there is no margin among {classes} classes; there must be at least 2")
    return max(0.0, math.log(2 * (classes - 1) / threshold))


class _Evasion:
    """The criterion of evasion: below 0 where the input and all squeezed versions have one wrong class with a margin."""

    def __init__(
        self, model: nn.Module, squeezers: Mapping[str, Squeezer], threshold: float, y: Tensor, targets: Tensor | None
    ) -> None:
        self.model, self.squeezers, self.threshold = model, squeezers, threshold
        self.y, self.targets = y, targets
        self.evades = torch.zeros_like(y, dtype=torch.bool)

    def __call__(self, x: Tensor) -> Tensor:
        logits = torch.stack([self.model(x), *(self.model(squeezer(x)) for squeezer in self.squeezers.values())])  # (v, n, k)
        probabilities = logits.detach().softmax(2)
        score = (probabilities[1:] - probabilities[0]).abs().sum(2).amax(0)
        guess = logits[0].detach().argmax(1)
        wrong = guess != self.y if self.targets is None else guess == self.targets
        self.evades = wrong & (score <= self.threshold)
        top = logits.topk(2, dim=2)
        best = top.values[:, :, :1].expand_as(logits)
        rival = best.scatter(2, top.indices[:, :, :1], top.values[:, :, 1:])  # the best other logit, for each class
        margin = needed_margin(self.threshold, logits.shape[2])
        missing = (margin - (logits - rival)).relu().sum(0)  # (n, k)
        if self.targets is not None:
            return missing.gather(1, self.targets[:, None])[:, 0] - 1e-6
        return missing.scatter(1, self.y[:, None], math.inf).amin(1) - 1e-6

    def accept(self, x: Tensor) -> Tensor:
        """Of the points last asked about: which are wrong and pass the detector."""
        return self.evades


def _checked(
    model: nn.Module,
    squeezers: Mapping[str, Squeezer],
    threshold: float,
    x: Tensor,
    y: Tensor,
    targets: Tensor | None,
    start: Tensor | None = None,
) -> Guarded:
    """The model, which says where its logits or gradients are not finite, once all that an attack takes is right."""
    checks.setting("threshold", threshold, _THRESHOLD)
    if not isinstance(squeezers, Mapping):
        told = f"squeezers is {type(squeezers).__name__}"
        raise TypeError(f"{told}; it must be a mapping of functions by name: with_gradient(('1-bit',), 'soft')")
    if not squeezers:
        raise ValueError("squeezers is empty: give at least one, such as with_gradient(('1-bit',), 'soft')")
    parts = checks.classifier_inputs(model, x, y, gradient=True)
    if targets is not None:
        checks.classifier_inputs(model, x, targets, labels="targets")
    if start is not None:
        checks.tensors(start=start)
        if start.shape != x.shape:
            raise ValueError(f"start has the shape {tuple(start.shape)}, x {tuple(x.shape)}; they must be equal")
        checks.finite(start, "start")
    return Guarded(model, x.detach(), parts)


class Search(TypedDict, total=False):
    """Options of :func:`advlab.attacks.minimal_l2`, with its defaults but for 5 ``search_steps``."""

    search_steps: int
    steps: int
    learning_rate: float
    initial_c: float


@torch.inference_mode(False)
@torch.enable_grad()
def evade_l2(
    model: nn.Module,
    squeezers: Mapping[str, Squeezer],
    threshold: float,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = math.inf,
    targets: Tensor | None = None,
    **search: Unpack[Search],
) -> Tensor:
    """The nearest images in L2 that are wrong and score at most ``threshold``: :func:`advlab.attacks.minimal_l2` on all views.

    Parameters
    ----------
    model, squeezers : a classifier of (n, c, h, w), in eval mode, and squeezers by name with gradients (:func:`with_gradient`)
    threshold : float above 0, the detector's
    x, y : images in [0, 1] and labels (n,)
    eps : float, L2, from 0 up
    targets : labels to reach (n,); by default any wrong one
    search_steps, steps, learning_rate, initial_c : as in ``minimal_l2``; 5 search steps by default
    Returns
    -------
    Tensor like ``x``; ``x`` itself where none within ``eps`` was found. Round to 8 bits and ask the detector again.
    Raises
    ------
    TypeError, ValueError
        as the attacks do; what are no squeezers by name; a threshold that is not positive and finite
    Guarantee
    ---------
    No guarantee: an upper bound found by search.
    References
    ----------
    He et al. (2017); Carlini and Wagner (2017)
    Examples
    --------
    >>> from advlab.squeezing import joint_score
    >>> net, squeezers = nn.Flatten().eval(), with_gradient(("median 2x2",), "soft")
    >>> x, y = torch.tensor([[[[0.9, 0.6], [0.6, 0.6]]]]), torch.tensor([0])
    >>> x_adv = evade_l2(net, squeezers, 0.5, x, y, search_steps=3, steps=50)
    >>> net(x_adv).argmax().item() != 0, joint_score(net, x_adv, squeezers).item() <= 0.5
    (True, True)
    """
    check_options("evade_l2", {"eps": eps, **search})
    model = _checked(model, squeezers, threshold, x, y, targets)
    criterion = _Evasion(model, squeezers, threshold, y, targets)
    # pyrefly: ignore[bad-argument-type]
    return minimal_l2(criterion, x, accept=criterion.accept, eps=eps, **{"search_steps": 5, **search})


# Twelve parameters, by name: the detector in its parts, so that any mapping of squeezers will do, and what pgd takes.
# Half of its lines are documentation.
@torch.inference_mode(False)
@torch.enable_grad()
def evade_linf(
    model: nn.Module,
    squeezers: Mapping[str, Squeezer],
    threshold: float,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int = 100,
    step_size: float | None = None,
    restarts: int = 1,
    start: Tensor | None = None,
    targets: Tensor | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Images within ``eps`` (linf) that are wrong and score at most ``threshold``, by projected gradient descent on all views.

    Parameters
    ----------
    model, squeezers, threshold, x, y, targets : as in :func:`evade_l2`
    eps : float, linf, from 0 up
    steps, step_size : int from 1 up, and the first length, which falls to 0; by default 4 eps / steps
    restarts, start : int from 1 up; the first run begins at ``start`` or ``x``, the others at random points of ``generator``
    Returns
    -------
    Tensor like ``x``: images that evade, as soon as they do; others as they were last
    Raises
    ------
    TypeError, ValueError
        as the attacks do; what are no squeezers by name; a threshold that is not positive and finite
    Guarantee
    ---------
    No guarantee: an upper bound of the detector's robustness, found by search.
    References
    ----------
    He et al. (2017); Athalye et al. (2018)
    Examples
    --------
    >>> from advlab.squeezing import joint_score
    >>> net, squeezers = nn.Flatten().eval(), with_gradient(("median 2x2",), "soft")
    >>> x, y = torch.tensor([[[[0.9, 0.6], [0.6, 0.6]]]]), torch.tensor([0])
    >>> x_adv = evade_linf(net, squeezers, 0.5, x, y, eps=0.2)
    >>> net(x_adv).argmax().item() != 0, joint_score(net, x_adv, squeezers).item() <= 0.5
    (True, True)
    """
    options = {"eps": eps, "steps": steps, "step_size": step_size, "restarts": restarts}
    check_options("evade_linf", options, limited=True)
    model = _checked(model, squeezers, threshold, x, y, targets, start)
    result = x.detach().clone()
    todo = torch.arange(len(x), device=x.device)
    ask = functools.partial(_Evasion, model, squeezers, threshold)
    length = 4 * eps / steps if step_size is None else step_size
    for restart in range(restarts):
        if not len(todo) or eps == 0:
            break
        base = x[todo].detach()
        at = base if start is None else start[todo].detach().to(base)
        if restart:
            at = base + eps * (2 * random_like(base.shape, base, generator) - 1)
        goals = None if targets is None else targets[todo]
        result[todo], evaded = _descent(ask, base, at, y[todo], goals, eps=eps, steps=steps, length=length)
        todo = todo[~evaded]
    return result


def _descent(
    ask: Callable[..., _Evasion],
    base: Tensor,
    at: Tensor,
    y: Tensor,
    targets: Tensor | None,
    *,
    eps: float,
    steps: int,
    length: float,
) -> tuple[Tensor, Tensor]:
    """One run from ``at`` in the ball around ``base`` (n, ...): where each image ended, and whether it evades, (n,)."""
    low, high = (base - eps).clamp(0, 1), (base + eps).clamp(0, 1)
    at, index = at.clamp(low, high), torch.arange(len(base), device=base.device)
    ends, evaded = base.clone(), torch.zeros_like(index, dtype=torch.bool)
    for step in range(steps + 1):
        at = at.requires_grad_()
        criterion = ask(y, targets)
        value = criterion(at)
        ends[index] = at.detach()
        evaded[index[criterion.evades]] = True
        if step == steps or criterion.evades.all():
            break
        (gradient,) = torch.autograd.grad(value.sum(), at)
        moved = (at.detach() - length * (1 - step / steps) * gradient.sign()).clamp(low, high)
        stay = ~criterion.evades
        at, low, high, index, y = moved[stay], low[stay], high[stay], index[stay], y[stay]
        targets = None if targets is None else targets[stay]
    return ends, evaded


# Eleven parameters, by name: the detector in its parts, and what the authors' code lets one set. Half of it is documentation.
@torch.inference_mode(False)
@torch.enable_grad()
def paper_adaptive(
    model: nn.Module,
    squeezers: Mapping[str, Squeezer],
    threshold: float,
    x: Tensor,
    y: Tensor,
    *,
    targets: Tensor | None = None,
    search_steps: int = 9,
    steps: int = 5000,
    learning_rate: float = 0.09,
    restart: bool = True,
    ask_detector: bool = False,
) -> Tensor:
    """The adaptive attack of Xu et al. (2018), after He et al. (2017), as the authors' code has it, with its settings.

    Adam on ``|x_adv - x|^2 + c (relu(-margin) + sum of relu(score - threshold))``, the sum over squeezers, in the variable of
    Carlini and Wagner. Each c begins at the image again, with new moments. The search over c looks at whether the *last* point
    is wrong, and not at the detector; the result is the nearest of all points that were wrong and passed it.

    Parameters
    ----------
    model, squeezers, threshold, x, y, targets : as in :func:`evade_l2`; the authors' squeezers are those of
        ``with_gradient(names, "none")``, with no gradient through bits
    search_steps, steps, learning_rate : values of c, gradients for each, and Adam's rate
    restart : False goes on where the last c ended, with its moments, as :func:`advlab.attacks.minimal_l2` does
    ask_detector : True lowers c only where the last point passes the detector, too
    Returns
    -------
    Tensor like ``x``; ``x`` itself where nothing was found. Round to 8 bits and ask the detector again.
    Raises
    ------
    TypeError, ValueError
        as the attacks do; what are no squeezers by name; a threshold that is not positive and finite
    Guarantee
    ---------
    No guarantee: an upper bound found by search.
    References
    ----------
    Xu et al. (2018), section 5-D; He et al. (2017)
    Examples
    --------
    >>> from advlab.squeezing import joint_score
    >>> net, squeezers = nn.Flatten().eval(), with_gradient(("median 2x2",), "none")
    >>> x, y = torch.tensor([[[[0.9, 0.6], [0.6, 0.6]]]]), torch.tensor([0])
    >>> x_adv = paper_adaptive(net, squeezers, 0.5, x, y, search_steps=3, steps=50)
    >>> net(x_adv).argmax().item() != 0, joint_score(net, x_adv, squeezers).item() <= 0.5
    (True, True)
    """
    check_options("paper_adaptive", {"search_steps": search_steps, "steps": steps, "learning_rate": learning_rate})
    model = _checked(model, squeezers, threshold, x, y, targets)
    goal, best = Goal(y, targets), x.detach().clone()
    nearest = torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device)
    c, low, high = torch.ones_like(nearest), torch.zeros_like(nearest), nearest.clone()
    wrong, start = torch.zeros_like(y, dtype=torch.bool), ((2 * best - 1) / 1.002).atanh()
    w, adam = start, Adam(start, learning_rate)
    for _ in range(search_steps):
        if restart:
            w, adam = start, Adam(start, learning_rate)
        for step in range(steps + 1):
            at = w.detach().requires_grad_()
            x_adv = (at.tanh() + 1) / 2
            logits = model(x_adv)
            views = torch.stack([model(squeezer(x_adv)).softmax(1) for squeezer in squeezers.values()])  # (v, n, k)
            excess = ((logits.softmax(1) - views).abs().sum(2) - threshold).relu().sum(0)
            squared = (x_adv - x).flatten(1).square().sum(1)
            wrong = goal.met(logits.detach())
            better = wrong & (excess == 0) & (squared < nearest)
            best[better], nearest[better] = x_adv.detach()[better], squared.detach()[better]
            if step < steps:  # the last point is looked at, too
                w = adam.move(at.detach(), input_gradient(squared + c * (goal.gap(logits).relu() + excess), at))
        enough = wrong & (excess.detach() == 0) if ask_detector else wrong  # pyrefly: ignore[unbound-name]
        low, high = torch.where(enough, low, c), torch.where(enough, c, high)
        c = torch.where(high.isinf(), c * math.exp(2.3), torch.where(low == 0, c * math.exp(-0.69), (low * high).sqrt()))
    return best
