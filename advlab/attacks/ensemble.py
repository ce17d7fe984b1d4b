"""AutoAttack, the reference protocol."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .contract import attack
from .steps import project


@attack
def autoattack(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: float, norm: str = "linf", seed: int = 0, batch_size: int = 250
) -> Tensor:
    """AutoAttack's standard ensemble, imported from ``pyautoattack``: the reference protocol.

    Thousands of passes for each image of a network that resists. The attack works on a frozen copy of the model.
    Raises ImportError without the extra: ``pip install advlab[autoattack]``.

    Parameters
    ----------
    norm : "linf" or "l2"
    seed, batch_size : of its random points, and of its passes

    References
    ----------
    Croce and Hein (2020).

    Examples
    --------
    >>> x = torch.zeros(1, 1, 2, 5)
    >>> x[0, 0, 0, :3] = torch.tensor([0.6, 0.4, 0.2])
    >>> net = nn.Flatten().eval()  # its ten logits are the pixels
    >>> net(autoattack(net, x, torch.tensor([0]), eps=0.2)).argmax(1).tolist()  # a margin of 0.2, against 2 eps
    [1]
    """
    try:
        from pyautoattack import AutoAttack
    except ImportError as e:
        raise ImportError("AutoAttack needs the package pyautoattack: pip install 'advlab[autoattack]'") from e
    frozen = copy.deepcopy(model).requires_grad_(False)
    name = "Linf" if norm == "linf" else "L2"
    with torch.random.fork_rng():
        ensemble = AutoAttack(frozen, norm=name, eps=eps, seed=seed, device=x.device)
        x_adv, _ = ensemble.run_standard_evaluation(x, y, batch_size=batch_size)
    return project(x_adv.detach().to(x), x, eps, norm)
