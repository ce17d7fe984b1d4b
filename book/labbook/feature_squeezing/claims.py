"""The claims of chapter 2: the paper's tables on our networks. Those on attacks that know the detector are in other modules.

``python -m labbook reproduce feature_squeezing --tier laptop`` measures them and writes the manifest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from advlab import data, evaluate
from advlab.squeezing.detector import SqueezingDetector
from advlab.squeezing.squeezers import JOINT, SQUEEZERS

from ..results import Measurement, claim
from ..stats import share, share_columns
from . import examples, paper
from .measuring import NAMES, clean, halves, network, over_seeds, shipped, threshold

OTHER_NETWORK = {
    "mnist": "Our own training run of the paper's network and recipe.",
    "cifar10": "A smaller network than the paper's DenseNet, our own training run.",
}
#: Thresholds for CIFAR-10 rest on clean images of the full set, which has to be fetched.
TIERS = {"mnist": "fast", "cifar10": "laptop"}
#: Columns of a Table 2 entry's series, in order.
MEASURES = ("success", "confidence", "linf", "L2", "L0", "seconds")


class Scores(NamedTuple):
    """Scores of all squeezers, in the order of the columns: on clean images that set thresholds, on others, and attacked."""

    columns: tuple[str, ...]
    fit: Tensor  #: (n, k)
    held_out: Tensor  #: (n, k)
    attacked: dict[str, Tensor]  #: attack -> (seeds, k)
    successful: dict[str, Tensor]  #: attack -> (seeds,) bool


@functools.cache
def scores(dataset: str, n: int | None = None) -> Scores:
    """All the scores of the shipped adversarial images, on the first ``n`` seeds."""
    model = network(dataset)
    found, hits = shipped(dataset)
    columns = tuple(c for c in paper.TABLE_4[dataset] if c != "joint")
    detector = SqueezingDetector(model, columns)
    fit, held_out = halves(dataset, n)
    attacked = {name: detector.squeezer_scores(images[:n]) for name, images in found.adversarial.items()}
    successful = {name: hit[:n] for name, hit in hits.items()}
    return Scores(columns, detector.squeezer_scores(fit), detector.squeezer_scores(held_out), attacked, successful)


def members(dataset: str, name: str) -> list[int]:
    """The columns of :func:`scores` that the detector ``name`` looks at: one squeezer, or the joint ones."""
    columns = [c for c in paper.TABLE_4[dataset] if c != "joint"]
    return [columns.index(c) for c in (JOINT[dataset] if name == "joint" else [name])]


# ---------------------------------------------------------------------------------------------- Table 1


def _mean_confidence(dataset: str, n: int | None) -> Measurement:
    x, _ = data.mnist(n=n) if dataset == "mnist" else data.cifar10(full=n is None, n=n)
    model = network(dataset)
    with torch.no_grad():
        top = torch.cat([model(part).softmax(1).amax(1) for part in x.split(500)]).double()
    spread = 1.96 * float(top.std()) / len(top) ** 0.5
    return Measurement(float(top.mean()), len(top), (float(top.mean()) - spread, min(1.0, float(top.mean()) + spread)))


@claim(
    "feature_squeezing.confidence_mnist",
    "MNIST network: mean confidence on the test set",
    paper=paper.TABLE_1["mnist"][1],
    where="Xu et al. (2018), Table 1",
    digits=2,
    note=OTHER_NETWORK["mnist"],
    networks=["mnist_cnn7"],
)
def confidence_mnist(n: int | None = None) -> Measurement:
    return _mean_confidence("mnist", n)


@claim(
    "feature_squeezing.accuracy_cifar10",
    "CIFAR-10 network: accuracy on the test set",
    paper=paper.TABLE_1["cifar10"][0],
    where="Xu et al. (2018), Table 1",
    digits=2,
    note=OTHER_NETWORK["cifar10"] + " Needs the full set: python -m advlab data cifar10.",
    tier="laptop",
    networks=[examples.NETWORKS["cifar10"]],
)
def accuracy_cifar10(n: int | None = None) -> Measurement:
    x, y = data.cifar10(full=n is None, n=n)
    return share(evaluate.predict(network("cifar10"), x) == y)


@claim(
    "feature_squeezing.confidence_cifar10",
    "CIFAR-10 network: mean confidence on the test set",
    paper=paper.TABLE_1["cifar10"][1],
    where="Xu et al. (2018), Table 1",
    digits=2,
    note=OTHER_NETWORK["cifar10"],
    tier="laptop",
    networks=[examples.NETWORKS["cifar10"]],
)
def confidence_cifar10(n: int | None = None) -> Measurement:
    return _mean_confidence("cifar10", n)


# ---------------------------------------------------------------------------------------------- Tables 2, 3, 4


def _quality(dataset: str, attack: str, n: int | None) -> Measurement:
    """Table 2: success on the seeds; the series has :data:`MEASURES`, the mean over the images that succeed."""
    model = network(dataset)
    found, hits = shipped(dataset)
    x, x_adv, hit = found.x[:n], found.adversarial[attack][:n], hits[attack][:n]
    with torch.no_grad():
        confidence = model(x_adv).softmax(1).amax(1)
    values = [confidence, *(evaluate.distances(x_adv, x, norm) for norm in ("linf", "l2"))]
    values.append(evaluate.distances(x_adv, x, "l0").double() / x[0, 0].numel())  # of all pixels, as the paper counts
    means = [float(v[hit].mean()) if hit.any() else math.nan for v in values]
    success = share(hit)
    ours = [success.value, *means, found.seconds[attack]]
    theirs = [float(v) for v in paper.TABLE_2[dataset][attack]]
    return replace(success, series={"ours": ours, "paper": theirs})


def _squeezed_accuracy(dataset: str, name: str, n: int | None) -> Measurement:
    """Table 3: accuracy behind one squeezer; the series has the attacks and then the clean images."""
    model = network(dataset)
    found, _ = shipped(dataset)
    squeezer: Callable[[Tensor], Tensor] = SQUEEZERS[name] if name != "none" else torch.clone
    y = found.y[:n]
    right = [evaluate.predict(model, squeezer(images[:n])) == y for images in found.adversarial.values()]
    x, labels = clean(dataset, n)
    parts = [*right, torch.cat([evaluate.predict(model, squeezer(part)) for part in x.split(500)]) == labels]
    cells = [share(part) for part in parts]
    *theirs, _, legitimate = (v / 100 for v in paper.TABLE_3[dataset][name])
    hits = torch.stack(right)
    series = share_columns(cells) | {"paper": [*theirs, legitimate]}
    return replace(over_seeds(hits, torch.ones_like(hits)), series=series)


def _detected(dataset: str, name: str, n: int | None) -> Measurement:
    """Table 4: detection of successful adversarial images at a false positive rate of 5 %; the series has the attacks."""
    found = scores(dataset, n)
    columns = members(dataset, name)
    level = threshold(found.fit[:, columns].amax(1))
    flagged = {attack: s[:, columns].amax(1) > level for attack, s in found.attacked.items()}
    cells = [share(flags[found.successful[attack]]) for attack, flags in flagged.items()]
    whole = over_seeds(torch.stack(list(flagged.values())), torch.stack(list(found.successful.values())))
    theirs, *rates, _ = paper.TABLE_4[dataset][name]
    series = share_columns(cells) | {
        "paper": rates,
        "threshold": [level] * len(cells),
        "paper_threshold": [theirs] * len(cells),
    }
    return replace(whole, series=series)


def slug(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "")


def _table_2(dataset: str, attack: str) -> None:
    @claim(
        f"feature_squeezing.attack_{dataset}_{slug(attack)}",
        f"{NAMES[dataset]}, {attack}: success rate on 100 seeds",
        paper=paper.TABLE_2[dataset][attack][0],
        where="Xu et al. (2018), Table 2",
        digits=0,
        note=OTHER_NETWORK[dataset],
        networks=[examples.NETWORKS[dataset]],
        evidence=[f"adversarial-{dataset}"],
    )
    def measure(n: int | None = None) -> Measurement:
        return _quality(dataset, attack, n)


def _table_3(dataset: str, name: str) -> None:
    @claim(
        f"feature_squeezing.squeezed_{dataset}_{slug(name)}",
        f"{NAMES[dataset]}, squeezer {name}: accuracy on the adversarial images of all attacks",
        paper=paper.TABLE_3[dataset][name][-2] / 100,
        where="Xu et al. (2018), Table 3",
        over="100 seeds",
        note="Failed attempts count too. The interval draws seeds anew.",
        networks=[examples.NETWORKS[dataset]],
        evidence=[f"adversarial-{dataset}"],
    )
    def measure(n: int | None = None) -> Measurement:
        return _squeezed_accuracy(dataset, name, n)


def _table_4(dataset: str, name: str) -> None:
    @claim(
        f"feature_squeezing.detected_{dataset}_{slug(name)}",
        f"{NAMES[dataset]}, detector {name}: detection of successful adversarial images",
        paper=paper.TABLE_4[dataset][name][-1],
        where="Xu et al. (2018), Table 4",
        note="At a false positive rate of 5 %, set on clean images that are used for nothing else.",
        over="100 seeds",
        tier=TIERS[dataset],
        networks=[examples.NETWORKS[dataset]],
        evidence=[f"adversarial-{dataset}"],
    )
    def measure(n: int | None = None) -> Measurement:
        return _detected(dataset, name, n)


for _dataset in examples.NETWORKS:
    for _attack in paper.TABLE_2[_dataset]:
        _table_2(_dataset, _attack)
    for _name in paper.TABLE_3[_dataset]:
        _table_3(_dataset, _name)
    for _name in paper.TABLE_4[_dataset]:
        _table_4(_dataset, _name)


# ---------------------------------------------------------------------------------------------- Tables 5 and 6


def _joint(dataset: str, n: int | None) -> tuple[Scores, Tensor, Tensor, dict[str, Tensor]]:
    """The scores, and of the joint detector: those that set the threshold, those held out, those of each attack."""
    found = scores(dataset, n)
    columns = members(dataset, "joint")
    attacked = {attack: s[:, columns].amax(1) for attack, s in found.attacked.items()}
    return found, found.fit[:, columns].amax(1), found.held_out[:, columns].amax(1), attacked


def _table_5(dataset: str) -> None:
    name, net = NAMES[dataset], examples.NETWORKS[dataset]
    _, failed, false_positives, area = paper.TABLE_5[dataset]

    @claim(
        f"feature_squeezing.failed_{dataset}",
        f"{name}, joint detector: share of the failed adversarial images that are flagged",
        paper=failed,
        where="Xu et al. (2018), Table 5",
        note="Attempts that missed their goal; some are wrong all the same.",
        tier=TIERS[dataset],
        networks=[net],
        evidence=[f"adversarial-{dataset}"],
    )
    def measure_failed(n: int | None = None) -> Measurement:
        found, fit, _, attacked = _joint(dataset, n)
        level = threshold(fit)
        return share(torch.cat([(s > level)[~found.successful[attack]] for attack, s in attacked.items()]))

    @claim(
        f"feature_squeezing.false_positives_{dataset}",
        f"{name}, joint detector: share of held-out clean images that are flagged",
        paper=false_positives,
        where="Xu et al. (2018), Table 5",
        note="Random halves of the clean test images without the seeds: one sets the threshold, one the rate.",
        tier=TIERS[dataset],
        networks=[net],
        evidence=[f"adversarial-{dataset}"],
    )
    def measure_false(n: int | None = None) -> Measurement:
        _, fit, held_out, _ = _joint(dataset, n)
        return share(held_out > threshold(fit))

    @claim(
        f"feature_squeezing.auc_{dataset}",
        f"{name}, joint detector: area under the ROC curve, failed adversarial images left out",
        paper=area,
        where="Xu et al. (2018), Table 5",
        digits=2,
        note="Clean images that set no threshold against successful adversarial ones.",
        tier=TIERS[dataset],
        networks=[net],
        evidence=[f"adversarial-{dataset}"],
    )
    def measure_area(n: int | None = None) -> Measurement:
        found, _, held_out, attacked = _joint(dataset, n)
        positive = torch.cat([s[found.successful[attack]] for attack, s in attacked.items()])
        truth = [0] * len(held_out) + [1] * len(positive)
        return Measurement(float(roc_auc_score(truth, torch.cat([held_out, positive]).numpy())), len(truth))


def _table_6(dataset: str, which: str) -> None:
    rate, of_all, of_successful = paper.TABLE_6[dataset]

    @claim(
        f"feature_squeezing.strict_{dataset}_{which}",
        f"{NAMES[dataset]}, joint detector at {100 * rate:.2f} % false positives: detection of {which} adversarial images",
        paper=of_all if which == "all" else of_successful,
        where="Xu et al. (2018), Table 6",
        over="100 seeds",
        note="The rate at which the paper compares with MagNet. The interval draws seeds anew.",
        tier=TIERS[dataset],
        networks=[examples.NETWORKS[dataset]],
        evidence=[f"adversarial-{dataset}"],
    )
    def measure(n: int | None = None) -> Measurement:
        found, fit, _, attacked = _joint(dataset, n)
        flagged = torch.stack([s > threshold(fit, rate) for s in attacked.values()])
        successful = torch.stack(list(found.successful.values()))
        return over_seeds(flagged, torch.ones_like(successful) if which == "all" else successful)


for _dataset in examples.NETWORKS:
    _table_5(_dataset)
    for _which in ("all", "successful"):
        _table_6(_dataset, _which)


# ---------------------------------------------------------------------------------------------- more seeds

#: Attacks that a laptop runs on 1,000 seeds in minutes.
CHEAP = ("FGSM", "BIM", "JSMA next", "JSMA LL")


@claim(
    "feature_squeezing.many_seeds_mnist",
    "MNIST, joint detector: detection on 1,000 seeds, FGSM, BIM and JSMA",
    over="1,000 seeds",
    note="Ten times the paper's seeds, for the attacks that cost seconds; the interval draws seeds anew.",
    tier="laptop",
    networks=["mnist_cnn7"],
)
def many_seeds_mnist(n: int = 1000) -> Measurement:
    folder = data.data_directory() / f"adversarial-{n}"
    examples.make("mnist", folder, n=n, names=list(CHEAP), progress=False)
    found = examples.load("mnist", folder)
    model = network("mnist")
    fit, _ = halves("mnist", min(n, 1000))
    detector = SqueezingDetector(model, JOINT["mnist"]).fit(fit)
    successful = found.successful(model)
    flagged = {attack: detector.predict(images) for attack, images in found.adversarial.items()}
    cells = [share(flags[successful[attack]]) for attack, flags in flagged.items()]
    whole = over_seeds(torch.stack(list(flagged.values())), torch.stack(list(successful.values())))
    return replace(whole, series=share_columns(cells))
