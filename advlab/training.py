"""One training loop, for fixed sets and for fresh samples: progress bar, checkpoints without pickle, exact resuming.

Each epoch draws all its randomness (order, dropout, augmentation) from a seed of its own, so that a run which was broken
off and resumed ends with the same weights as one that was not, on the same machine and thread count.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from .attacks.steps import drawing
from .store import write

Loss = Callable[..., Tensor]
Batches = Iterable[tuple[Tensor, Tensor]]
Transform = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross entropy of the batch, the default loss."""
    return nn.functional.cross_entropy(model(x), y)


def binary_cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean sigmoid cross entropy of one logit per example, (n,), and labels 0 and 1."""
    return nn.functional.binary_cross_entropy_with_logits(model(x), y.to(x.dtype))


def smoothed_cross_entropy(model: nn.Module, x: Tensor, y: Tensor, smoothing: float = 0.1) -> Tensor:
    """Mean cross entropy with labels smoothed by ``smoothing`` (Szegedy et al. 2016)."""
    return nn.functional.cross_entropy(model(x), y, label_smoothing=smoothing)


def in_bfloat16(function: Callable[..., Tensor], model: nn.Module, *inputs: Any, **options: Any) -> Tensor:
    """``function(model, *inputs)`` with the network's matrix products in bfloat16 and its logits in float32.

    With functools.partial, a loss or a transform for :func:`fit`: weights and optimiser stay in float32. On processors with
    bfloat16 instructions it is about twice as fast; on others it is right, and slower. For training, not for attacks that are
    reported: gradients have 8 significant bits.
    """
    device = next(model.parameters()).device.type

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            logits = model(x)
        return logits.float()

    return function(forward, *inputs, **options)


def flip_and_shift(
    model: nn.Module, x: Tensor, y: Tensor, done: float, pixels: int = 2, *, generator: Generator | None = None
) -> Tensor:
    """A :func:`fit` transform: each image of (n, c, h, w) is mirrored or not, and moved by up to ``pixels`` each way.

    By default it draws with torch's global generator, which :func:`fit` seeds.
    """
    n, _, h, w = x.shape
    source = drawing(generator)
    x = torch.where((torch.rand(n, 1, 1, 1, **source) < 0.5).to(x.device), x.flip(3), x)
    padded = nn.functional.pad(x, [pixels] * 4, mode="reflect")
    top, left = torch.randint(2 * pixels + 1, (2, n, 1), **source).cpu()
    rows, columns = top + torch.arange(h), left + torch.arange(w)  # (n, h), (n, w)
    places = (torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :])
    each, rows, columns = (v.to(x.device) for v in places)
    return padded[each, :, rows, columns].movedim(3, 1)


# 12 parameters: what every training has to say, by its usual names; fit_online writes them out again, for help() and editors.
# Over 60 lines: most are these names and what they mean.
def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch_size: int = 128,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = torch.optim.Adam,
    schedule: Callable[[int, int], float] | None = None,
    loss: Loss = cross_entropy,
    transform: Transform | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> list[float]:
    """Train ``model`` in place, and leave it in eval mode. Incomplete last batches are used too.

    Parameters
    ----------
    model : (n, ...) -> whatever ``loss`` takes
    x, y : (n, ...) and (n,), all training examples
    epochs, batch_size : 1 or more
    optimizer : makes the optimiser from the parameters
    schedule : (step, steps) -> the factor on its learning rate
    loss : (model, x, y) -> what is minimised, such as the mean over a batch; one with a parameter ``done`` is also given the
        share of training done, in [0, 1), for weights and budgets that rise
    transform : (model, x, y, done) -> the batch as it is trained on (augmentation, an attack), with the model in eval mode;
        done is the share of training done, in [0, 1)
    seed : of order, dropout and augmentation
    checkpoint : where the state is written after each epoch (safetensors, atomically), and where a call goes on from
    progress : a bar or not

    Returns
    -------
    losses : the mean loss of each epoch

    Raises
    ------
    ValueError
        for lengths that differ, epochs or batch sizes below 1; for a checkpoint that is damaged, or of another run: another
        network, other data (all labels and some examples are looked at), or other settings (functions go by their names)

    Guarantee
    ---------
    A run that was broken off and goes on ends with the same weights, on the same machine and thread count.

    Examples
    --------
    >>> x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    >>> y, net = (x[:, 0] > x[:, 1]).long(), nn.Linear(2, 2)
    >>> losses = fit(net, x, y, epochs=20, optimizer=lambda weights: torch.optim.Adam(weights, 0.1), progress=False)
    >>> len(losses), losses[-1] < losses[0], net.training
    (20, True, False)
    """
    if len(x) != len(y) or not len(x):
        raise ValueError(f"x has {len(x)} examples and y {len(y)} labels; they must be equally many, and some")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs is {epochs} and batch_size {batch_size}; both must be at least 1")

    def batches() -> Batches:
        return ((x[batch], y[batch]) for batch in torch.randperm(len(x)).split(batch_size))

    run = {"n": len(x), "epochs": epochs, "batch_size": batch_size, "seed": seed, "data": _digest(x, y)}
    per_epoch = -(-len(x) // batch_size)
    return _loop(model, batches, run, _Plan(epochs, per_epoch, optimizer, schedule, loss, transform, checkpoint, progress))


def fit_online(
    model: nn.Module,
    draw: Callable[[int], tuple[Tensor, Tensor]],
    *,
    samples: int,
    batch_size: int = 50,
    epochs: int = 1,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = torch.optim.Adam,
    schedule: Callable[[int, int], float] | None = None,
    loss: Loss = cross_entropy,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> list[float]:
    """Train ``model`` in place on examples that are never seen twice, and leave it in eval mode.

    Parameters
    ----------
    draw : n -> fresh inputs (n, ...) and labels (n,), with torch's global generator
    samples : of the whole run, 1 or more, rounded up to whole batches
    epochs : stretches between two checkpoints
    model, batch_size, optimizer, schedule, loss, seed, checkpoint, progress : as of :func:`fit`

    Returns
    -------
    losses : the mean loss of each epoch

    Raises
    ------
    ValueError
        for samples, epochs or batch sizes below 1; for a checkpoint that is damaged, or of another run, as :func:`fit` says

    Examples
    --------
    >>> from advlab import models, spheres
    >>> net, draw = models.sphere_quadratic(10, 20), lambda n: spheres.concentric_spheres(n, 10)
    >>> losses = fit_online(net, draw, samples=1000, loss=binary_cross_entropy, epochs=2, progress=False)
    >>> len(losses), net.training
    (2, False)
    """
    if samples < 1 or epochs < 1 or batch_size < 1:
        raise ValueError(f"samples is {samples}, epochs {epochs} and batch_size {batch_size}; each must be at least 1")
    per_epoch = -(-samples // (batch_size * epochs))

    def batches() -> Batches:
        return (draw(batch_size) for _ in range(per_epoch))

    run = {"samples": samples, "epochs": epochs, "batch_size": batch_size, "seed": seed, "data": _named(draw)}
    return _loop(model, batches, run, _Plan(epochs, per_epoch, optimizer, schedule, loss, None, checkpoint, progress))


@dataclass(frozen=True)
class _Plan:
    epochs: int
    per_epoch: int  #: batches
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    schedule: Callable[[int, int], float] | None
    loss: Loss
    transform: Transform | None
    checkpoint: str | Path | None
    progress: bool


def _loop(model: nn.Module, batches: Callable[[], Batches], run: dict, plan: _Plan) -> list[float]:
    optimiser = plan.optimizer(model.parameters())
    rates = [group["lr"] for group in optimiser.param_groups]
    run |= {"optimizer": type(optimiser).__name__, "settings": _settings(optimiser)}
    run |= {name: _named(getattr(plan, name)) for name in ("schedule", "loss", "transform")}
    path = Path(plan.checkpoint) if plan.checkpoint is not None else None
    losses = _resume(path, model, optimiser, run) if path is not None and path.exists() else []
    steps, done = plan.epochs * plan.per_epoch, len(losses) * plan.per_epoch
    rising = "done" in inspect.signature(plan.loss).parameters
    with torch.random.fork_rng(), tqdm(total=steps, initial=done, disable=not plan.progress) as bar:
        for epoch in range(len(losses), plan.epochs):
            torch.manual_seed(run["seed"] * 100_003 + epoch)
            total, seen = 0.0, 0
            for i, (inputs, labels) in enumerate(batches()):
                step = epoch * plan.per_epoch + i
                for group, rate in zip(optimiser.param_groups, rates, strict=True):
                    group["lr"] = rate * (plan.schedule(step, steps) if plan.schedule else 1.0)
                if plan.transform is not None:
                    model.eval()
                    inputs = plan.transform(model, inputs, labels, step / steps)
                model.train()
                value = plan.loss(model, inputs, labels, **({"done": step / steps} if rising else {}))
                optimiser.zero_grad()
                value.backward()
                optimiser.step()
                total += value.item() * len(inputs)
                seen += len(inputs)
                bar.update()
            losses.append(total / seen)
            bar.set_postfix(epoch=epoch + 1, loss=f"{losses[-1]:.4g}")
            if path is not None:
                _save(path, model, optimiser, {**run, "losses": losses})
    optimiser.zero_grad()
    model.eval()
    return losses


def _save(path: Path, model: nn.Module, optimiser: Optimizer, run: dict) -> None:
    tensors = {f"model.{name}": t.contiguous() for name, t in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": t.contiguous() for key, t in state.items() if isinstance(t, Tensor)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, save_tensors(tensors, metadata={"run": json.dumps(run)}))


def _resume(path: Path, model: nn.Module, optimiser: Optimizer, run: dict) -> list[float]:
    saved, weights, states = unfinished(path, "run")
    losses = saved.pop("losses", [])
    if "data" not in saved:  # of version 0.2
        run = {key: run[key] for key in run if key not in _NEW}
    saved, run = saved | _shapes(weights), run | _shapes(model.state_dict())
    if saved != run:
        key = next(key for key in [*run, *saved] if saved.get(key) != run.get(key))
        told = f"its {key} is {saved.get(key)}, not {run.get(key)}"
        raise ValueError(f"{path} is the checkpoint of another run ({told}): move it away, or name another")
    model.load_state_dict(weights)
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    return losses


#: What checkpoints of version 0.2 do not say of a run.
_NEW = ("data", "settings", "schedule", "loss", "transform")


def _shapes(weights: dict[str, Tensor]) -> dict[str, str]:
    return {f"model.{name}": f"{tuple(t.shape)} {t.dtype}" for name, t in weights.items()}


def unfinished(path: Path, entry: str) -> tuple[Any, dict[str, Tensor], dict[int, dict[str, Tensor]]]:
    """What a file holds of a training: its ``entry`` in JSON, the network's weights, and the optimiser's state.

    Raises ValueError where it is no such file, or is damaged.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     unfinished(Path(file.name), "run")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: ... is damaged, or no checkpoint of such a training (...): move it away
    """
    weights: dict[str, Tensor] = {}
    states: dict[int, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as f:
            about = json.loads((f.metadata() or {})[entry])
            for name in f.keys():  # noqa: SIM118
                kind, _, rest = name.partition(".")
                if kind == "model":
                    weights[rest] = f.get_tensor(name)
                else:
                    index, _, key = rest.partition(".")
                    states.setdefault(int(index), {})[key] = f.get_tensor(name)
    except (SafetensorError, KeyError, ValueError) as e:
        raise ValueError(f"{path} is damaged, or no checkpoint of such a training ({e!r}): move it away") from e
    return about, weights, states


def _digest(x: Tensor, y: Tensor) -> str:
    """Of all labels and of 64 examples."""
    digest = hashlib.sha256(f"{x.dtype} {tuple(x.shape)} {y.dtype}".encode())
    for part in (x[:: -(-len(x) // 64)], y):
        digest.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _settings(optimiser: Optimizer) -> list[dict[str, str]]:
    """Of each group of parameters, what is set: what is None or False may be a setting of another version of torch."""
    return [
        {key: _named(value) for key, value in group.items() if key != "params" and value is not None and value is not False}
        for group in optimiser.param_groups
    ]


def _named(value: Any) -> str:
    """A function or a setting in words that are the same in another process: by its name, a partial with its arguments.

    >>> _named(functools.partial(smoothed_cross_entropy, smoothing=0.2))
    'advlab.training.smoothed_cross_entropy(smoothing=0.2)'
    """
    if isinstance(value, functools.partial):
        given = [*map(_named, value.args), *(f"{key}={_named(value.keywords[key])}" for key in sorted(value.keywords))]
        return f"{_named(value.func)}({', '.join(given)})"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_named, value))})"
    if value is None or isinstance(value, int | float | str):
        return repr(value)
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
