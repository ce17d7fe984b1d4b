"""What a GPU is worth most for, in order: ``python -m labbook gpu --minutes 12`` trains what is missing, and stops in time.

Each network is trained by ``python -m advlab train`` in a process of its own, which writes its state after each epoch. When
the minutes are over it is stopped, and loses at most an epoch; the same command goes on from there, also on another machine
to which the folder was copied. Needed are the package, the full CIFAR-10 (``python -m advlab data cifar10``), and the folder.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

#: By value: chapter 4's targets and sources at the paper's width, chapter 3's photographs at length, chapter 2's network.
ORDER = (
    *("full_target", "full_mask_50", "full_mask_70", "full_mask_90"),
    *("full_resnet18", "full_vgg", "full_densenet", "full_resnet50"),
    *("cifar_2_long", "cifar_8_long"),
    "cifar_cnn_long",
)
TO_SPARE = 20.0  #: seconds at the end, in which nothing is begun


def run(
    minutes: float,
    to: str | Path = "runs",
    *,
    device: str = "cuda",
    names: Sequence[str] = ORDER,
    epochs: int | None = None,
    n: int | None = None,
) -> Iterator[str]:
    """Train what ``to`` does not have of ``names`` in ``minutes``; a line for each, as it is done, stopped, or left.

    Parameters
    ----------
    minutes : wall time, above 0
    to : the folder of checkpoints, cards and unfinished states
    device : "cuda", or "cpu" for a trial
    names : in this order
    epochs, n : as of :func:`advlab.zoo.train`, for a trial

    Raises
    ------
    ValueError
        for minutes that are not above 0
    RuntimeError
        where torch finds no GPU, and "cuda" is asked for; where a training fails
    """
    if not minutes > 0:
        raise ValueError(f"minutes is {minutes}; it must be above 0")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU; --device cpu --epochs 1 --n 500 is a trial")
    end, folder = time.monotonic() + 60 * minutes, Path(to)
    trial = [*(["--epochs", str(epochs)] if epochs else []), *(["--n", str(n)] if n else [])]
    for name in names:
        left = end - time.monotonic()
        if (folder / f"{name}.json").exists():
            yield f"{name}: there already"
        elif left < min(TO_SPARE, 6 * minutes):
            yield f"{name}: not begun"
        else:
            command = [sys.executable, "-m", "advlab", "train", name, "--to", str(folder), "--device", device, *trial]
            try:
                done = subprocess.run(command, timeout=left, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            except subprocess.TimeoutExpired:
                kept = (folder / f"{name}.unfinished.safetensors").exists()
                yield f"{name}: stopped; " + (
                    "the same command goes on from its last epoch" if kept else "no epoch was finished"
                )
                continue
            if done.returncode:
                raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}")
            yield f"{name}: trained in {left - (end - time.monotonic()):.0f} s"
