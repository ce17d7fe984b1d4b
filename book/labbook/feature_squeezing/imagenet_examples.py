"""The ImageNet rows of Feature Squeezing (Xu et al. 2018, section 5): ``python -m labbook examples imagenet FOLDER``.

ImageNet's images may not be passed on, and an adversarial one is such an image but for a few levels. So what an attack makes is
measured at once and thrown away. What stays of each image are numbers: whether it is right behind each squeezer, the scores
of Table 4's detectors, distances. A run that broke off goes on; :func:`store` makes a whole one the book's evidence.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from advlab import __version__, attacks, folders, imagenet
from advlab.data import eight_bits
from advlab.evaluate import distances
from advlab.squeezing import SQUEEZERS
from advlab.store import Record, Records, write

from ..entries import folder as book_results
from . import paper
from .examples import targets

#: Names of the networks in titles.
NAMES = {"lite0": "EfficientNet-Lite0", "mobilenet": "MobileNet v1 (0.75)"}
#: Attack -> how it is made. Budgets and confidences are those of the authors' code; optimisers are ours. DeepFool's overshoot
#: is not the code's 35, for which its changes are six times the paper's: with 4 they are about as large. Searches that come
#: closer than these find changes so small that rounding to 8 bits undoes them.
ATTACKS: dict[str, functools.partial[Tensor]] = {
    "FGSM": functools.partial(attacks.fgsm, eps=0.0078),
    "BIM": functools.partial(attacks.bim, eps=0.0040, step_size=0.0020, active_set=False),
    "CWinf next": (_linf := functools.partial(attacks.cw_linf, confidence=5, learning_rate=0.001, steps=400)),
    "CWinf LL": _linf,
    "DeepFool": functools.partial(attacks.deepfool, overshoot=4.0, classes=10),
    "CW2 next": (_l2 := functools.partial(attacks.cw_l2, confidence=5, learning_rate=0.01, search_steps=4, steps=100)),
    "CW2 LL": _l2,
    "CW0 next": (_l0 := functools.partial(attacks.cw_l0, confidence=5, rounds=25, steps=25, drop=0.5)),
    "CW0 LL": _l0,
}
#: Those that are run where none is named, an hour of one core; all of them take three.
USUAL = ("FGSM", "BIM", "DeepFool", "CW2 next", "CW2 LL")
#: The squeezers of Table 4, in its order.
SQUEEZED = tuple(name for name in paper.IMAGENET_4 if name != "joint")
SEEDS = 100


@dataclass(frozen=True)
class Item:
    """An image of the folder, its class, and the SHA-256 of its file."""

    path: Path
    label: int
    sha256: str


def make(
    folder: str | Path,
    network: str = "lite0",
    weights: str | Path | None = None,
    to: str | Path = "runs",
    *,
    n: int = SEEDS,
    names: Sequence[str] | None = None,
    images: int | None = None,
    classes: str | Path | None = None,
    table: str | Path | None = None,
    device: str = "cpu",
    batch_size: int = 4,
    source: str = "",
    progress: bool = True,
) -> Path:
    """Attack the first ``n`` images of ``folder`` that a network gets right, and measure; return the path of what was found.

    The other images, right or wrong, are the legitimate ones. The same call goes on where it was broken off, and another adds
    attacks to what ``to`` holds of the same images.

    Parameters
    ----------
    folder, classes, table : images and what says their classes, as :func:`advlab.imagenet.labels` takes them
    network, weights : as :func:`advlab.imagenet.load` takes them
    names : among :data:`ATTACKS`, or "all"; by default :data:`USUAL`
    images : so many of the folder, in an order mixed with a fixed seed, or all
    batch_size : images that are attacked together, and lost if the run is killed
    source : what to say of the images, such as where they are from
    Raises
    ------
    ValueError
        for an unknown network or attack, images of unknown classes, and too few that can be read or are right
    """
    chosen = USUAL if names is None else list(ATTACKS) if "all" in names else names
    if unknown := set(chosen) - set(ATTACKS):
        raise ValueError(f"there is no attack {', '.join(unknown)} on ImageNet; there are: all, {', '.join(ATTACKS)}")
    if min(n, batch_size) < 1:
        raise ValueError(f"n is {n} and batch_size {batch_size}; both must be at least 1")
    model = imagenet.load(network, weights).requires_grad_(False).to(device)
    items = _items(Path(folder), images, classes, table)
    run = _Run(network, model, Records(Path(to) / f"imagenet-{network}.sqlite", "ImageNet"), batch_size, device, progress)
    run.measure("clean", items)
    read = [item for item in items if run.key("clean", item) in run.kept]
    right = [item for item in read if run.found("clean", item)["right"][0] == "1"]
    if len(right) < n or len(read) < n + 4:
        raise ValueError(
            f"of {len(read)} images {network} gets {len(right)} right; {n} seeds, and at least 4 other images, were asked for: "
            "give more images, or fewer --seeds"
        )
    for name in chosen:
        run.measure(name, right[:n])
    path = Path(to) / f"imagenet-{network}.json"
    write(path, _text(_report(run, Path(folder), read, right[:n]) | {"source": source}).encode())
    return path


def _items(folder: Path, images: int | None, classes: str | Path | None, table: str | Path | None) -> list[Item]:
    paths = folders.images(folder)[0][:images]
    labels = imagenet.labels(folder, paths, classes=classes, table=table)
    if labels is None:
        raise ValueError(
            f"nothing says what the images in {folder} are: put them into one subfolder a class, called by its synset such as "
            "n01440764, or give --labels FILE"
        )
    digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    return [Item(*each) for each in zip(paths, labels, digests, strict=True)]


@dataclass(frozen=True)
class _Run:
    network: str
    model: nn.Module
    kept: Records
    batch_size: int
    device: str
    progress: bool

    def key(self, name: str, item: Item) -> str:
        """Of what is known of an image, "clean" or under an attack: it changes with all that this depends on but code."""
        settings = [] if name == "clean" else sorted(ATTACKS[name].keywords.items())
        about = [imagenet.SHA256[self.network], SQUEEZED, name, settings, item.sha256, item.label]
        return hashlib.sha256(repr(about).encode()).hexdigest()

    def found(self, name: str, item: Item) -> Record:
        return self.kept[self.key(name, item)]

    def measure(self, name: str, items: Sequence[Item]) -> None:
        """Keep what is found of the images, "clean" or under an attack, that are not kept yet; what cannot be read is named."""
        self.kept.refresh()
        todo = [item for item in items if self.key(name, item) not in self.kept]
        with tqdm(
            total=len(items), initial=len(items) - len(todo), desc=f"{self.network}, {name}", disable=not self.progress
        ) as bar:
            for start in range(0, len(todo), self.batch_size):
                part = todo[start : start + self.batch_size]
                x, places, errors = folders.read_all([item.path for item in part], imagenet.SIZE)
                for error in errors:
                    bar.write(error, file=sys.stderr)
                if read := [part[k] for k in places]:
                    begun = time.process_time()
                    records = measured(self.model, name, x.to(self.device), torch.tensor([item.label for item in read]))
                    spent = {"spent": (time.process_time() - begun) / len(read)}  # with the squeezers and their answers
                    self.kept.extend({self.key(name, item): record | spent for item, record in zip(read, records, strict=True)})
                bar.update(len(part))


def measured(model: nn.Module, name: str, x: Tensor, y: Tensor) -> list[Record]:
    """What is kept of images ``x`` (n, 3, h, w) of the classes ``y`` (n,), as they are ("clean") or under an attack.

    "right" has a digit for no squeezer and for each of :data:`SQUEEZED`, "scores" equation 6 of each.
    """
    y, start = y.to(x.device), time.process_time()
    if name == "clean":
        x_adv, aims = x, y
    else:
        aims = targets(model, x, y, name)
        x_adv = eight_bits(ATTACKS[name](model, x, y, **({} if aims is None else {"targets": aims})))
    seconds = (time.process_time() - start) / len(x)
    with torch.no_grad():
        seen = [model(view).softmax(1) for view in (x_adv, *(SQUEEZERS[squeezer](x_adv) for squeezer in SQUEEZED))]
    right = torch.stack([answer.argmax(1) == y for answer in seen], 1).int().tolist()
    scores = torch.stack([(seen[0] - answer).abs().sum(1) for answer in seen[1:]], 1)  # (n, squeezers)
    guess = seen[0].argmax(1)
    values = {
        "hit": guess != y if aims is None else guess == aims,
        "top5": (seen[0].topk(5).indices == y[:, None]).any(1),
        "confidence": seen[0].amax(1),
        "linf": distances(x_adv, x, "linf"),
        "L2": distances(x_adv, x, "l2"),
        "L0": distances(x_adv, x, "l0") / x[0, 0].numel(),  # of all pixels: of all values the paper's L2 would be too small
    }
    rows = zip(*(column.tolist() for column in values.values()), strict=True)
    return [
        {"right": "".join(map(str, marks)), "scores": score, "seconds": seconds, **dict(zip(values, row, strict=True))}
        for marks, score, row in zip(right, scores.tolist(), rows, strict=True)
    ]


# ---------------------------------------------------------------------------------------------- what was found


def _report(run: _Run, folder: Path, read: Sequence[Item], seeds: Sequence[Item]) -> dict[str, Any]:
    """All that the store holds of these seeds, as the evidence has it: a column for each number, by image."""
    clean, attacked = [run.found("clean", item) for item in read], set(seeds)
    whole = [name for name in ATTACKS if all(run.key(name, item) in run.kept for item in seeds)]
    done = {name: [run.found(name, item) for item in seeds] for name in whole}
    spent = sum(record["spent"] for records in (clean, *done.values()) for record in records)
    lines = [f"{item.path.relative_to(folder).as_posix()} {item.label} {item.sha256}\n" for item in read]
    return {
        "network": run.network,
        "sha256": imagenet.SHA256[run.network],
        "images": len(read),
        "images_sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),  # of names, classes, and files
        "seeds": len(seeds),
        "squeezers": list(SQUEEZED),
        "clean": {"seed": "".join("01"[item in attacked] for item in read), **_columns(clean, ("top5", "confidence"))},
        "attacks": {
            name: {
                "settings": ATTACKS[name].keywords,
                "seconds": _short(sum(record["seconds"] for record in records) / len(records)),
                **_columns(records, ("hit", "confidence", "linf", "L2", "L0")),
            }
            for name, records in done.items()
        },
        "cpu_seconds": round(spent, 1),
        "device": torch.cuda.get_device_name(run.device) if run.device.startswith("cuda") else run.device,
        "torch": str(torch.__version__),
        "command": " ".join(
            ["python -m labbook examples imagenet FOLDER --network", run.network, "--seeds", str(len(seeds)), *_asked(whole)]
        ),
        "version": __version__,
        "date": datetime.date.today().isoformat(),
    }


def _asked(names: Sequence[str]) -> list[str]:
    """What a command says to run these attacks."""
    if set(names) == set(USUAL):
        return []
    return ["--attack all"] if set(names) == set(ATTACKS) else [f"--attack '{name}'" for name in names]


def _columns(records: Sequence[Record], names: Sequence[str]) -> dict[str, Any]:
    """Whether an image is right, or hits, is a digit; numbers have 4 digits behind the point, as the paper's thresholds."""
    marks = ["".join(column) for column in zip(*(record["right"] for record in records), strict=True)]
    scores = zip(*(record["scores"] for record in records), strict=True)
    columns = {name: [record[name] for record in records] for name in names}
    flags = {name: "".join("01"[v] for v in values) for name, values in columns.items() if name in ("hit", "top5")}
    numbers = {name: [_short(v) for v in values] for name, values in columns.items() if name not in flags}
    return {
        "right": dict(zip(("none", *SQUEEZED), marks, strict=True)),
        **flags,
        **numbers,
        "scores": {name: [_short(v) for v in column] for name, column in zip(SQUEEZED, scores, strict=True)},
    }


def _short(value: float) -> float:
    return round(value, 4)


def _text(found: dict[str, Any]) -> str:
    """JSON with a list a line."""
    return re.sub(r"\[\n[^][{}]*\]", lambda numbers: re.sub(r"\n *", " ", numbers[0]), json.dumps(found, indent=1)) + "\n"


def evidence(network: str) -> Path:
    """Where :func:`store` writes."""
    return book_results() / "imagenet" / f"{network}.json"


def store(path: str | Path) -> Path:
    """Make what :func:`make` found the book's stored evidence.

    Raises ValueError for a trial: fewer seeds than the paper's, or not all of :data:`USUAL`.
    """
    found = json.loads(Path(path).read_text())
    if found["seeds"] < SEEDS or set(USUAL) - set(found["attacks"]):
        attacked = ", ".join(found["attacks"])
        raise ValueError(
            f"{path} is a trial, of {found['seeds']} seeds and {attacked}; evidence needs {SEEDS}, and {', '.join(USUAL)}"
        )
    place = evidence(found["network"])
    place.parent.mkdir(parents=True, exist_ok=True)
    return write(place, Path(path).read_bytes())
