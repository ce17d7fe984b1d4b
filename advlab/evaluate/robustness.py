"""Robust accuracy and transfer: how often a network is right under attack, how sure that is, and whether it can be believed.

The honesty flags follow the checks that AutoAttack's authors print beside a robust accuracy (Croce and Hein 2020); each
has an id and a page of the book, ``flags/ID``, that explains it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from unittest import mock

import torch
from torch import Tensor, nn

from .. import checks
from ..attacks import ce_loss, square
from .measures import clopper_pearson, distances, predict

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]

#: id -> what the flag says; the page ``flags/ID`` of the book explains it.
FLAGS = {
    "randomised": "two passes over the same images give different answers: attack the mean over passes",
    "softmax-output": "the model returns probabilities, not logits: cross entropy saturates on them",
    "zero-gradient": "the gradient of cross entropy is exactly zero for many images: the attack is blind there",
    "inference-gradient": "the model computes gradients while it predicts: plain attacks do not see through that",
    "changes-state": "weights, buffers or the mode of the model changed while it was evaluated",
    "changes-input": "the attack worked on its input in place: whoever compares the two afterwards sees no change",
    "black-box-wins": "a black-box attack breaks images that the attack left standing: gradients are hidden",
    "budget-unused": "the attack used less than half of its budget on every image it failed on",
}


@dataclass(frozen=True)
class Flag:
    """A reason not to believe a robust accuracy. ``id`` is a key of :data:`FLAGS`; ``evidence`` is what was measured."""

    id: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.id}: {FLAGS[self.id]} ({self.evidence}; see the page flags/{self.id})"


@dataclass(frozen=True)
class RobustAccuracy:
    """What :func:`robust_accuracy` measured. Shares are in [0, 1]; ``interval`` is Clopper and Pearson's at 95 %."""

    accuracy: float  #: share of images that are right before and after the attack
    interval: tuple[float, float]
    n: int
    clean: float  #: share of images that are right before the attack
    flags: tuple[Flag, ...]
    x_adv: Tensor = field(repr=False)  #: (n, ...) what the attack returned
    robust: Tensor = field(repr=False)  #: (n,) bool, right before and after


# Over 60 lines, two thirds of which are its documentation.
def robust_accuracy(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack: Attack,
    *,
    eps: float | None = None,
    norm: str = "linf",
    batch_size: int = 250,
    queries: int = 200,
) -> RobustAccuracy:
    """The share of images that ``model`` gets right both before and after ``attack(model, x, y)``.

    With ``eps``, up to 100 of the images that the attack could not break are also given to the Square attack (linf, images
    only): see the flag black-box-wins.

    Parameters
    ----------
    model, x, y : as attacks take them: (n, ...) in [0, 1] -> logits (n, k), (n, ...) and (n,) int64
    attack : such as ``functools.partial(attacks.pgd, eps=0.1)``
    eps, norm : the budget to hold the attack to, if any, and its norm, "linf" or "l2"
    batch_size, queries : of all passes, and of the Square attack for each image; 0 leaves it out

    Returns
    -------
    found : :class:`RobustAccuracy`, with interval and honesty flags

    Raises
    ------
    TypeError, ValueError
        as the attacks do, and for an attack that returns another shape, leaves [0, 1] or its budget; where the attack cannot
        begin, since no gradient reaches the input, the flag zero-gradient says so instead, of images that stay as they are

    Guarantee
    ---------
    None on the network: the accuracy is an upper bound of that under the strongest attack, and the interval speaks of this
    attack on fresh images.

    References
    ----------
    Croce and Hein (2020), whose checks the flags follow.

    Examples
    --------
    >>> from advlab import attacks
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    >>> found = robust_accuracy(net, torch.rand(8, 1, 2, 2), torch.zeros(8, dtype=torch.int64), lambda m, x, y: x)
    >>> found.accuracy == found.clean, found.n
    (True, 8)
    """
    parts = checks.classifier_inputs(model, x, y)
    for name, value, within in (("batch_size", batch_size, checks.COUNT), ("queries", queries, checks.NOT_NEGATIVE)):
        checks.setting(name, value, within)
    checks.budget(0 if eps is None else eps)
    distances(x[:0], x[:0], norm)  # with no budget to hold to, this alone looks at the norm
    before = _state(parts)
    right = predict(model, x, batch_size) == y
    try:
        x_adv, kept = _attacked(model, x, y, attack, eps, norm, batch_size)
    except checks.NoGradientError:
        x_adv, kept = x.clone(), True
    robust = right & (predict(model, x_adv, batch_size) == y)
    flags = list(_flags(model, x[:batch_size], y[:batch_size]))
    flags += _flags_of_changes(parts, before, kept)
    if eps is not None and robust.any():
        flags += _flags_of_budget(model, x[robust], y[robust], x_adv[robust], eps, norm, queries)
    k, n = int(robust.sum()), len(x)
    return RobustAccuracy(
        accuracy=k / n if n else float("nan"),
        interval=clopper_pearson(k, n),
        n=n,
        clean=float(right.double().mean()),
        flags=tuple(flags),
        x_adv=x_adv,
        robust=robust,
    )


def _attacked(
    model: nn.Module, x: Tensor, y: Tensor, attack: Attack, eps: float | None, norm: str, batch_size: int
) -> tuple[Tensor, bool]:
    """What ``attack`` makes of copies of ``x``, batch by batch, each checked, and whether it left the copies as they were."""
    made, kept = [], True
    for k, (images, labels) in enumerate(zip(x.detach().split(batch_size), y.split(batch_size), strict=True)):
        copies = images.clone(), labels.clone()
        try:
            made += [attack(model, *copies)] if len(images) else [images]
        except ValueError as e:
            e.add_note(f"of the batch from x[{k * batch_size}] on")
            raise
        _check_attack(made[-1], images, eps, norm)
        kept &= torch.equal(copies[0], images) and torch.equal(copies[1], labels)
    return torch.cat(made), kept


def _check_attack(x_adv: Tensor, x: Tensor, eps: float | None, norm: str) -> None:
    checks.tensors(x_adv=x_adv)
    if x_adv.shape != x.shape:
        raise ValueError(f"the attack returned the shape {tuple(x_adv.shape)} for {tuple(x.shape)}")
    if x_adv.dtype != x.dtype:
        raise TypeError(f"the attack returned {x_adv.dtype} for {x.dtype}: let it end with x_adv.to(x.dtype)")
    checks.pixels(x_adv, "x_adv", "the attack left [0, 1]")
    if x.numel() and eps is not None and (far := float(distances(x_adv, x, norm).max())) > eps + 1e-5:
        raise ValueError(f"the attack left its budget: it moved an image by {far:.4g} in {norm}, eps is {eps:g}")


def _state(parts: list[nn.Module]) -> dict[str, Tensor]:
    return {
        f"{k}."[: 2 * bool(k)] + key: value.clone() for k, part in enumerate(parts) for key, value in part.state_dict().items()
    }


def _flags(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Flag]:
    """The flags that need no budget, from one batch."""
    if not len(x):
        return
    with torch.no_grad():
        first, second = model(x), model(x)
    if not torch.equal(first, second):
        yield Flag("randomised", f"logits differ by up to {float((first - second).abs().max()):.2g}")
    if first.min() >= 0 and torch.allclose(first.sum(1), torch.ones_like(first[:, 0]), atol=1e-4):
        yield Flag("softmax-output", "every row is at least 0 and sums to 1")
    with _counted_gradients() as calls, torch.enable_grad():
        at = x.detach().clone().requires_grad_()
        logits = model(at)
    if calls[0]:
        yield Flag("inference-gradient", f"{calls[0]} calls in one pass")
    if not logits.requires_grad:
        yield Flag("zero-gradient", "no gradient reaches the input at all")
    else:
        gradient = torch.autograd.grad(ce_loss(logits, y).sum(), at, allow_unused=True)[0]
        zero = 1.0 if gradient is None else float(gradient.flatten(1).eq(0).all(1).double().mean())
        if zero > 0.05:
            yield Flag("zero-gradient", f"{zero:.0%} of {len(x)} images")


def _flags_of_changes(parts: list[nn.Module], before: dict[str, Tensor], kept: bool) -> Iterator[Flag]:
    """The flags on what should have stayed as it was: the modules, and with ``kept`` the attack's input."""
    after = _state(parts)
    changed = [key for key, value in before.items() if not torch.equal(value, after[key])]
    if changed or any(module.training for part in parts for module in part.modules()):
        yield Flag("changes-state", f"changed: {', '.join(changed[:3]) or 'the mode'}")
    if not kept:
        yield Flag("changes-input", "x or y is not what it was")


@contextlib.contextmanager
def _counted_gradients() -> Iterator[list[int]]:
    """Count the calls of backward and grad that happen inside."""
    calls = [0]

    def counting(f: Callable) -> Callable:
        def call(*args, **options):
            calls[0] += 1
            return f(*args, **options)

        return call

    with (
        mock.patch("torch.autograd.grad", counting(torch.autograd.grad)),
        mock.patch("torch.Tensor.backward", counting(torch.Tensor.backward)),
    ):
        yield calls


def _flags_of_budget(
    model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, eps: float, norm: str, queries: int
) -> Iterator[Flag]:
    """The flags that need a budget, from images that the attack could not break."""
    used = float(distances(x_adv, x, norm).max())
    if eps > 0 and used < eps / 2:
        yield Flag("budget-unused", f"at most {used:.3g} of {eps:g}")
    if norm == "linf" and x.ndim == 4 and queries > 0 and eps > 0:
        x, y = x[:100], y[:100]
        generator = torch.Generator(x.device).manual_seed(0)  # the flag is the same whenever it is asked for
        broken = int((predict(model, square(model, x, y, eps=eps, queries=queries, generator=generator)) != y).sum())
        if broken:
            yield Flag("black-box-wins", f"{broken} of {len(x)} images in {queries} queries each")


def transferable(
    source: nn.Module, x: Tensor, y: Tensor, attack: Attack, *, fooled: bool = False, batch_size: int = 250
) -> tuple[Tensor, Tensor, Tensor]:
    """Adversarial images that ``attack`` makes with ``source``, which sees only the images that it classifies correctly.

    Returns (x_adv, y, index): the adversarial images (m, ...), their labels (m,), and their places in ``x`` (m,).
    ``fooled`` keeps those alone that fool the source, as Luo et al. (2018) do; without it there are failures among them.
    Raises ValueError if the attack returns images of another shape or outside [0, 1], and as the attack does.

    >>> x, y = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), torch.tensor([0, 0, 0])
    >>> x_adv, labels, index = transferable(nn.Identity().eval(), x, y, lambda m, x, y: x.flip(1))
    >>> index.tolist()  # the second was wrong before any attack
    [0, 2]
    """
    checks.classifier_inputs(source, x, y)
    index = (predict(source, x, batch_size) == y).nonzero()[:, 0]
    images, labels = x[index], y[index]
    x_adv, _ = _attacked(source, images, labels, attack, None, "linf", batch_size)
    if fooled:
        kept = predict(source, x_adv, batch_size) != labels
        x_adv, labels, index = x_adv[kept], labels[kept], index[kept]
    return x_adv, labels, index


@dataclass(frozen=True)
class Transfer:
    """What :func:`transfer_matrix` measured: rows are sources, columns targets."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    accuracy: Tensor = field(repr=False)  #: (sources, targets), of the target on the source's adversarial images
    n: tuple[int, ...]  #: images of each source: those it classifies correctly, or of these those that fool it
    interval: Tensor = field(repr=False)  #: (sources, targets, 2)


def transfer_matrix(
    sources: Mapping[str, nn.Module],
    targets: Mapping[str, nn.Module],
    x: Tensor,
    y: Tensor,
    attack: Attack,
    *,
    fooled: bool = False,
    batch_size: int = 250,
) -> Transfer:
    """Accuracy of each target on adversarial images that ``attack`` makes with each source alone.

    A source attacks only the images that it classifies correctly, so that rows have sample sizes of their own.

    Parameters
    ----------
    sources, targets : name -> network, as attacks take them
    x, y : (n, ...) in [0, 1], and (n,) int64
    attack : such as ``functools.partial(attacks.pgd, eps=0.1)``
    fooled : only images that fool the source count (Luo et al. 2018)
    batch_size : 1 or more

    Returns
    -------
    found : :class:`Transfer`, with intervals of Clopper and Pearson at 95 %; a cell without images is nan

    Raises
    ------
    TypeError, ValueError
        as :func:`transferable`

    Guarantee
    ---------
    No guarantee: a target that stands here may fall to an attack that knows it.

    Examples
    --------
    >>> from advlab import attacks, data, zoo
    >>> nets, (x, y) = {name: zoo.load(name) for name in ("mnist_cnn7", "mnist_01_rs")}, data.mnist("test", 20)
    >>> found = transfer_matrix(nets, nets, x, y, lambda m, x, y: attacks.fgsm(m, x, y, eps=0.3))
    >>> found.sources, found.accuracy.shape
    (('mnist_cnn7', 'mnist_01_rs'), torch.Size([2, 2]))
    """
    accuracy = torch.full((len(sources), len(targets)), float("nan"), dtype=torch.float64)
    interval = torch.zeros(len(sources), len(targets), 2, dtype=torch.float64)
    sizes = []
    for row, source in enumerate(sources.values()):
        x_adv, labels, _ = transferable(source, x, y, attack, fooled=fooled, batch_size=batch_size)
        sizes.append(len(labels))
        for column, target in enumerate(targets.values()):
            checks.classifier_inputs(target, x, y)
            correct = int((predict(target, x_adv, batch_size) == labels).sum())
            accuracy[row, column] = correct / len(labels) if len(labels) else float("nan")
            interval[row, column] = torch.tensor(clopper_pearson(correct, len(labels)), dtype=torch.float64)
    return Transfer(tuple(sources), tuple(targets), accuracy, tuple(sizes), interval)
