"""What is taken out of a trained network: small weights, and ReLUs that hardly ever switch (Xiao et al. 2019, section 3.2)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .. import checks
from ..models import MaskedReLU
from .bounds import layers


def prune_small_weights(net: nn.Module, threshold: float = 1e-3) -> nn.Module:
    """A copy of ``net`` without small weights, in all layers but the last; biases stay.

    Parameters
    ----------
    net : ``nn.Sequential``
    threshold : float from 0 up, finite; weights below it in size become 0
    Returns
    -------
    nn.Module, a copy
    Raises
    ------
    TypeError, ValueError
        a network that is no ``nn.Sequential``, another threshold
    Guarantee
    ---------
    No guarantee: it is another function. Measure its accuracy anew.
    References
    ----------
    Xiao et al. (2019), section 3.2
    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[0.0005, 0.5]]))
    >>> prune_small_weights(net)[0].weight.tolist()
    [[0.0, 0.5]]
    """
    checks.setting("threshold", threshold, checks.NOT_NEGATIVE)
    pruned = copy.deepcopy(net)
    stages = [layer for layer in layers(pruned) if isinstance(layer, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        for layer in stages[:-1]:
            layer.weight[layer.weight.abs() < threshold] = 0
    return pruned


def prune_relus(net: nn.Module, x: Tensor, fraction: float = 0.1, *, batch_size: int = 500) -> nn.Module:
    """A copy of ``net`` in which ReLUs that hardly ever switch in eval mode are replaced by what they nearly always do.

    Parameters
    ----------
    net : ``nn.Sequential``
    x : Tensor (n, ...) in [0, 1] to count on, for which the paper takes the attacked training set
    fraction : float in [0, 0.5): a unit on for at most that share becomes zero, for at least 1 minus it the identity
    batch_size : int, inputs at a time
    Returns
    -------
    nn.Sequential, whose ReLU layers are :class:`MaskedReLU`
    Raises
    ------
    TypeError, ValueError
        a network that is no ``nn.Sequential``, a fraction or batch size out of range, no inputs, or any outside [0, 1]
    Guarantee
    ---------
    No guarantee: it is another function. Measure its accuracy anew.
    References
    ----------
    Xiao et al. (2019), section 3.2
    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    >>> _ = net[0].weight.data.fill_(1), net[0].bias.data.copy_(torch.tensor([1.0, -0.5, -2.0]))
    >>> prune_relus(net, torch.linspace(0, 1, 100)[:, None])[1]
    MaskedReLU(relu=1, identity=1, zero=1)
    """
    checks.setting("fraction", fraction, (lambda v: 0 <= v < 0.5, "from 0 to below 0.5"))
    checks.setting("batch_size", batch_size, checks.COUNT)
    checks.tensors(x=x)
    checks.inputs(x)
    if not len(x):
        raise ValueError("there are no inputs to count on")
    made = list(layers(copy.deepcopy(net).eval()))
    counts: dict[int, Tensor] = {}
    with torch.no_grad():
        for part in x.split(batch_size):
            for k, layer in enumerate(made):
                if isinstance(layer, nn.ReLU):
                    counts[k] = counts.get(k, 0) + (part > 0).sum(0)
                part = layer(part)
    few, many = fraction * len(x), (1 - fraction) * len(x)
    kept: list[nn.Module] = []
    for k, layer in enumerate(made):
        if k in counts:
            kept.append(MaskedReLU((counts[k] >= many).to(torch.int8) - (counts[k] <= few).to(torch.int8)))
        else:
            kept.append(layer)
    return nn.Sequential(*kept).train(net.training)
