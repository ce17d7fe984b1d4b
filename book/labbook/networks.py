"""The networks that claims measure: each is loaded once in a process."""

from __future__ import annotations

import functools

from torch import nn

from advlab import zoo


@functools.cache
def network(name: str) -> nn.Module:
    """A network of the zoo, without gradients of its weights, for all who ask: leave it as it is.

    >>> network("mnist_small") is network("mnist_small")
    True
    """
    return zoo.load(name).requires_grad_(False)
