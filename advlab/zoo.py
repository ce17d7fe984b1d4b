"""Named networks: trained by their recipes, and loaded from checkpoints that ship with a model card.

A checkpoint is ``checkpoints/NAME.safetensors`` in the package and its card ``NAME.json``, which holds the SHA-256 of
the weights, the recipe, the data, the measured accuracy and seconds, and the commit that trained it.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import subprocess
import time
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from .evaluate import clopper_pearson, predict
from .recipes import RECIPES, Recipe, Stream
from .store import write
from .training import fit, fit_online
from .version import __version__


class CheckpointError(RuntimeError):
    """A checkpoint is missing or is not the one its card describes. The message says what to do."""


def names() -> list[str]:
    """The networks that have a recipe, in alphabetical order."""
    return sorted(RECIPES)


def recipe(name: str) -> Recipe:
    """The recipe of ``name``. Raises ValueError for a name that is not in the zoo.

    >>> made = recipe("mnist_cnn7")
    >>> type(made.build()).__name__, made.epochs, made.batch_size
    ('Sequential', 50, 128)
    """
    if name not in RECIPES:
        raise ValueError(f"there is no network {name!r} in the zoo; there are: {', '.join(names())}")
    return RECIPES[name]


def shipped() -> Path:
    """The folder of the checkpoints that ship with the package."""
    return Path(str(resources.files("advlab") / "checkpoints"))


def card(name: str, directory: str | Path | None = None) -> dict[str, Any]:
    """The model card: SHA-256, recipe, data, accuracy with its interval, seconds, commit.

    Parameters
    ----------
    name : one of :func:`names`
    directory : where a training of yours wrote it, by default :func:`shipped`

    Returns
    -------
    card : what ``NAME.json`` holds

    Raises
    ------
    ValueError
        for an unknown name
    CheckpointError
        where there is no card, or what is there is none

    Examples
    --------
    >>> made = card("mnist_cnn7")
    >>> made["parameters"], made["training_examples"], made["test_examples"]
    (312202, 55000, 10000)
    """
    recipe(name)
    path = (Path(directory) if directory is not None else shipped()) / f"{name}.json"
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint of {name} in {path.parent}: make it with  python -m advlab train {name}")
    try:
        about = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise CheckpointError(f"{path} cannot be read as a model card ({e}): install advlab again, or train it") from e
    if not isinstance(about, dict) or not isinstance(about.get("sha256"), str):
        raise CheckpointError(f"{path} is no model card, with the SHA-256 of its weights: install advlab again, or train it")
    return about


def load(name: str, directory: str | Path | None = None) -> nn.Module:
    """The trained network, in eval mode, on the CPU.

    Parameters
    ----------
    name, directory : as of :func:`card`

    Returns
    -------
    model : inputs as it was trained on, images in [0, 1], -> logits

    Raises
    ------
    ValueError
        for an unknown name
    CheckpointError
        for a missing or altered file, and one that is not of the recipe's network

    Guarantee
    ---------
    The weights are those of the model card (SHA-256); nothing is unpickled.

    Examples
    --------
    >>> from advlab import data
    >>> net, (x, y) = load("mnist_cnn7"), data.mnist("test", 100)
    >>> net.training, int((net(x).argmax(1) == y).sum())
    (False, 100)
    """
    expected = card(name, directory)["sha256"]
    path = (Path(directory) if directory is not None else shipped()) / f"{name}.safetensors"
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise CheckpointError(f"{path} cannot be read ({e.strerror}): install advlab again, or train it") from e
    if hashlib.sha256(raw).hexdigest() != expected:
        raise CheckpointError(f"{path} is not the checkpoint of its card (SHA-256 differs): install advlab again, or train it")
    model = recipe(name).build()
    try:
        model.load_state_dict(load_tensors(raw))
    except (SafetensorError, RuntimeError) as e:
        told = " ".join(str(e).split())
        raise CheckpointError(f"{path} does not hold the weights of {name} ({told}): train it, or remove file and card") from e
    return model.eval()


# Over 60 lines with its documentation: the card is written field by field.
def train(
    name: str,
    to: str | Path = "runs",
    *,
    epochs: int | None = None,
    n: int | None = None,
    progress: bool = True,
    device: str = "cpu",
) -> Path:
    """Train a network by its recipe. A run that broke off is resumed by the same call.

    Parameters
    ----------
    name : one of :func:`names`
    to : the folder of checkpoint and card
    epochs, n : 1 or more epochs and training examples, which shorten the recipe for a trial; the card then says so
    progress : a bar or not
    device : where a fixed training set, the network and its test are held, such as "cuda"

    Returns
    -------
    path : of the checkpoint

    Raises
    ------
    ValueError
        for an unknown name or device, and for epochs or n below 1

    Examples
    --------
    >>> train("mnist_cnn7", epochs=0)
    Traceback (most recent call last):
        ...
    ValueError: epochs is 0 and n None; a trial needs at least 1 of each
    """
    r = recipe(name)
    if min(epochs if epochs is not None else 1, n if n is not None else 1) < 1:
        raise ValueError(f"epochs is {epochs} and n {n}; a trial needs at least 1 of each")
    place(device)
    folder = Path(to)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{name}.unfinished.safetensors"
    origin = folder if (folder / f"{r.start}.json").exists() else None  # else the one that ships
    resumed, commit = unfinished.exists(), source_commit()  # of the code that trains, whatever is committed meanwhile
    wall, cpu = time.perf_counter(), time.process_time()
    run: dict[str, Any] = {"epochs": epochs or r.epochs, "checkpoint": unfinished, "progress": progress}
    model, samples = _trained(r, origin, n, device, run)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    about = {
        "epochs": run["epochs"],
        "training_examples": samples,
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "resumed": resumed,  # then the seconds are those since
        "commit": commit,
        "command": " ".join(
            ["python -m advlab train", name, *([f"--epochs {epochs}"] if epochs else []), *([f"--n {n}"] if n else [])]
        ),
    }
    path = keep(name, model, folder, about)
    unfinished.unlink(missing_ok=True)
    return path


def place(device: str) -> torch.device:
    """The device of that name. Raises ValueError where there is none, such as "cuda" on a machine without a GPU.

    >>> place("cpu")
    device(type='cpu')
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as e:
        raise ValueError(f"there is no device {device!r} here ({str(e).splitlines()[0]}): take another, such as 'cpu'") from e


def keep(name: str, model: nn.Module, to: Path, about: dict[str, Any]) -> Path:
    """Write a trained network of the recipe ``name`` and its card, tested; ``about``: what the card says of the training.

    The device of ``model`` tests it. Returns the path of the checkpoint.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> keep("mnist_cnn7", load("mnist_cnn7"), folder, {"epochs": 50}).name
    'mnist_cnn7.safetensors'
    >>> card("mnist_cnn7", folder)["sha256"] == card("mnist_cnn7")["sha256"]
    True
    """
    r = recipe(name)
    weights = {key: t.cpu().contiguous() for key, t in model.state_dict().items()}
    if r.half:
        weights = {key: t.half() if t.is_floating_point() else t for key, t in weights.items()}
    model.load_state_dict(weights)
    raw = save_tensors(weights)
    origin = to if (to / f"{r.start}.json").exists() else None  # else the one that ships
    made = {
        "name": name,
        "sha256": hashlib.sha256(raw).hexdigest(),
        **r.says,
        "licence": "MIT",
        **({"start": {"name": r.start, "sha256": card(r.start, origin)["sha256"]}} if r.start is not None else {}),
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch_size": r.batch_size,
        "seed": r.seed,
        **_tested(r, model),
        "threads": torch.get_num_threads(),
        "device": _device(model),
        "torch": torch.__version__,
        "commit": source_commit(),
        "date": datetime.date.today().isoformat(),
        **about,
    }
    path = to / f"{name}.safetensors"
    write(path, raw)
    write(path.with_suffix(".json"), (json.dumps(made, indent=1) + "\n").encode())
    return path


def _device(model: nn.Module) -> str:
    """What the network was trained on: "cpu", or the name of the GPU."""
    place = next(model.parameters()).device
    return torch.cuda.get_device_name(place) if place.type == "cuda" else place.type


def _trained(r: Recipe, origin: Path | None, n: int | None, device: str, run: dict[str, Any]) -> tuple[nn.Module, int]:
    """The network of a recipe, and how many examples it saw; ``run`` are further arguments of the loop."""
    with torch.random.fork_rng():
        torch.manual_seed(r.seed)
        model = r.build() if r.start is None else load(r.start, origin)
    run = {"batch_size": r.batch_size, "optimizer": r.optimizer, "schedule": r.schedule, "seed": r.seed, **r.options, **run}
    if isinstance(r.train, Stream):
        fit_online(model, r.train.draw, samples=n or r.train.samples, **run)
        return model, n or r.train.samples
    x, y = (t[:n].to(device) for t in r.train())
    model.to(device)
    if r.prepare is not None:
        r.prepare(model, x)
    if run["epochs"]:
        fit(model, x, y, **run)
    return (model if r.finish is None else r.finish(model.eval(), x, y)), len(x)


def _tested(r: Recipe, model: nn.Module) -> dict[str, Any]:
    """How often the network is right on the test set of its recipe."""
    x, y = r.test()
    place = next(model.parameters()).device
    correct, n = sum(int((predict(model, part.to(place)).cpu() == labels).sum()) for part, labels in _parts(x, y)), len(y)
    return {"accuracy": correct / n, "accuracy_interval": clopper_pearson(correct, n), "test_examples": n}


def _parts(x: Tensor, y: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(x.split(2000), y.split(2000), strict=True)


def source_commit() -> str:
    """The commit of the source tree that this package is run from, with "+changes" if it was edited; else the version.

    Cards of trained networks keep it. Of an installed package it is "advlab" and the version.

    >>> source_commit().startswith(("advlab ", *"0123456789abcdef"))
    True
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return f"advlab {__version__}"
    return commit + ("+changes" if dirty.strip() else "")
