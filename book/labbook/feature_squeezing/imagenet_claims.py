"""Claims of chapter 2 on ImageNet: the paper's rows of Tables 1 to 5, from stored evidence of runs on images that do not ship.

``python -m labbook examples imagenet FOLDER`` makes the evidence again, for whoever has images; the claims only count in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from advlab.squeezing.squeezers import JOINT

from ..results import Measurement, claim
from ..stats import mean_over_images, share, share_columns
from . import paper
from .claims import slug
from .imagenet_examples import NAMES, SEEDS, evidence
from .measuring import over_seeds, threshold

Found = dict[str, Any]  #: what :func:`.imagenet_examples.make` writes
MEASURES = ("confidence", "linf", "L2", "L0")
#: Successful images behind each cell of the paper's Table 4, in the order of its attacks: they follow from its fractions.
BEHIND = dict(zip(paper.IMAGENET_2, (53, 45, 48, 48, 42, 47, 49, 55, 47), strict=True))


def stored(network: str) -> Found:
    """The evidence of a network."""
    return json.loads(evidence(network).read_text())


def _marks(digits: str) -> Tensor:
    """Digits 0 and 1 as (n,) bool."""
    return torch.tensor([digit == "1" for digit in digits], dtype=torch.bool)


def _members(detector: str) -> tuple[str, ...]:
    return JOINT["imagenet"] if detector == "joint" else (detector,)


def _scores(part: Found, detector: str) -> Tensor:
    """The scores (n,) of a detector on clean images, or on those of an attack."""
    return torch.tensor([part["scores"][name] for name in _members(detector)], dtype=torch.float64).amax(0)


def halves(found: Found, detector: str) -> tuple[Tensor, Tensor]:
    """The scores of clean images that set thresholds, and of others; no seed is among them."""
    rest = _scores(found["clean"], detector)[~_marks(found["clean"]["seed"])]
    return rest[: len(rest) // 2], rest[len(rest) // 2 :]


def _flagged(found: Found, detector: str) -> tuple[float, Tensor, Tensor]:
    """The threshold; which attacked images are flagged, and which reached their goal, (attacks, seeds) bool."""
    level = threshold(halves(found, detector)[0])
    parts = found["attacks"].values()
    return (
        level,
        torch.stack([_scores(part, detector) > level for part in parts]),
        torch.stack([_marks(p["hit"]) for p in parts]),
    )


def quality(found: Found, attack: str) -> Measurement:
    """Table 2: success on the seeds. The series has also the means over the images that succeed, and seconds."""
    part = found["attacks"][attack]
    hit = _marks(part["hit"])
    means = [float(torch.tensor(part[name], dtype=torch.float64)[hit].mean()) for name in MEASURES]
    success = share(hit)
    ours = [success.value, *means, part["seconds"]]
    return replace(success, series={"ours": ours, "paper": [float(v) for v in paper.IMAGENET_2[attack]]})


def squeezed(found: Found, name: str) -> Measurement:
    """Table 3: accuracy behind a squeezer on the images of all attacks. The series has the attacks, then the clean images."""
    hits = torch.stack([_marks(part["right"][name]) for part in found["attacks"].values()])
    clean = _marks(found["clean"]["right"][name])
    cells = dict(zip(paper.IMAGENET_2, paper.IMAGENET_3[name], strict=False))
    theirs = [cells[attack] / 100 for attack in found["attacks"]] + [paper.IMAGENET_3[name][-1] / 100]
    series = share_columns([share(part) for part in (*hits, clean)]) | {"paper": theirs}
    return replace(over_seeds(hits, torch.ones_like(hits)), series=series)


def detected(found: Found, detector: str) -> Measurement:
    """Table 4: detection of successful images at a false positive rate of 5 %. The series has the attacks."""
    level, flags, hits = _flagged(found, detector)
    limit, *cells, _ = paper.IMAGENET_4[detector]
    theirs = dict(zip(paper.IMAGENET_2, cells, strict=True))
    series = share_columns([share(flag[hit]) for flag, hit in zip(flags, hits, strict=True)]) | {
        "paper": [theirs[attack] for attack in found["attacks"]],
        "threshold": [level] * len(flags),
        "paper_threshold": [limit] * len(flags),
    }
    return replace(over_seeds(flags, hits), series=series)


def failed(found: Found) -> Measurement:
    """Table 5: the share of images that missed their goal and are flagged."""
    _, flags, hits = _flagged(found, "joint")
    return share(flags[~hits])


def false_positives(found: Found) -> Measurement:
    """Table 5: the share of clean images that set no threshold and are flagged."""
    fit, held_out = halves(found, "joint")
    return share(held_out > threshold(fit))


def area(found: Found) -> Measurement:
    """Table 5: the area under the ROC curve, of clean images that set no threshold and of successful attacked ones."""
    _, held_out = halves(found, "joint")
    positive = torch.cat([_scores(part, "joint")[_marks(part["hit"])] for part in found["attacks"].values()])
    truth = [0] * len(held_out) + [1] * len(positive)
    return Measurement(float(roc_auc_score(truth, torch.cat([held_out, positive]).numpy())), len(truth))


def lines(found: Found) -> Iterator[str]:
    """What was found, a line for each attack and one for the clean images."""
    yield f"{'':12}success   confidence   linf     L2      L0   detected  CPU s"
    joint = dict(zip(found["attacks"], detected(found, "joint").series["ours"], strict=True))
    for attack in found["attacks"]:
        success, confidence, linf, l2, l0, seconds = quality(found, attack).series["ours"]
        yield (
            f"{attack:12}{success:7.1%} {confidence:12.1%} {linf:8.4f} {l2:7.3f} {l0:7.4f} {joint[attack]:8.1%} {seconds:7.1f}"
        )
    fit, held_out = halves(found, "joint")
    right, wrong = share(_marks(found["clean"]["right"]["none"])).value, false_positives(found).value
    yield f"{found['images']} clean images: {right:.1%} right; threshold {threshold(fit):.4f} from {len(fit)} of them,"
    yield f"above which are {wrong:.1%} of {len(held_out)} others"


# ---------------------------------------------------------------------------------------------- the manifest


def register(network: str) -> None:
    """The claims on the evidence of ``network``."""
    found = stored(network)
    name = f"ImageNet, {NAMES[network]}"
    note = f"{found['images']} images: {found['source'] or 'of a folder'}."
    _table_1(network, name, note)
    for attack in found["attacks"]:
        _table_2(network, f"{name}, {attack}", attack)
    for squeezer in paper.IMAGENET_3:
        _table_3(network, f"{name}, squeezer {squeezer}", squeezer, found)
    for detector in paper.IMAGENET_4:
        _table_4(network, f"{name}, detector {detector}", detector, found)
    _table_5(network, f"{name}, joint detector", note)


def _at(table: int, found: Found | None = None) -> str:
    """Where the paper's number stands; if it is over all attacks, and not all were run, over which of its cells."""
    some = found is not None and len(found["attacks"]) < len(paper.IMAGENET_2)
    return f"Xu et al. (2018), Table {table}" + ", over the attacks that were run here" * some


def _table_1(network: str, name: str, note: str) -> None:
    accuracy, confidence, top5 = paper.IMAGENET_1

    @claim(
        f"feature_squeezing.accuracy_{network}",
        f"{name}: accuracy",
        paper=accuracy,
        where=_at(1),
        digits=2,
        note=f"{note} The paper's network is MobileNet v1 of width 1, on the validation set.",
        evidence=[f"imagenet/{network}"],
    )
    def measure_accuracy(n: int | None = None) -> Measurement:
        return share(_marks(stored(network)["clean"]["right"]["none"]))

    @claim(
        f"feature_squeezing.top5_{network}",
        f"{name}: the class is among the five likeliest",
        paper=top5,
        where=_at(1),
        digits=2,
        note=note,
        evidence=[f"imagenet/{network}"],
    )
    def measure_top5(n: int | None = None) -> Measurement:
        return share(_marks(stored(network)["clean"]["top5"]))

    @claim(
        f"feature_squeezing.confidence_{network}",
        f"{name}: mean confidence",
        paper=confidence,
        where=_at(1),
        digits=2,
        note=note,
        evidence=[f"imagenet/{network}"],
    )
    def measure_confidence(n: int | None = None) -> Measurement:
        return mean_over_images(np.array(stored(network)["clean"]["confidence"]))


def _table_2(network: str, name: str, attack: str) -> None:
    @claim(
        f"feature_squeezing.attack_{network}_{slug(attack)}",
        f"{name}: success rate on {SEEDS} seeds",
        paper=paper.IMAGENET_2[attack][0],
        where=_at(2),
        digits=0,
        note="Rounded to 8 bits. The paper's network is MobileNet v1 of width 1.",
        evidence=[f"imagenet/{network}"],
    )
    def measure(n: int | None = None) -> Measurement:
        return quality(stored(network), attack)


def _table_3(network: str, name: str, squeezer: str, found: Found) -> None:
    cells = dict(zip(paper.IMAGENET_2, paper.IMAGENET_3[squeezer], strict=False))
    theirs = [cells[attack] / 100 for attack in found["attacks"]]

    @claim(
        f"feature_squeezing.squeezed_{network}_{slug(squeezer)}",
        f"{name}: accuracy on the adversarial images of all attacks",
        paper=sum(theirs) / len(theirs),
        where=_at(3, found),
        over=f"{SEEDS} seeds",
        note="Failed attempts count too. The interval draws seeds anew.",
        evidence=[f"imagenet/{network}"],
    )
    def measure(n: int | None = None) -> Measurement:
        return squeezed(stored(network), squeezer)


def _table_4(network: str, name: str, detector: str, found: Found) -> None:
    cells = dict(zip(paper.IMAGENET_2, paper.IMAGENET_4[detector][1:], strict=False))
    flagged = sum(cells[attack] * BEHIND[attack] for attack in found["attacks"])

    @claim(
        f"feature_squeezing.detected_{network}_{slug(detector)}",
        f"{name}: detection of successful adversarial images",
        paper=round(flagged / sum(BEHIND[attack] for attack in found["attacks"]), 3),
        where=_at(4, found),
        note="At a false positive rate of 5 %, set on clean images that are used for nothing else.",
        over=f"{SEEDS} seeds",
        evidence=[f"imagenet/{network}"],
    )
    def measure(n: int | None = None) -> Measurement:
        return detected(stored(network), detector)


def _table_5(network: str, name: str, note: str) -> None:
    _, missed, wrong, curve = paper.IMAGENET_5

    @claim(
        f"feature_squeezing.failed_{network}",
        f"{name}: share of the failed adversarial images that are flagged",
        paper=missed,
        where=_at(5),
        note="Attempts that missed their goal; some are wrong all the same.",
        evidence=[f"imagenet/{network}"],
    )
    def measure_failed(n: int | None = None) -> Measurement:
        return failed(stored(network))

    @claim(
        f"feature_squeezing.false_positives_{network}",
        f"{name}: share of held-out clean images that are flagged",
        paper=wrong,
        where=_at(5),
        note=f"{note} Halves of those without the seeds: one sets the threshold, one the rate. The paper's rate seems to be of "
        "some hundred images.",
        evidence=[f"imagenet/{network}"],
    )
    def measure_false(n: int | None = None) -> Measurement:
        return false_positives(stored(network))

    @claim(
        f"feature_squeezing.auc_{network}",
        f"{name}: area under the ROC curve, failed adversarial images left out",
        paper=curve,
        where=_at(5),
        digits=2,
        note="Clean images that set no threshold against successful adversarial ones.",
        evidence=[f"imagenet/{network}"],
    )
    def measure_area(n: int | None = None) -> Measurement:
        return area(stored(network))


for _network in NAMES:
    if evidence(_network).exists():
        register(_network)
