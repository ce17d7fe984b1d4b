"""What an attack makes large, and when its goal is met."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

#: ``loss(logits (n, k), y (n,), targets (n,) or None) -> (n,)``, which an attack makes large.
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def ce_loss(logits: Tensor, y: Tensor, targets: Tensor | None = None) -> Tensor:
    """Cross entropy of ``y``, or minus that of ``targets``. Its gradient vanishes where softmax saturates.

    >>> import torch
    >>> logits, y = torch.tensor([[0.0, 0.0], [3.0, -3.0]]), torch.tensor([0, 0])
    >>> [round(v, 4) for v in ce_loss(logits, y).tolist()]  # undecided: log 2; certain: little is left to climb
    [0.6931, 0.0025]
    """
    return cross_entropy(logits, y, reduction="none") if targets is None else -cross_entropy(logits, targets, reduction="none")


def margin_loss(logits: Tensor, y: Tensor, targets: Tensor | None = None) -> Tensor:
    """The best wrong logit minus that of ``y`` (above 0: misclassified); or that of ``targets`` minus the best other.

    >>> import torch
    >>> logits, y = torch.tensor([[3.0, 1.0, 2.0], [0.0, 1.0, 2.0]]), torch.tensor([0, 0])
    >>> margin_loss(logits, y).tolist()  # right by 1, wrong by 2
    [-1.0, 2.0]
    """
    if targets is not None:
        return -margin_loss(logits, targets)
    own = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], -math.inf).amax(1) - own


def dlr_loss(logits: Tensor, y: Tensor, targets: Tensor | None = None) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020, equations 6 and 7): the margin, free of the logits' scale.

    Needs 3 classes, 4 with ``targets``; raises ValueError for fewer.

    >>> import torch
    >>> logits, y = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0])
    >>> [round(dlr_loss(scale * logits, y).item(), 4) for scale in (1, 100)]
    [-0.5, -0.5]
    """
    need = 3 if targets is None else 4
    if logits.shape[1] < need:
        raise ValueError(f"the DLR loss needs {need} classes, the model has {logits.shape[1]}: take loss='margin'")
    ranked = logits.sort(1, descending=True).values
    if targets is None:
        return margin_loss(logits, y) / (ranked[:, 0] - ranked[:, 2] + 1e-12)
    gap = logits.gather(1, targets[:, None]).squeeze(1) - logits.gather(1, y[:, None]).squeeze(1)
    return gap / (ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2 + 1e-12)


#: The losses by the names that attacks take as ``loss``.
LOSSES: dict[str, Loss] = {"ce": ce_loss, "margin": margin_loss, "dlr": dlr_loss}


def loss_function(loss: str | Loss) -> Loss:
    """The loss of that name; a function as it is. Raises ValueError for a name that is not in :data:`LOSSES`."""
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; it must be one of {', '.join(LOSSES)}, or a function")
    return LOSSES[loss]


@dataclass(frozen=True)
class Goal:
    """What an attack is to reach: any class but ``y`` (n,), or ``targets`` (n,). ``goal[rows]`` is that of some examples.

    ``rival`` (n,) is the class that the loss is to favour where any class will do.
    """

    y: Tensor
    targets: Tensor | None
    confidence: float = 0.0
    rival: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> Goal:
        targets, rival = (None if classes is None else classes[rows] for classes in (self.targets, self.rival))
        return Goal(self.y[rows], targets, self.confidence, rival)

    def met(self, logits: Tensor) -> Tensor:
        """Where logits (n, k) meet the goal, (n,) bool."""
        guess = logits.argmax(1)
        return guess != self.y if self.targets is None else guess == self.targets

    def margin(self, logits: Tensor) -> Tensor:
        """The :func:`margin_loss` of logits (n, k), (n,): above 0 where the goal is met."""
        return margin_loss(logits, self.y, self.targets)

    def gap(self, logits: Tensor) -> Tensor:
        """What the margin still lacks to ``confidence``, (n,): below 0 where it has more."""
        return self.confidence - self.margin(logits)
