"""Randomised smoothing: a certificate for any classifier, in l2 and with a stated probability of being wrong.

Cohen, Rosenfeld and Kolter (2019). The smoothed classifier g(x) is the class that ``model`` gives most often to x plus Gaussian
noise of standard deviation sigma. If that class has a probability of at least p > 1/2, g answers it within sigma times the
normal quantile of p, in l2, around x. Only p must be estimated, and that is a matter of counting.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.special import ndtri
from scipy.stats import binomtest
from torch import Generator, Tensor, nn

from .. import checks
from ..evaluate import clopper_pearson, predict

ABSTAIN = -1  #: the answer where the samples do not decide


class Certified(NamedTuple):
    """What :func:`certified_radius` found for n images.

    >>> found = Certified(torch.tensor([3, ABSTAIN]), torch.tensor([0.8, 0.0]))
    >>> ((found.classes == torch.tensor([3, 5])) & (found.radii >= 0.5)).tolist()  # certified, and right
    [True, False]
    """

    classes: Tensor  #: (n,) int64, ABSTAIN where nothing could be certified
    radii: Tensor  #: (n,) float64, in l2, 0 where it abstains


def _counts(model: nn.Module, x: Tensor, sigma: float, n: int, generator: Generator | None, batch_size: int) -> Tensor:
    """How often each class is the answer to ``n`` noisy copies of one image ``x`` without a batch dimension, (k,) int64."""
    counts = torch.zeros(0, dtype=torch.int64)
    for begin in range(0, n, batch_size):
        some = min(batch_size, n - begin)
        device = x.device if generator is None else generator.device
        noise = torch.randn(some, *x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
        found = torch.bincount(predict(model, x + sigma * noise, some).cpu(), minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    return counts


def _settings(x: Tensor, sigma: float, alpha: float, **counts: int) -> None:
    checks.tensors(x=x)
    checks.inputs(x)
    checks.setting("sigma", sigma, checks.POSITIVE)
    checks.setting("alpha", alpha, (lambda v: 0 < v < 0.5, "between 0 and 1/2"))
    for name, value in counts.items():
        checks.setting(name, value, checks.COUNT)


def smoothed_predict(
    model: nn.Module,
    x: Tensor,
    *,
    sigma: float,
    n: int = 100,
    alpha: float = 0.001,
    generator: Generator | None = None,
    batch_size: int = 1000,
) -> Tensor:
    """The answer of the smoothed classifier for each image, or :data:`ABSTAIN` where ``n`` samples do not decide.

    Parameters
    ----------
    model : maps (n, ...) to logits (n, k), in eval mode; it must take values outside of [0, 1], since noise leads there
    x : (n, ...), in [0, 1]
    sigma : standard deviation of the noise in each value
    n, alpha : samples for an image, and the probability with which an answer may be wrong
    generator : source of the noise
    batch_size : noisy copies in one pass

    Returns
    -------
    classes : (n,) int64, ABSTAIN where the two most frequent classes might be equally likely

    Raises
    ------
    TypeError, ValueError
        for what is no image in [0, 1], settings outside of their range, and models that :func:`advlab.evaluate.predict` refuses

    Guarantee
    ---------
    Each answer that is not ABSTAIN is that of the smoothed classifier with probability at least 1 - ``alpha``.

    References
    ----------
    Cohen, Rosenfeld and Kolter (2019), algorithm PREDICT and proposition 1.

    Examples
    --------
    >>> net = nn.Identity().eval()  # its logits are the two inputs
    >>> x = torch.tensor([[0.9, 0.1], [0.5, 0.5]])
    >>> smoothed_predict(net, x, sigma=0.25, generator=torch.Generator().manual_seed(0)).tolist()
    [0, -1]
    """
    _settings(x, sigma, alpha, n=n, batch_size=batch_size)
    answers = []
    for image in x:
        counts = torch.cat([_counts(model, image, sigma, n, generator, batch_size), torch.zeros(2, dtype=torch.int64)])
        first, second = counts.topk(2)
        most, rest = (int(v) for v in first)
        answers.append(int(second[0]) if binomtest(most, most + rest).pvalue <= alpha else ABSTAIN)
    return torch.tensor(answers, dtype=torch.int64)


# Over 60 lines, two thirds of which are its documentation.
def certified_radius(
    model: nn.Module,
    x: Tensor,
    *,
    sigma: float,
    n: int = 1000,
    n_select: int = 100,
    alpha: float = 0.001,
    generator: Generator | None = None,
    batch_size: int = 1000,
) -> Certified:
    """The smoothed classifier's answer for each image, and an l2 radius within which it does not change.

    ``n_select`` samples choose a class, and ``n`` others bound its probability from below by p; the radius is sigma times the
    normal quantile of p, and an image with p <= 1/2 is left open. So no radius exceeds sigma times the quantile of
    alpha ** (1 / n), whatever the network: it is bought with samples.

    Parameters
    ----------
    model : maps (n, ...) to logits (n, k), in eval mode; it must take values outside of [0, 1], since noise leads there
    x : (n, ...), in [0, 1]
    sigma : standard deviation of the noise in each value; more of it certifies farther, and blurs
    n, n_select, alpha : samples that bound, samples that choose, and the probability with which a radius may be wrong
    generator : source of the noise
    batch_size : noisy copies in one pass

    Returns
    -------
    Certified, with ``classes`` (n,) and ``radii`` (n,)

    Raises
    ------
    TypeError, ValueError
        as :func:`smoothed_predict`

    Guarantee
    ---------
    For each image by itself, with probability at least 1 - ``alpha`` over the noise drawn here: the *smoothed* classifier
    answers that class at every point less than the radius away in l2. Nothing is said of ``model`` itself, and the smoothed
    classifier, which is itself only sampled in use, may abstain there. The bound is on real numbers; the Gaussian is
    torch's.

    References
    ----------
    Cohen, Rosenfeld and Kolter (2019), algorithm CERTIFY, theorem 1 and proposition 2.

    Examples
    --------
    >>> net = nn.Identity().eval()  # its logits are the two inputs: the border is (0.9 - 0.1) / sqrt(2) = 0.566 away
    >>> found = certified_radius(net, torch.tensor([[0.9, 0.1]]), sigma=0.5, generator=torch.Generator().manual_seed(0))
    >>> found.classes.tolist(), 0.4 < found.radii.item() <= 0.8 / 2**0.5
    ([0], True)
    """
    _settings(x, sigma, alpha, n=n, n_select=n_select, batch_size=batch_size)
    classes, radii = [], []
    for image in x:
        chosen = int(_counts(model, image, sigma, n_select, generator, batch_size).argmax())
        counts = _counts(model, image, sigma, n, generator, batch_size)
        hits = int(counts[chosen]) if chosen < len(counts) else 0
        p = clopper_pearson(hits, n, 1 - 2 * alpha)[0]
        classes.append(chosen if p > 0.5 else ABSTAIN)
        radii.append(sigma * float(ndtri(p)) if p > 0.5 else 0.0)
    return Certified(torch.tensor(classes, dtype=torch.int64), torch.tensor(radii, dtype=torch.float64))
