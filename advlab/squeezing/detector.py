"""The joint detector of feature squeezing (Xu, Evans and Qi 2018, section 5): does squeezing change the answer?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor, nn

from .. import checks
from .squeezers import SQUEEZERS, Squeezer

#: What a detector takes as squeezers: functions by name, or a list of functions and of names in SQUEEZERS.
Squeezers = Mapping[str, Squeezer] | Sequence[Squeezer | str]


class Roc(NamedTuple):
    """A receiver operating characteristic: (k,) float64 tensors, one entry for each threshold, which fall from infinity.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    >>> detector = SqueezingDetector(net, ["1-bit"])
    >>> flat, noisy = torch.zeros(4, 1, 4, 4), torch.full((4, 1, 4, 4), 0.4)
    >>> detector.roc(flat, noisy).auc  # one bit changes the second alone
    1.0
    """

    auc: float
    false_positive_rates: Tensor
    detection_rates: Tensor
    thresholds: Tensor  #: here an input counts as detected where score >= threshold


def joint_score(model: Callable[[Tensor], Tensor], x: Tensor, squeezers: Squeezers) -> Tensor:
    """How much squeezing changes the answer: the greatest L1 distance between softmax(model(x)) and softmax(model(squeezed x)).

    Differentiable in ``x`` wherever the squeezers are: it is what an adaptive attack has to keep below the threshold.

    Parameters
    ----------
    model : (n, ...) -> logits (n, classes)
    x : Tensor (n, ...), in [0, 1]; checked for shapes alone
    squeezers : functions by name, or a list of functions and of names in :data:`SQUEEZERS`
    Returns
    -------
    Tensor (n,), in [0, 2]
    Raises
    ------
    TypeError, ValueError
        what is no squeezer, an unknown name, a squeezer that changes the shape, a model without logits or with probabilities,
        either of them if it changes its input in place
    Guarantee
    ---------
    The score as defined, in the model's dtype. No guarantee about attacks: see :class:`SqueezingDetector`.
    References
    ----------
    Xu et al. (2018), equation 7
    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).eval()
    >>> _ = net[1].weight.data.copy_(100 * torch.eye(2))
    >>> scores = joint_score(net, torch.tensor([[[[0.4, 0.3]]], [[[0.6, 0.3]]]]), ["1-bit"])
    >>> [round(s, 3) for s in scores.tolist()]  # one bit makes both pixels of the first image 0, and its answer a coin
    [1.0, 0.0]
    """
    return _scores(model, x, _by_name(squeezers)).amax(1)


def _by_name(squeezers: Squeezers) -> dict[str, Squeezer]:
    """Squeezers by name, in their order. A function in a list is called by its place."""
    if not isinstance(squeezers, Mapping):
        if isinstance(squeezers, str) or callable(squeezers):
            raise TypeError(f"squeezers is {squeezers!r}; it must be a list or a mapping: [{squeezers!r}]")
        if unknown := [name for name in squeezers if isinstance(name, str) and name not in SQUEEZERS]:
            raise ValueError(f"there is no squeezer {unknown[0]!r}: take a function, or one of {', '.join(SQUEEZERS)}")
        squeezers = dict((s, SQUEEZERS[s]) if isinstance(s, str) else (f"squeezer {i}", s) for i, s in enumerate(squeezers))
    if not squeezers:
        raise ValueError("squeezers is empty: give at least one, such as '1-bit'")
    for name, squeezer in squeezers.items():
        if not callable(squeezer):
            raise TypeError(f"the squeezer {name!r} is {type(squeezer).__name__}; it must be a function of a batch of images")
    return dict(squeezers)


def _scores(model: Callable[[Tensor], Tensor], x: Tensor, squeezers: Mapping[str, Squeezer]) -> Tensor:
    """Equation 6 for each squeezer, (n, k)."""
    logits = [_logits(model, x)]
    for name, squeezer in squeezers.items():
        squeezed = checks.answered(squeezer, x, f"the squeezer {name!r}")
        if squeezed.shape != x.shape:
            raise ValueError(
                f"the squeezer {name!r} turns {tuple(x.shape)} into {tuple(squeezed.shape)}; it must keep the shape"
            )
        logits.append(_logits(model, squeezed))
    rows = torch.cat(logits).detach()
    if len(rows) and rows.min() >= 0 and (rows.sum(1) - 1).abs().max() < 1e-3:
        raise ValueError(
            "the model returns probabilities (rows from 0 up that sum to 1): let it return logits, before its softmax"
        )
    plain, *others = (answer.softmax(1) for answer in logits)
    return torch.stack([(plain - other).abs().sum(1) for other in others], 1)


def _logits(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    logits = checks.answered(model, x)
    if logits.ndim != 2 or len(logits) != len(x):
        raise ValueError(f"the model maps {tuple(x.shape)} to {tuple(logits.shape)}; it must give logits (n, classes)")
    return logits


def threshold(scores: Tensor, false_positive_rate: float = 0.05) -> tuple[float, str | None]:
    """The ceil(n (1 - rate))-th smallest of the scores (n,) of clean inputs; and, if that is the greatest, what it is worth.

    >>> threshold(torch.arange(20) / 16)
    (1.125, None)
    >>> print(threshold(torch.arange(4) / 16)[1])
    the threshold is the greatest of only 4 clean scores: up to 20% of fresh ones are expected above it; give at least 20
    """
    n = len(scores)
    rank = math.ceil(n * (1 - false_positive_rate))
    note = (
        f"the threshold is the greatest of only {n} clean scores: up to {1 / (n + 1):.0%} of fresh ones are expected above it; "
        f"give at least {math.ceil(1 / false_positive_rate)}"
    )
    return scores.sort().values[rank - 1].item(), note if rank == n else None


class SqueezingDetector(BaseEstimator):
    """Flags an input as adversarial where squeezing it changes the network's answer much. High scores are suspect.

    This is the paper's sign, and not that of scikit-learn's outlier detectors, whose ``score_samples`` are low for outliers
    and whose ``predict`` gives -1 and 1: hence no ``decision_function``, no ``fit_predict`` and no ``OutlierMixin`` here.

    The score of an input is :func:`joint_score`; above a threshold, which comes from clean inputs alone, it is flagged.

    Parameters
    ----------
    model : (n, ...) in [0, 1] -> logits (n, classes), in eval mode; its dtype is that of the scores
    squeezers : functions by name, or a list of functions and of names in :data:`SQUEEZERS`, such as ``JOINT["mnist"]``
    false_positive_rate : float in (0, 1), the share of clean inputs that may be flagged
    batch_size : int, inputs worked on at a time, from 1 up; answers can differ in the last bit from one to another
    Guarantee
    ---------
    Of the inputs given to :meth:`fit`, at most floor(n false_positive_rate) score above the threshold. On fresh clean inputs
    from the same source the rate is near that, and not above it for certain.

    Known limitation: it holds no secret. An attacker who knows the squeezers puts :func:`joint_score`, or the margin on every
    squeezed input, into the loss, and finds adversarial inputs that pass (He et al. 2017); more confident adversarial inputs
    pass even without that. Never read a detection rate on attacks that ignore the detector as one on attacks that do not.
    References
    ----------
    Xu et al. (2018), section 5-A, equations 6 and 7
    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    >>> detector = SqueezingDetector(net, ["1-bit", "median 2x2"]).fit(torch.rand(100, 1, 4, 4))
    >>> detector.predict(torch.rand(5, 1, 4, 4)).shape
    torch.Size([5])
    """

    threshold_: float  #: the score above which an input is flagged
    squeezer_names_: tuple[str, ...]  #: the columns of :meth:`squeezer_scores`

    def __init__(self, model: nn.Module, squeezers: Squeezers, false_positive_rate: float = 0.05, *, batch_size: int = 250):
        self.model = model
        self.squeezers = squeezers
        self.false_positive_rate = false_positive_rate
        self.batch_size = batch_size

    def fit(self, x_clean: Tensor, y: None = None) -> SqueezingDetector:
        """Set ``threshold_`` from clean inputs: the ceil(n (1 - false_positive_rate))-th smallest of their scores.

        With fewer than 1 / false_positive_rate inputs that is the greatest of all, and a UserWarning says what it is worth.

        Parameters
        ----------
        x_clean : Tensor (n, ...), in [0, 1], some hundreds or more
        y : ignored, as scikit-learn has it
        Returns
        -------
        self, with ``threshold_`` and ``squeezer_names_``
        Raises
        ------
        TypeError, ValueError
            no inputs, a rate outside (0, 1), and as :meth:`squeezer_scores`
        """
        rate = self.false_positive_rate
        if not 0 < rate < 1:
            raise ValueError(f"false_positive_rate is {rate}; it must lie between 0 and 1, such as 0.05")
        if not len(x_clean):
            raise ValueError("x_clean is empty: give clean inputs, some hundreds or more, that the network was not attacked on")
        self.threshold_, note = threshold(self.score_samples(x_clean), rate)
        if note:
            warnings.warn(note, stacklevel=2)
        self.squeezer_names_ = tuple(_by_name(self.squeezers))
        return self

    def squeezer_scores(self, x: Tensor) -> Tensor:
        """The L1 distance for each input and each squeezer. Needs no :meth:`fit`.

        Parameters
        ----------
        x : Tensor (n, ...), in [0, 1]
        Returns
        -------
        Tensor (n, k), in [0, 2], equation 6
        Raises
        ------
        TypeError, ValueError
            bad inputs, a model in training mode or with probabilities, a squeezer that is unknown or changes the shape, a score
            of NaN
        """
        squeezers = _by_name(self.squeezers)
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")
        checks.classifier_inputs(self.model, x, torch.zeros(len(x), dtype=torch.int64, device=x.device))
        if not len(x):
            return x.new_empty(0, len(squeezers))
        with torch.no_grad():
            scores = torch.cat([_scores(self.model, part, squeezers) for part in x.split(self.batch_size)])
        if scores.isnan().any():
            bad = scores.isnan().any(1).nonzero().squeeze(1)
            raise ValueError(
                f"the scores of {len(bad)} of {len(x)} inputs are not numbers, the first at {bad[0]}: "
                "see whether the model's logits or a squeezer's output are finite there"
            )
        return scores

    def score_samples(self, x: Tensor) -> Tensor:
        """The greatest distance over the squeezers: high is suspect, other than in scikit-learn. Needs no :meth:`fit`.

        Parameters
        ----------
        x : Tensor (n, ...), in [0, 1]
        Returns
        -------
        Tensor (n,), in [0, 2], equation 7
        Raises
        ------
        TypeError, ValueError
            as :meth:`squeezer_scores`
        """
        return self.squeezer_scores(x).amax(1)

    def predict(self, x: Tensor) -> Tensor:
        """Which inputs are flagged as adversarial, true or false: those whose score exceeds ``threshold_``.

        Parameters
        ----------
        x : Tensor (n, ...), in [0, 1]
        Returns
        -------
        Tensor (n,), bool
        Raises
        ------
        NotFittedError, TypeError, ValueError
            before :meth:`fit`; as :meth:`squeezer_scores`
        """
        if not hasattr(self, "threshold_"):
            raise NotFittedError("this SqueezingDetector has no threshold yet: call fit(x_clean) with clean inputs first")
        return self.score_samples(x) > self.threshold_

    def roc(self, x_clean: Tensor, x_adv: Tensor) -> Roc:
        """What every threshold would do on clean and adversarial inputs, and the area under that curve. Needs no :meth:`fit`.

        Parameters
        ----------
        x_clean, x_adv : Tensors (n, ...) and (m, ...), in [0, 1]
        Returns
        -------
        Roc
        Raises
        ------
        TypeError, ValueError
            either is empty, and as :meth:`squeezer_scores`
        """
        if not len(x_clean) or not len(x_adv):
            raise ValueError(f"x_clean has {len(x_clean)} inputs and x_adv {len(x_adv)}; a ROC curve needs some of each")
        scores = torch.cat([self.score_samples(x_clean), self.score_samples(x_adv)]).double().cpu().numpy()
        truth = [False] * len(x_clean) + [True] * len(x_adv)
        curves = (torch.from_numpy(curve) for curve in roc_curve(truth, scores, drop_intermediate=False))
        return Roc(float(roc_auc_score(truth, scores)), *curves)
