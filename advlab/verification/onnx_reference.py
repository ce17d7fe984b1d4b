"""What ONNX's own reference says: of operators on constants, and of a whole network at one input."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import nn


def folded(node: Any, constants: dict[str, np.ndarray], opsets: dict[str, int]) -> list[np.ndarray]:
    """What an operator on constants gives."""
    from onnx.reference import ReferenceEvaluator

    given = {name: constants[name] for name in node.input if name}
    return cast(list[np.ndarray], ReferenceEvaluator(node, opsets=opsets).run(None, given))


def compare(model: Any, net: nn.Module, sizes: list[int], shape: tuple[int, ...]) -> None:
    """Raises TypeError where ``net``, on inputs of ``shape``, is not the function of ``model``, whose input has ``sizes``."""
    from onnx.reference import ReferenceEvaluator

    dtype = next((p.dtype for p in net.state_dict().values() if p.is_floating_point()), torch.float32)
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(0)).to(dtype)
    constants = {t.name for t in model.graph.initializer}
    name = next(i.name for i in model.graph.input if i.name not in constants)
    (expected,) = cast(list[np.ndarray], ReferenceEvaluator(model).run(None, {name: x.numpy()}))
    try:
        with torch.no_grad():
            found = net(x.view(1, *shape)).numpy()
    except (RuntimeError, ValueError) as e:
        raise TypeError(f"the network, as it was read, does not take an input of its shape {shape}: {e}") from e
    if found.size != expected.size or abs(found.ravel() - expected.ravel()).max() > 1e-2 * abs(expected).max() + 1e-6:
        raise TypeError("the network was read as another function than ONNX's reference computes: please report the file")
