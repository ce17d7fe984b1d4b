"""Networks with masks on their feature maps."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Generator, Tensor, nn

from .. import checks, models
from .masks import RandomMask

#: The paper's names for stages of ResNet-18; 0 is the stem.
STAGES = {"shallow": (0, 1, 2), "deep": (3, 4)}
#: A share that leaves something.
PART: checks.Range = (lambda v: 0 <= v < 1, "from 0 to below 1")


def insert_masks(
    net: nn.Module,
    drop: float | Mapping[str, float],
    *,
    layers: Iterable[str],
    shape: Sequence[int],
    kind: str = "element",
    period: int | None = None,
    block: int | None = None,
    generator: Generator | None = None,
) -> nn.Module:
    """A copy of ``net`` in which each of ``layers`` is followed by a :class:`RandomMask` of its output's shape.

    Parameters
    ----------
    net : nn.Module; in the copy, the layer is ``NAME.0`` and its mask ``NAME.1``
    drop : float in [0, 1], or one for each name
    layers : names of :meth:`torch.nn.Module.named_modules`; masks are drawn in the order of the network
    shape : of one input of the network
    kind, period, block, generator : as in :func:`draw_mask`
    Returns
    -------
    nn.Module, with weights of its own
    Raises
    ------
    ValueError
        a name that the network lacks or does not call once, or that ``drop`` lacks, a shape that the network does not take, an
        output that is not (n, c, h, w); as :func:`draw_mask`
    Guarantee
    ---------
    No guarantee. Known limitation: that of :class:`RandomMask`.
    References
    ----------
    Luo et al. (2018), section 2
    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2704, 10))
    >>> masked = insert_masks(net, 0.25, layers=["0"], shape=(1, 28, 28))
    >>> round((masked[0](torch.rand(1, 1, 28, 28)) == 0).float().mean().item(), 4)
    0.25
    """
    layers = list(layers)
    if isinstance(drop, Mapping) and (missing := sorted(set(layers) - drop.keys())):
        raise ValueError(f"drop has no share for the layer {missing[0]!r}: give one for each of {', '.join(layers)}")

    def mask(name: str, size: torch.Size) -> nn.Module:
        share = drop[name] if isinstance(drop, Mapping) else drop
        return RandomMask(size, share, kind=kind, period=period, block=block, generator=generator)

    return insert_layers(net, mask, layers=layers, shape=shape)


def insert_layers(
    net: nn.Module, make: Callable[[str, torch.Size], nn.Module], *, layers: Iterable[str], shape: Sequence[int]
) -> nn.Module:
    """A copy of ``net`` in which each of ``layers`` is followed by ``make(name, shape of one output (c, h, w))``.

    The rest is as in :func:`insert_masks`, which this is the general form of.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2704, 10))
    >>> insert_layers(net, lambda name, shape: nn.LayerNorm(shape), layers=["0"], shape=(1, 28, 28))[0]
    Sequential(
      (0): Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1))
      (1): LayerNorm((4, 26, 26), eps=1e-05, elementwise_affine=True, bias=True)
    )
    """
    made, found = copy.deepcopy(net), {}
    modules, wanted = dict(made.named_modules()), set(layers)
    if unknown := sorted(wanted - modules.keys()):
        raise ValueError(f"the network has no layer {unknown[0]!r}; it has {', '.join(filter(None, modules))}")
    seen: dict[str, list[Tensor]] = {name: [] for name in modules if name in wanted}
    hooks = [modules[name].register_forward_hook(functools.partial(_keep, outputs)) for name, outputs in seen.items()]
    modes = {m: m.training for m in made.modules()}
    device = next(iter(made.parameters()), torch.empty(0)).device
    try:
        with torch.no_grad():
            made.eval()(torch.zeros(1, *shape, device=device))
    except RuntimeError as e:
        raise ValueError(f"the network takes no inputs of the shape {tuple(shape)}: {e}") from e
    for m, mode in modes.items():
        m.training = mode
    for hook in hooks:
        hook.remove()
    for name, outputs in seen.items():
        if len(outputs) != 1 or outputs[0].ndim != 4:
            says = f"is called {len(outputs)} times" if len(outputs) != 1 else f"puts out {tuple(outputs[0].shape)}"
            raise ValueError(f"layer {name!r} {says}; it must be called once and put out (n, c, h, w)")
        found[name] = nn.Sequential(modules[name], make(name, outputs[0].shape[1:]).to(device))
    for name, pair in found.items():
        parent, _, child = name.rpartition(".")
        setattr(modules[parent], child, pair)
    return made


def redraw_masks(net: nn.Module, *, generator: Generator | None = None) -> nn.Module:
    """A copy of ``net`` in which every :class:`RandomMask` is drawn anew, of the same kind and drop ratio.

    What a network would be with its weights and other masks. Raises ValueError for a network without such masks.

    >>> net = masked_resnet(8, 4).eval()
    >>> other, x = redraw_masks(net).eval(), torch.rand(1, 3, 32, 32)
    >>> net(x).equal(net(x)), net(x).equal(other(x))
    (True, False)
    """
    made = copy.deepcopy(net)
    masks = [layer for layer in made.modules() if isinstance(layer, RandomMask)]
    if not masks:
        raise ValueError("the network has no RandomMask: put some in with insert_masks")
    for mask in masks:
        options = {"kind": mask.kind, "period": mask.period, "block": mask.block, "generator": generator}
        fresh = RandomMask(mask.kept.shape[1:], mask.drop, **options)
        mask.kept.copy_(fresh.kept)
        mask.seed.copy_(fresh.seed)
    return made


def _keep(outputs: list[Tensor], layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    outputs.append(output)


def stage_numbers(stages: str | Iterable[int]) -> list[int]:
    """The numbers of ``stages``, in order, given by them or by a name of :data:`STAGES`. Raises ValueError for anything else.

    >>> stage_numbers("deep"), stage_numbers({2, 0})
    ([3, 4], [0, 2])
    """
    if isinstance(stages, str) and stages in STAGES:
        return list(STAGES[stages])
    if isinstance(stages, str) or not isinstance(stages, Iterable):
        raise ValueError(f"stages is {stages!r}; it must be 'shallow', 'deep' or numbers, such as (0, 1, 2)")
    return sorted(stages)


def _no_stage(stage: int, last: int) -> ValueError:
    return ValueError(f"there is no stage {stage}; the network has 0, the stem, and 1 to {last}")


def masked_layers(net: nn.Module, stage: int) -> list[str]:
    """The batch norms of a stage of :func:`advlab.models.resnet` that a mask follows."""
    start = "stem." if stage == 0 else f"stage{stage}."
    modules = dict(net.named_modules())
    names = [name for name, m in modules.items() if isinstance(m, nn.BatchNorm2d) and name.startswith(start)]
    if not names:
        raise _no_stage(stage, sum(name.startswith("stage") and "." not in name for name in modules))

    def kernel(name: str) -> int:
        parent, _, child = name.rpartition(".")
        return modules[f"{parent}.{int(child) - 1}"].kernel_size[0]  # type: ignore[union-attr, index]

    if any(kernel(name) == 1 and ".residual." in name for name in names):  # bottlenecks: the paper masks 3 x 3 convolutions
        return [name for name in names if kernel(name) == 3]
    return names


def masked_resnet(
    depth: int = 18,
    width: int = 64,
    drop: float | Mapping[int, float] = 0.5,
    stages: str | Iterable[int] = (0, 1, 2),
    *,
    kind: str = "element",
    period: int | None = None,
    block: int | None = None,
    generator: Generator | None = None,
) -> nn.Module:
    """:func:`advlab.models.resnet` with masks after batch norm, before ReLU.

    Every batch norm of the chosen stages is followed by a mask, also that of a shortcut that has a convolution; a shortcut
    without one is not masked, so that a masked position can be above 0 after the sum. With bottlenecks (depth 50), only 3 x 3
    convolutions are.

    Parameters
    ----------
    depth, width : int, of :func:`advlab.models.resnet`
    drop : float in [0, 1], or one for each stage, such as ``{0: 0.3, 4: 0.7}``, whose keys are then the stages
    stages : numbers, 0 for the stem; or "shallow" (0, 1, 2: the paper's defence) or "deep" (3, 4)
    kind, period, block, generator : as in :func:`draw_mask`
    Returns
    -------
    nn.Module, (n, 3, 32, 32) -> logits (n, 10)
    Raises
    ------
    ValueError
        unknown stages, depths and shares; as :func:`draw_mask`
    Guarantee
    ---------
    No guarantee. Known limitation: that of :class:`RandomMask`.
    References
    ----------
    Luo et al. (2018), section 3
    Examples
    --------
    >>> net = masked_resnet(18, 4)
    >>> len([layer for layer in net.modules() if isinstance(layer, RandomMask)])  # as in the paper: 1 + 4 + 5
    10
    """
    chosen = stage_numbers(drop.keys() if isinstance(drop, Mapping) else stages)
    net = models.resnet(depth, width)
    shares: dict[str, float] = {}
    for stage in chosen:
        share = drop[stage] if isinstance(drop, Mapping) else drop
        shares |= dict.fromkeys(masked_layers(net, stage), share)
    options = {"kind": kind, "period": period, "block": block, "generator": generator}
    masked = insert_masks(net, shares, layers=shares, shape=(3, 32, 32), **options)  # type: ignore[arg-type]
    return masked.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]


def masked_stability_cnn(
    drop: float = 0.5, channels: int = 1, size: int = 28, *, generator: Generator | None = None
) -> nn.Module:
    """:func:`advlab.models.stability_cnn` with a mask behind both of its convolutions. (n, c, h, w) -> logits (n, 10).

    A mask makes units constant, so that the verifier of chapter 3 takes the network. ``generator`` draws the masks, and torch's
    global one the weights. Known limitation: that of :class:`RandomMask`. Raises ValueError for a share outside [0, 1).

    >>> net = masked_stability_cnn(0.75)
    >>> [round(1 - m.kept.float().mean().item(), 4) for m in net.modules() if isinstance(m, RandomMask)]
    [0.75, 0.7551]
    """
    checks.setting("drop", drop, PART)
    net = models.stability_cnn(channels, size)
    return insert_masks(net, drop, layers=("0", "2"), shape=(channels, size, size), generator=generator)


def narrow_resnet(
    depth: int = 18, width: int = 64, drop: float = 0.5, stages: str | Iterable[int] = (0, 1, 2)
) -> nn.Sequential:
    """The paper's control for masks, which it calls a channel mask: a plain network with fewer channels in these stages.

    Each has (1 - ``drop``) times its channels, rounded up, and at least 1. That removes weights too, not only values, so
    that it is no channel mask; :func:`masked_resnet` with ``kind="channel"`` is. The authors' code also puts a convolution
    into the first shortcut, which is left out here. ``stages`` are those of :func:`masked_resnet`. Raises ValueError for a
    share outside [0, 1), and unknown stages and depths.

    >>> full, narrow, masked = models.resnet(8, 16), narrow_resnet(8, 16), masked_resnet(8, 16)
    >>> sizes = [sum(p.numel() for p in net.parameters()) for net in (full, narrow, masked)]
    >>> round(sizes[1] / sizes[0], 2), sizes[2] / sizes[0]  # masks leave all weights
    (0.68, 1.0)
    """
    checks.setting("drop", drop, PART)
    full = [width, *(width * 2**k for k in range(len(models.resnet_blocks(depth))))]
    left = [max(1, math.ceil(round(w * (1 - drop), 9))) for w in full]
    chosen = stage_numbers(stages)
    if unknown := [stage for stage in chosen if stage not in range(len(full))]:
        raise _no_stage(unknown[0], len(full) - 1)
    return models.resnet(depth, [left[k] if k in chosen else w for k, w in enumerate(full)])


class Coordinates(nn.Module):
    """Appends each position's row and column, from -1 to 1, as two channels: (n, c, h, w) -> (n, c + 2, h, w).

    >>> Coordinates()(torch.zeros(1, 1, 2, 3))[0, 1:].tolist()
    [[[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]], [[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]]]
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (torch.linspace(-1, 1, side, dtype=x.dtype, device=x.device) for side in x.shape[2:])
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        return torch.cat([x, places.expand(len(x), -1, -1, -1)], 1)


def coordinate_resnet(depth: int = 18, width: int = 64) -> nn.Sequential:
    """:func:`advlab.models.resnet` whose first convolution sees :class:`Coordinates` too (CoordConv, Liu et al. 2018).

    A control for masks: it can tell positions apart, as a masked network must, and nothing is taken from it.

    >>> coordinate_resnet(8, 4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    net = models.resnet(depth, width)
    stem = cast(nn.Sequential, net.get_submodule("stem"))
    first = cast(nn.Conv2d, stem[0])
    stem[0] = nn.Sequential(Coordinates(), nn.Conv2d(first.in_channels + 2, first.out_channels, 3, 1, 1, bias=False))
    return net.to(memory_format=torch.channels_last)  # pyrefly: ignore[no-matching-overload]
