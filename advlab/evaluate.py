"""How often a network is right, under attack or not, how sure that number is, and whether it can be believed.

The honesty flags follow the checks that AutoAttack's authors print beside a robust accuracy (Croce and Hein 2020); each
has an id and a page of the book, ``flags/ID``, that explains it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
import torch
from scipy.special import betaincinv
from scipy.stats import binom, bootstrap
from torch import Tensor, nn

from . import checks
from .attacks import ce_loss, square

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]

#: id -> what the flag says; the page ``flags/ID`` of the book explains it.
FLAGS = {
    "randomised": "two passes over the same images give different answers: attack the mean over passes",
    "softmax-output": "the model returns probabilities, not logits: cross entropy saturates on them",
    "zero-gradient": "the gradient of cross entropy is exactly zero for many images: the attack is blind there",
    "inference-gradient": "the model computes gradients while it predicts: plain attacks do not see through that",
    "changes-state": "weights, buffers or the mode of the model changed while it was evaluated",
    "black-box-wins": "a black-box attack breaks images that the attack left standing: gradients are hidden",
    "budget-unused": "the attack used less than half of its budget on every image it failed on",
}


def first_correct(model: nn.Module, x: Tensor, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """An attack's seeds: the first ``n`` images of ``x`` (m, ...) that ``model`` classifies as ``y`` (m,), with their labels.

    Looks at no more images than it needs, and raises ValueError if there are not ``n``.

    >>> x, y = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), torch.tensor([0, 0, 0])
    >>> first_correct(nn.Identity().eval(), x, y, 2)  # the second is wrong and passed over
    (tensor([[0.9000, 0.1000],
            [0.7000, 0.3000]]), tensor([0, 0]))
    """
    rows: list[Tensor] = []
    for start in range(0, len(x), 500):
        if sum(map(len, rows)) >= n:
            break
        part = slice(start, start + 500)
        rows.append(start + (predict(model, x[part]) == y[part]).nonzero()[:, 0])
    right = torch.cat(rows)[:n] if rows else torch.empty(0, dtype=torch.int64)
    if len(right) < n:
        raise ValueError(f"the model gets {len(right)} of these {len(x)} images right; {n} were asked for")
    return x[right], y[right]


@dataclass(frozen=True)
class Flag:
    """A reason not to believe a robust accuracy. ``id`` is a key of :data:`FLAGS`; ``evidence`` is what was measured.

    >>> hidden = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softmax(1)).eval()
    >>> found = robust_accuracy(hidden, torch.rand(8, 1, 2, 2), torch.zeros(8, dtype=torch.int64), lambda m, x, y: x)
    >>> [flag.id for flag in found.flags]
    ['softmax-output']
    """

    id: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.id}: {FLAGS[self.id]} ({self.evidence}; see the page flags/{self.id})"


@dataclass(frozen=True)
class RobustAccuracy:
    """What :func:`robust_accuracy` measured. Shares are in [0, 1]; ``interval`` is Clopper and Pearson's at 95 %.

    >>> from functools import partial
    >>> from advlab import attacks
    >>> x, y = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), torch.tensor([0, 0, 0])
    >>> found = robust_accuracy(nn.Identity().eval(), x, y, partial(attacks.fgsm, eps=0.15))
    >>> found.robust.tolist(), round(found.accuracy, 2), round(found.clean, 2)
    ([True, False, False], 0.33, 0.67)
    """

    accuracy: float  #: share of images that are right before and after the attack
    interval: tuple[float, float]
    n: int
    clean: float  #: share of images that are right before the attack
    flags: tuple[Flag, ...]
    x_adv: Tensor = field(repr=False)  #: (n, ...) what the attack returned
    robust: Tensor = field(repr=False)  #: (n,) bool, right before and after


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided confidence interval of a proportion (Clopper and Pearson 1934), as (low, high) in [0, 1].

    Guarantee: it covers the true proportion with probability at least ``confidence``, whatever that proportion is,
    if the n trials are independent. (0, 1) if there was no trial.
    Raises ValueError unless 0 <= successes <= n and 0 < confidence < 1.

    >>> [round(bound, 4) for bound in clopper_pearson(0, 100)]
    [0.0, 0.0362]
    """
    if not 0 <= successes <= n or not 0 < confidence < 1:
        raise ValueError(f"{successes} of {n} at confidence {confidence}: need 0 <= successes <= n and 0 < confidence < 1")
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return low, high


def median_interval(values: Tensor, confidence: float = 0.95) -> tuple[float, float, float]:
    """The median of ``values`` (n,) and a confidence interval from order statistics, as (median, low, high).

    Guarantee: the interval covers the true median with probability at least ``confidence`` for independent values of
    any distribution, if n is at least 6 (at 95 %); it is (-inf, inf) where n is too small for that.
    Raises ValueError for no values.

    >>> median_interval(torch.arange(101.0))
    (50.0, 40.0, 60.0)
    """
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values has the shape {tuple(values.shape)}; it must be (n,) with n at least 1")
    ranked = values.double().sort().values
    n = len(ranked)
    k = int(binom.ppf((1 - confidence) / 2, n, 0.5))  # P(fewer than k below the median) <= tail
    low, high = (float(ranked[k - 1]), float(ranked[n - k])) if k >= 1 else (float("-inf"), float("inf"))
    return float(ranked.quantile(0.5)), low, high


def mean_interval(values: Tensor, confidence: float = 0.95, draws: int = 2000) -> tuple[float, float, float]:
    """The mean of ``values`` (n,) and an interval by the bootstrap (percentiles of ``draws`` resamples), as (mean, low, high).

    No guarantee: it covers the true mean about as often as it says only for many values, and less often if a few of them make
    up most of the mean. It is (-inf, inf) for a single value. Raises ValueError for no values.

    >>> [round(v) for v in mean_interval(torch.arange(101.0))]
    [50, 44, 56]
    """
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values has the shape {tuple(values.shape)}; it must be (n,) with n at least 1")
    exact = values.double().numpy()
    if len(exact) == 1:
        return float(exact[0]), float("-inf"), float("inf")
    options = {"n_resamples": draws, "confidence_level": confidence, "method": "percentile", "batch": 100}
    found = bootstrap((exact,), np.mean, rng=0, **options).confidence_interval
    return float(exact.mean()), float(found.low), float(found.high)


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch_size: int = 500) -> Tensor:
    """The predicted class of each input, (n,) int64, in bounded memory.

    From logits (n, k) the class of the largest; from one logit each, (n,), class 1 where it is positive, else 0.

    >>> predict(nn.Identity().eval(), torch.tensor([[0.9, 0.1], [0.2, 0.8]])).tolist()
    [0, 1]
    """
    if not len(x):
        return torch.empty(0, dtype=torch.int64, device=x.device)
    answers = [model(part) for part in x.split(batch_size)]
    return torch.cat([a.argmax(1) if a.ndim == 2 else (a > 0).long() for a in answers])


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
    """The share of (n, ...) images ``x`` that ``model`` gets right both before and after ``attack(model, x, y)``.

    The attack is a function such as ``functools.partial(attacks.pgd, eps=0.1)``. With ``eps`` (and ``norm``, "linf" or
    "l2") it is also checked that the attack kept to its budget, and up to 100 of the images that it could not break are
    given to the Square attack with ``queries`` queries each (linf, images only): see the flag black-box-wins.

    Guarantee: none on the network. The accuracy is an upper bound of that under the strongest attack, and the interval
    speaks of this attack on fresh images. Raises as the attacks do, and ValueError for an attack that returns another
    shape, leaves [0, 1] or its budget.

    >>> from advlab import attacks
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    >>> found = robust_accuracy(net, torch.rand(8, 1, 2, 2), torch.zeros(8, dtype=torch.int64), lambda m, x, y: x)
    >>> found.accuracy == found.clean, found.n
    (True, 8)
    """
    checks.classifier_inputs(model, x, y)
    before = _state(model)
    right = predict(model, x, batch_size) == y
    parts = []
    for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        part = attack(model, images, labels)
        _check_attack(part, images, eps, norm)
        parts.append(part)
    x_adv = torch.cat(parts) if parts else x.clone()
    robust = right & (predict(model, x_adv, batch_size) == y)
    flags = list(_flags(model, x[:batch_size], y[:batch_size], before))
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


def distances(x_adv: Tensor, x: Tensor, norm: str = "linf") -> Tensor:
    """How far each example was moved, (n,), in the ``norm`` "linf", "l2" or "l0".

    "l0" is the number of values that changed, of all channels. Raises ValueError for another norm or shape.

    >>> x, x_adv = torch.zeros(1, 3), torch.tensor([[0.3, 0.4, 0.0]])
    >>> [round(distances(x_adv, x, norm).item(), 4) for norm in ("linf", "l2", "l0")]
    [0.4, 0.5, 2]
    """
    if x_adv.shape != x.shape:
        raise ValueError(f"x_adv has the shape {tuple(x_adv.shape)}, x {tuple(x.shape)}; they must be equal")
    delta = (x_adv - x).flatten(1)
    if norm == "linf":
        return delta.abs().amax(1)
    if norm == "l2":
        return delta.norm(dim=1)
    if norm == "l0":
        return (delta != 0).sum(1)
    raise ValueError(f"norm is {norm!r}; it must be 'linf', 'l2' or 'l0'")


def _check_attack(x_adv: Tensor, x: Tensor, eps: float | None, norm: str) -> None:
    if x_adv.shape != x.shape:
        raise ValueError(f"the attack returned the shape {tuple(x_adv.shape)} for {tuple(x.shape)}")
    if x.numel() and not (x_adv.min() >= 0 and x_adv.max() <= 1):
        raise ValueError(f"the attack left [0, 1]: it returned {x_adv.min():.3g} to {x_adv.max():.3g}")
    if x.numel() and eps is not None and (far := float(distances(x_adv, x, norm).max())) > eps + 1e-5:
        raise ValueError(f"the attack left its budget: it moved an image by {far:.4g} in {norm}, eps is {eps:g}")


def _state(model: nn.Module) -> dict[str, Tensor]:
    if not isinstance(model, nn.Module):
        return {}
    return {key: value.clone() for key, value in model.state_dict().items()}


def _flags(model: nn.Module, x: Tensor, y: Tensor, before: dict[str, Tensor]) -> Iterator[Flag]:
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
    after = _state(model)
    changed = [key for key, value in before.items() if not torch.equal(value, after[key])]
    if changed or getattr(model, "training", False):
        yield Flag("changes-state", f"changed: {', '.join(changed[:3]) or 'the mode'}")


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
    pairs = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    parts = [attack(source, part, part_labels) for part, part_labels in pairs if len(part)]
    x_adv = torch.cat(parts) if parts else images
    _check_attack(x_adv, images, None, "linf")
    if fooled:
        kept = predict(source, x_adv, batch_size) != labels
        x_adv, labels, index = x_adv[kept], labels[kept], index[kept]
    return x_adv, labels, index


@dataclass(frozen=True)
class Transfer:
    """What :func:`transfer_matrix` measured: rows are sources, columns targets.

    >>> net, turned = nn.Identity().eval(), nn.Linear(2, 2, bias=False).eval()
    >>> _ = turned.weight.data.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))  # exchanges the two classes
    >>> x, y = torch.tensor([[0.9, 0.1], [0.7, 0.3]]), torch.tensor([0, 0])
    >>> found = transfer_matrix({"net": net}, {"net": net, "turned": turned}, x, y, lambda m, x, y: x.flip(1))
    >>> found.targets, found.accuracy.tolist(), found.n
    (('net', 'turned'), [[0.0, 1.0]], (2,))
    """

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

    As in the papers on transfer, a source attacks only the images (n, ...) that it classifies correctly, so that rows
    have sample sizes of their own; with ``fooled``, only those count that fool the source. Intervals are Clopper and
    Pearson's at 95 %; a cell without images is nan.
    No guarantee: a target that stands here may fall to an attack that knows it. Raises as :func:`transferable`.

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
