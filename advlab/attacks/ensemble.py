"""AutoAttack, the reference protocol."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .contract import Guarded, attack
from .steps import project


@attack
def autoattack(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: float, norm: str = "linf", seed: int = 0, batch_size: int = 250
) -> Tensor:
    """AutoAttack's standard ensemble, imported from ``pyautoattack``: the reference protocol.

    Thousands of passes for each image of a network that resists; meanwhile its weights want no gradients. With fewer than four
    classes, for which there is no targeted DLR loss, its place is empty; of (n, d) Square changes the d values as channels.
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
    name = "Linf" if norm == "linf" else "L2"
    weights = [weight for part in cast(Guarded, model).parts for weight in part.parameters() if weight.requires_grad]
    images = (x if x.ndim == 4 else x.reshape(len(x), -1, 1, 1)).contiguous()  # the package takes views of them
    shaped = nn.Sequential(nn.Flatten(), nn.Unflatten(1, x.shape[1:]), model)
    try:
        for weight in weights:
            weight.requires_grad_(False)
        with torch.random.fork_rng():
            ensemble = AutoAttack(shaped, norm=name, eps=eps, seed=seed, device=x.device)
            if (others := model(x[:1]).shape[1] - 1) < 9:
                ensemble.fab.n_target_classes = ensemble.apgd_targeted.n_target_classes = others
            if others < 3:
                ensemble.attacks_to_run = ["apgd-ce", "fab-t", "square"]
            x_adv, _ = ensemble.run_standard_evaluation(images, y, batch_size=batch_size)
    finally:
        for weight in weights:
            weight.requires_grad_()
    return project(x_adv.detach().to(x).view_as(x), x, eps, norm)
