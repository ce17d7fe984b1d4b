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
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from .evaluate import clopper_pearson, predict
from .recipes import RECIPES, Recipe, Stream
from .store import write
from .training import fit, fit_online


class CheckpointError(RuntimeError):
    """A checkpoint is missing or is not the one its card describes. The message says what to do.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as empty:
    ...     try:
    ...         load("mnist_cnn7", empty)
    ...     except CheckpointError as e:
    ...         print("python -m advlab train" in str(e))
    True
    """


def names() -> list[str]:
    """The networks that have a recipe, in alphabetical order.

    >>> "mnist_cnn7" in names()
    True
    """
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
    """The folder of the checkpoints that ship with the package.

    >>> (shipped() / "mnist_cnn7.safetensors").exists()
    True
    """
    return Path(str(resources.files("advlab") / "checkpoints"))


def card(name: str, directory: str | Path | None = None) -> dict[str, Any]:
    """The model card of ``name``: SHA-256, recipe, data, accuracy with its interval, seconds, commit.

    Raises ValueError for an unknown name and CheckpointError where there is no card.

    >>> made = card("mnist_cnn7")
    >>> made["parameters"], made["training_examples"], made["test_examples"]
    (312202, 55000, 10000)
    """
    recipe(name)
    path = (Path(directory) if directory is not None else shipped()) / f"{name}.json"
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint of {name} in {path.parent}: make it with  python -m advlab train {name}")
    return json.loads(path.read_text())


def load(name: str, directory: str | Path | None = None) -> nn.Module:
    """The trained network ``name`` in eval mode, from the package, or from the ``directory`` of a training of yours.

    Guarantee: the weights are those of the model card (SHA-256); nothing is unpickled.
    Raises ValueError for an unknown name, CheckpointError for a missing or altered file.

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
    model.load_state_dict(load_tensors(raw))
    return model.eval()


def train(
    name: str,
    to: str | Path = "runs",
    *,
    epochs: int | None = None,
    n: int | None = None,
    progress: bool = True,
    device: str = "cpu",
) -> Path:
    """Train ``name`` by its recipe into ``to``; return the checkpoint. A run that broke off is resumed by the same call.

    ``epochs`` and ``n`` (training examples) shorten the recipe for a trial, and the card then says so. ``device`` is where
    a fixed training set, the network and its test are held, such as "cuda".
    Raises ValueError for an unknown name, and for epochs or n below 1.

    >>> train("mnist_cnn7", epochs=0)
    Traceback (most recent call last):
        ...
    ValueError: epochs is 0 and n None; a trial needs at least 1 of each
    """
    r = recipe(name)
    if min(epochs if epochs is not None else 1, n if n is not None else 1) < 1:
        raise ValueError(f"epochs is {epochs} and n {n}; a trial needs at least 1 of each")
    folder = Path(to)
    folder.mkdir(parents=True, exist_ok=True)
    origin = folder if (folder / f"{r.start}.json").exists() else None  # else the one that ships
    with torch.random.fork_rng():
        torch.manual_seed(r.seed)
        model = r.build() if r.start is None else load(r.start, origin)
    unfinished = folder / f"{name}.unfinished.safetensors"
    resumed = unfinished.exists()
    commit = _commit()  # of the code that trains, whatever is committed meanwhile
    settings: dict[str, Any] = {
        "epochs": epochs or r.epochs,
        "batch_size": r.batch_size,
        "optimizer": r.optimizer,
        "schedule": r.schedule,
        "seed": r.seed,
        "checkpoint": unfinished,
        "progress": progress,
        **r.options,
    }
    wall, cpu = time.perf_counter(), time.process_time()
    if isinstance(r.train, Stream):
        samples = n or r.train.samples
        fit_online(model, r.train.draw, samples=samples, **settings)
    else:
        x, y = (t[:n].to(device) for t in r.train())
        samples = len(x)
        model.to(device)
        if r.prepare is not None:
            r.prepare(model, x)
        if settings["epochs"]:
            fit(model, x, y, **settings)
        if r.finish is not None:
            model = r.finish(model.eval(), x, y)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    weights = {key: t.cpu().contiguous() for key, t in model.state_dict().items()}
    if r.half:
        weights = {key: t.half() if t.is_floating_point() else t for key, t in weights.items()}
    model.load_state_dict(weights)
    x_test, y_test = r.test()
    place = next(model.parameters()).device
    correct = sum(int((predict(model, part.to(place)).cpu() == y).sum()) for part, y in _parts(x_test, y_test))
    raw = save_tensors(weights)
    about = {
        "name": name,
        "sha256": hashlib.sha256(raw).hexdigest(),
        **r.says,
        **({"start": {"name": r.start, "sha256": card(r.start, origin)["sha256"]}} if r.start is not None else {}),
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": epochs or r.epochs,
        "batch_size": r.batch_size,
        "seed": r.seed,
        "training_examples": samples,
        "accuracy": correct / len(y_test),
        "accuracy_interval": clopper_pearson(correct, len(y_test)),
        "test_examples": len(y_test),
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "resumed": resumed,  # then the seconds are those since
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit,
        "date": datetime.date.today().isoformat(),
        "command": " ".join(
            ["python -m advlab train", name, *([f"--epochs {epochs}"] if epochs else []), *([f"--n {n}"] if n else [])]
        ),
    }
    path = folder / f"{name}.safetensors"
    write(path, raw)
    write(path.with_suffix(".json"), (json.dumps(about, indent=1) + "\n").encode())
    unfinished.unlink(missing_ok=True)
    return path


def _parts(x: Tensor, y: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(x.split(2000), y.split(2000), strict=True)


def _commit() -> str:
    """The commit of the source tree that this package is run from, with "+changes" if it was edited; else the version."""
    from . import __version__

    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return f"advlab {__version__}"
    return commit + ("+changes" if dirty.strip() else "")
