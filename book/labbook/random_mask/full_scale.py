"""Chapter 4's tables at the paper's width: one command for a GPU, ``python -m labbook transfer``.

It trains what is not there, attacks with each source, and keeps a cell as soon as it is known; broken off, the same command
goes on. On a slice (``--n``, ``--epochs``, ``--images``) it is a trial, and the file says so. The networks are too large to
ship; what was found with them, and their cards, are stored evidence: :func:`store`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from advlab import __version__, checks, data, evaluate, zoo
from advlab.store import Records, write

from ..entries import folder as book_results
from .measuring import fgsm_in_8_bits, pgd_in_8_bits

SOURCES = ("densenet", "resnet18", "resnet50", "vgg")
TARGETS = ("target", "mask_50", "mask_70", "mask_90")
#: For the gray box, as sources of the attacks of Table 7: the same kinds with other masks and another seed.
GRAY = ("mask_50_b", "mask_70_b")
#: The white box of Table 6, each target its own source; the rates of what it gets right.
WHITE = {"FGSM 1": (1, 1), "FGSM 2": (2, 1), "FGSM 4": (4, 1), "PGD 2": (2, 4), "PGD 4": (4, 6), "PGD 8": (8, 10)}
#: The paper's attacks, by budget of 255 and steps; one step is FGSM.
ATTACKS = {"FGSM 8": (8, 1), "FGSM 16": (16, 1), "PGD 16": (16, 20), "PGD 32": (32, 40)}


def _attack(budget: int, steps: int) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    return fgsm_in_8_bits(budget) if steps == 1 else pgd_in_8_bits(budget, steps)


def transfer(
    to: str | Path = "runs",
    *,
    sources: Sequence[str] = SOURCES,
    targets: Sequence[str] = TARGETS,
    images: int = 5000,
    epochs: int | None = None,
    n: int | None = None,
    device: str = "cuda",
) -> dict[str, Any]:
    """Train, attack, measure; return what ``to/transfer.json`` then holds.

    A cell is the accuracy of a target on those of the first ``images`` test images that the source gets right and the attack
    makes it miss, with a 95 % interval (Clopper and Pearson), as in Luo et al. (2018), Tables 8 to 12. ``epochs`` and ``n``
    (training examples) shorten the recipes for a trial. Needs the full CIFAR-10: ``python -m advlab data cifar10``.
    Raises ValueError for names, numbers and a device that there are not, and for the file of a run with other settings.
    """
    for name, there_are in (*((s, (*SOURCES, *GRAY)) for s in sources), *((t, TARGETS) for t in targets)):
        if name not in there_are:
            raise ValueError(f"there is no {name!r}; there are: {', '.join(there_are)}")
    for name, value in (("images", images), ("epochs", epochs), ("n", n)):
        checks.setting(name, 1 if value is None else value, checks.COUNT)
    x, y = (t.to(zoo.place(device)) for t in data.cifar10(n=images))
    folder = Path(to)
    path = folder / "transfer.json"
    settings = {"images": images, "epochs": epochs, "n": n}
    kept = Records(folder / "transfer.sqlite", "cell")
    if not kept:
        old = json.loads(path.read_text()) if path.exists() else {"settings": settings, "cells": {}}  # of version 0.2
        kept.extend({"settings": old["settings"], **old["cells"]})
    if kept["settings"] != settings:
        there = f"{kept.path} is of a run with {kept['settings']}, not {settings}"
        raise ValueError(f"{there}: move it and {path.name} away, or name another folder")

    @functools.cache
    def network(name: str) -> nn.Module:
        full = f"full_{name}"
        if not (folder / f"{full}.json").exists():
            zoo.train(full, folder, epochs=epochs, n=n, device=device)
        return zoo.load(full, folder).requires_grad_(False).to(device)

    for source in sources:
        for attack, (budget, steps) in ATTACKS.items():
            kept.refresh()
            missing = [t for t in targets if f"{source} {attack} {t}" not in kept]
            if missing:
                one, many = {source: network(source)}, {t: network(t) for t in missing}
                cells = evaluate.transfer_matrix(one, many, x, y, _attack(budget, steps), fooled=True, batch_size=500)
                keep(kept, [f"{source} {attack} {t}" for t in missing], cells)
    for target in targets:
        for attack, (budget, steps) in WHITE.items():
            kept.refresh()
            if f"white {attack} {target}" not in kept:
                one = {target: network(target)}
                cells = evaluate.transfer_matrix(one, one, x, y, _attack(budget, steps), batch_size=500)
                keep(kept, [f"white {attack} {target}"], cells)
    table = {"settings": settings, "cells": {name: cell for name, cell in kept.items() if name != "settings"}}
    write(path, (json.dumps(table, indent=1) + "\n").encode())
    return table


def store(to: str | Path = "runs") -> Path:
    """Make what ``to`` holds of a full run the book's stored evidence: its cells, and the cards of the networks.

    Raises ValueError for a trial, and OSError where there was no run.
    """
    table = json.loads((Path(to) / "transfer.json").read_text())
    if table["settings"] != {"images": 5000, "epochs": None, "n": None}:
        raise ValueError(f"{to} holds a trial, with {table['settings']}; only a full run is evidence")
    used = {name for cell in table["cells"] for name in cell.split()} & {*SOURCES, *TARGETS, *GRAY}
    cards = {name: zoo.card(f"full_{name}", to) for name in sorted(used)}
    kept = {key: {name: card[name] for name in CARD} for key, card in cards.items()}
    made = {"version": __version__, "date": max(card["date"] for card in kept.values()), "networks": kept, **table}
    return write(evidence(), (json.dumps(made, indent=1) + "\n").encode())


def evidence() -> Path:
    """Where :func:`store` writes."""
    return book_results() / "full_scale.json"


#: What the evidence has of a network's card.
CARD = ("sha256", "accuracy", "accuracy_interval", "epochs", "seconds", "cpu_seconds", "device", "torch", "commit", "date")


def keep(kept: Records, names: Sequence[str], cells: evaluate.Transfer) -> None:
    """Add the cells of one source: without accuracy where nothing fooled it."""
    found = zip(names, cells.accuracy[0].tolist(), cells.interval[0].tolist(), strict=True)
    known = bool(cells.n[0])
    kept.extend({name: {"accuracy": v if known else None, "interval": i, "n": cells.n[0]} for name, v, i in found})


def lines(found: dict[str, Any]) -> Iterable[str]:
    """A line for each cell of :func:`transfer`'s result."""
    for name, cell in found["cells"].items():
        low, high = cell["interval"]
        accuracy = "–" if cell["accuracy"] is None else f"{cell['accuracy']:.1%} ({low:.1%} to {high:.1%})"
        yield f"{name:28} {accuracy}, {cell['n']} images"
