"""The detector on images of your own, such as ImageNet's, which no book may ship: ``python -m advlab detect FOLDER``."""

from __future__ import annotations

import hashlib
import importlib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from tqdm.auto import tqdm

from .. import checks, folders
from ..attacks import fgsm
from ..data import eight_bits
from ..evaluate import clopper_pearson, predict
from ..store import Record, Records
from .detector import SqueezingDetector, threshold
from .squeezers import JOINT


def network(place: str) -> nn.Module:
    """What the function at ``place``, "module:function", returns, in eval mode; modules of the present folder are found too.

    It must map (n, 3, size, size) in [0, 1] to logits, so that it normalises by itself (:class:`advlab.models.Normalize`).
    Raises ValueError for a place that is not there, or is no such function, or one that fails.
    """
    module, _, name = place.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        made = getattr(importlib.import_module(module), name)()
    except Exception as e:  # a reader's code raises anything
        told = e if isinstance(e, ImportError | AttributeError | TypeError | ValueError) else repr(e)
        wanted = "it must be module:function, a function without arguments"
        raise ValueError(f"{place!r} gives no network ({told}): {wanted}") from e
    if not isinstance(made, nn.Module):
        raise ValueError(f"{place!r} returns {type(made).__name__}; it must return a torch.nn.Module")
    return made.eval()


class Task(NamedTuple):
    """An image, what it is for, and the key under which a store keeps what was found."""

    path: Path
    label: int | None
    attacked: bool  #: or one of those that the threshold is from
    key: str


def report(
    model: nn.Module,
    folder: str | Path,
    size: int = 224,
    n: int | None = None,
    *,
    classes: str | Path | None = None,
    table: str | Path | None = None,
    labels: Callable[..., list[int] | None] = folders.labels,
    store: str | Path | None = None,
    eps: float = 0.0078,
    batch_size: int = 32,
    progress: bool = True,
) -> tuple[dict[str, float], list[str]]:
    """The paper's ImageNet detector on the images of a folder: threshold from half of them, rates on the other half.

    Parameters
    ----------
    model : (n, 3, size, size) in [0, 1], red first -> logits, in eval mode
    folder, classes, table : as ``labels`` takes them, by default :func:`advlab.folders.labels`
    size, n : side of the network's input; so many of the images, or all
    store : a file that keeps what was found of each image: a run that was stopped goes on, unless files or weights changed
    eps : budget of FGSM, linf, by default the paper's
    batch_size : images in memory at a time
    Returns
    -------
    values : accuracy (NaN without labels), threshold, false positive rate with its 95 % interval, the share of the correctly
        classified that FGSM breaks (without labels, of all), and the share of these that is detected (NaN of none)
    notes : what to say beside them, such as files that were left out
    Raises
    ------
    ValueError
        as :mod:`advlab.folders` and the detector do, and for fewer than 4 images that can be read
    """
    paths, others = folders.images(folder)
    paths, blank = paths[:n], torch.zeros(1, 3, size, size, device=_device(model))
    checks.classifier_inputs(model, blank, torch.zeros_like(blank[:, 0, 0, 0], dtype=torch.int64))
    with torch.no_grad():
        count = model(blank).shape[1]
    y = labels(folder, paths, count, classes, table) or [None] * len(paths)
    tasks = _tasks(Path(folder), paths, y, [_digest(model), size, eps])
    book: Any = {} if store is None else Records(store, "detection")
    found: dict[str, Record] = {task.key: book[task.key] for task in tasks if task.key in book}
    notes = [f"left out: {k} files {suffix or 'without a suffix'}, which are not read" for suffix, k in others.items()]
    if y[:1] == [None]:
        notes.append("without labels the accuracy is not known, and FGSM is to change the network's own answers")
    todo = [task for task in tasks if task.key not in found]
    detector = SqueezingDetector(model, JOINT["imagenet"], batch_size=batch_size)
    with tqdm(total=len(tasks), initial=len(found), disable=not progress, unit="image") as bar:
        for start in range(0, len(todo), batch_size):
            come = _measured(detector, todo[start : start + batch_size], size, eps, notes)
            found |= come
            if store is not None:
                book.extend(come)
            bar.update(len(todo[start : start + batch_size]))
            bar.set_postfix(read=len(found), unreadable=bar.n - len(found))
    return _summary([(task, found[task.key]) for task in tasks if task.key in found], notes)


def _device(model: nn.Module) -> torch.device:
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def _digest(model: nn.Module) -> str:
    """Of layers and weights. Code that neither shows is not seen."""
    digest = hashlib.sha256(repr(model).encode())
    for value in model.state_dict().values():
        digest.update(value.detach().cpu().double().numpy().tobytes())
    return digest.hexdigest()


def _tasks(folder: Path, paths: list[Path], labels: Sequence[int | None], run: list) -> list[Task]:
    """The first half for the threshold, the others to be tested and attacked."""
    tasks = []
    for i, (path, label) in enumerate(zip(paths, labels, strict=True)):
        about, attacked = path.stat(), i >= len(paths) // 2
        parts = [*run, path.relative_to(folder).as_posix(), about.st_size, about.st_mtime_ns, label, attacked]
        tasks.append(Task(path, label, attacked, hashlib.sha256(repr(parts).encode()).hexdigest()))
    return tasks


def _measured(detector: SqueezingDetector, tasks: list[Task], size: int, eps: float, notes: list[str]) -> dict[str, Record]:
    """Answer and score of each image, and of what FGSM makes of those that are right; what cannot be read goes to the notes."""
    x, places, errors = folders.read_all([task.path for task in tasks], size)
    notes.extend(errors)
    read, model, x = [tasks[k] for k in places], detector.model, x.to(_device(detector.model))
    answers, scores = predict(model, x), detector.score_samples(x)
    found = {
        task.key: {"answer": answer, "score": score}
        for task, answer, score in zip(read, answers.tolist(), scores.tolist(), strict=True)
    }
    rows = [i for i, task in enumerate(read) if task.attacked and task.label in (None, int(answers[i]))]
    if rows:
        x_adv = eight_bits(fgsm(model, x[rows], answers[rows], eps=eps))
        after, scores = predict(model, x_adv).tolist(), detector.score_samples(x_adv).tolist()
        for i, answer, score in zip(rows, after, scores, strict=True):
            found[read[i].key] |= {"attacked answer": answer, "attacked score": score}
    return found


def _summary(found: list[tuple[Task, Record]], notes: list[str]) -> tuple[dict[str, float], list[str]]:
    clean = [record["score"] for task, record in found if not task.attacked]
    rest = [record for task, record in found if task.attacked]
    if min(len(clean), len(rest)) < 2:
        raise ValueError(
            f"{len(found)} images could be read; a threshold and its test need at least 4, better some hundreds. "
            + " ".join(notes[:3])
        )
    limit, few = threshold(torch.tensor(clean, dtype=torch.float64))
    flagged = sum(record["score"] > limit for record in rest)
    low, high = clopper_pearson(flagged, len(rest))
    attacked = [record for record in rest if "attacked answer" in record]
    broken = [record for record in attacked if record["attacked answer"] != record["answer"]]
    caught = sum(record["attacked score"] > limit for record in broken)
    right = [task.label == record["answer"] for task, record in found if task.label is not None]
    values = {
        "images": float(len(found)),
        "accuracy": sum(right) / len(right) if right else math.nan,
        "threshold": limit,
        "false positive rate": flagged / len(rest),
        "false positive rate, low": low,
        "false positive rate, high": high,
        "FGSM success": len(broken) / len(attacked) if attacked else math.nan,
        "FGSM detection": caught / len(broken) if broken else math.nan,
    }
    return values, [*notes, *filter(None, [few])]
