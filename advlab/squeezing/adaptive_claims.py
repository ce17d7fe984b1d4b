"""The claims of chapter 2 on attacks that know the detector, and on squeezing inside the network.

Rates are shares of the same first seeds; every image is rounded to 8 bits before the detector is asked.
"""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from .. import attacks, data, evaluate, zoo
from ..data import eight_bits
from ..results import Measurement, claim
from . import adaptive, examples
from .claims import NAMES, halves, network, share, shipped, threshold
from .detector import SqueezingDetector
from .features import ChannelDrop, FeatureBits, features, hidden_layers, output_distance, response, with_layer
from .squeezers import JOINT, SQUEEZERS, Squeezer, median_filter, reduce_bit_depth

ADAPTIVE = "Xu et al. (2018), section V-D"


@functools.cache
def level(dataset: str, n: int | None = None) -> float:
    """The joint detector's threshold at 5 % false positives, from the clean images that set it."""
    return SqueezingDetector(network(dataset), JOINT[dataset]).fit(halves(dataset, n)[0]).threshold_


def judge(dataset: str, x_adv: Tensor, y: Tensor, targets: Tensor | None, at: float) -> tuple[Tensor, Tensor]:
    """Of images rounded to 8 bits: which reach their goal, and which do so and pass the detector, (n,) bool each."""
    model, images = network(dataset), eight_bits(x_adv)
    guess = evaluate.predict(model, images)
    hit = guess != y if targets is None else guess == targets
    return hit, hit & (SqueezingDetector(model, JOINT[dataset]).score_samples(images) <= at)


class Run:
    """One adaptive attack on the first seeds: what it made, and what the detector says."""

    def __init__(self, dataset: str, x: Tensor, y: Tensor, x_adv: Tensor, targets: Tensor | None, at: float) -> None:
        self.dataset, self.x, self.y, self.x_adv, self.targets, self.at = dataset, x, y, eight_bits(x_adv), targets, at
        self.hit, self.evades = judge(dataset, x_adv, y, targets, at)
        self.l2 = evaluate.distances(self.x_adv, x, "l2")

    def within(self, l2: float) -> Tensor:
        return self.evades & (self.l2 <= l2)

    def clipped(self, eps: float) -> Tensor:
        """Which still evade after a clip of the finished image to ``eps`` in linf, as the paper clips."""
        images = torch.minimum(torch.maximum(self.x_adv, self.x - eps), self.x + eps).clamp(0, 1)
        return judge(self.dataset, images, self.y, self.targets, self.at)[1]


_BUDGET = {
    "mnist": {"learning_rate": 0.03},
    "cifar10": {"learning_rate": 0.01, "initial_c": 10.0, "search_steps": 4, "steps": 50},
}


@functools.cache
def run(dataset: str, kind: str, goal: str, n: int) -> Run:
    """``kind``: "paper", or a key of :data:`adaptive.GRADIENTS`; ``goal``: "any", "next" or "LL". Equal budgets for all."""
    model, at = network(dataset), level(dataset, None if n >= 12 else n)
    x, y = examples.seeds(dataset, n)
    targets = None if goal == "any" else examples.targets(model, x, y, f"attack {goal}")
    squeezers = adaptive.with_gradient(JOINT[dataset], "none" if kind == "paper" else kind)
    attack = adaptive.paper_adaptive if kind == "paper" else adaptive.evade_l2
    budget = _BUDGET[dataset] | ({"search_steps": 2, "steps": 20} if n < 12 else {})
    x_adv = attack(model, squeezers, at, x, y, targets=targets, **cast(dict[str, Any], budget))
    return Run(dataset, x, y, x_adv, targets, at)


#: Budgets in L2 at which the curves of evasion are read.
L2_BUDGETS = {"mnist": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0], "cifar10": [0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0]}


def _curve(shares: list[Tensor], budgets: list[float]) -> dict[str, list[float]]:
    counts = [int(s.sum()) for s in shares]
    intervals = [evaluate.clopper_pearson(k, len(s)) for k, s in zip(counts, shares, strict=True)]
    return {
        "budget": budgets,
        "evades": [k / len(s) for k, s in zip(counts, shares, strict=True)],
        "low": [low for low, _ in intervals],
        "high": [high for _, high in intervals],
    }


def _evasion(dataset: str, kind: str, goal: str, n: int) -> Measurement:
    """The share that evades at any distance; the series is the curve against the budget in L2."""
    made = run(dataset, kind, goal, n)
    found = share(made.evades)
    budgets = L2_BUDGETS[dataset]
    return Measurement(found.value, found.n, found.interval, series=_curve([made.within(b) for b in budgets], budgets))


_KINDS = {
    "paper": "the paper's own adaptive attack",
    "soft": "a margin on all views, soft bits",
    "straight-through": "a margin on all views, straight-through bits",
    "identity": "a margin on all views, the identity through every squeezer",
}
_GOALS = {"any": "untargeted", "next": "next class", "LL": "least likely class"}
_PAPER = {"any": 0.68, "next": 0.44, "LL": 0.24}
_RUNS = [
    ("mnist", "paper", "any", 100),
    ("mnist", "paper", "next", 20),
    ("mnist", "soft", "any", 100),
    ("mnist", "soft", "next", 20),
    ("mnist", "straight-through", "any", 20),
    ("mnist", "identity", "any", 20),
    ("cifar10", "straight-through", "any", 15),
]


def _adaptive_claim(dataset: str, kind: str, goal: str, seeds: int) -> None:
    printed = _PAPER[goal] if (dataset, kind) == ("mnist", "paper") else None

    @claim(
        f"feature_squeezing.evades_{dataset}_{kind.replace('-', '_')}_{goal.lower()}",
        f"{NAMES[dataset]}, {_KINDS[kind]}, {_GOALS[goal]}: share that evades, any distance",
        paper=printed,
        where=ADAPTIVE if printed is not None else None,
        digits=0,
        note="Wrong, and below the threshold, after rounding to 8 bits. All attacks have the same number of gradients.",
        tier="laptop",
        networks=[examples.NETWORKS[dataset]],
    )
    def measure(n: int = seeds) -> Measurement:
        return _evasion(dataset, kind, goal, n)


for _run in _RUNS:
    _adaptive_claim(*_run)


@claim(
    "feature_squeezing.evasion_distance_mnist",
    "MNIST, median distance of an image that evades, L2, margin on all views, soft bits",
    unit="",
    digits=2,
    note="Seeds that never evade count as infinitely far.",
    tier="laptop",
    networks=["mnist_cnn7"],
)
def evasion_distance_mnist(n: int = 100) -> Measurement:
    made = run("mnist", "soft", "any", n)
    median, low, high = evaluate.median_interval(torch.where(made.evades, made.l2, torch.inf))
    return Measurement(median, n, (low, high))


def _clipped(eps: float, printed: float) -> None:
    @claim(
        f"feature_squeezing.clipped_{round(10 * eps)}",
        f"MNIST, the paper's adaptive attack clipped afterwards to linf {eps}: share that evades",
        paper=printed,
        where="Xu et al. (2018), Figure 7",
        digits=0,
        note="Clipped after the attack, as in the authors' code; compare the attack that keeps to the budget throughout.",
        tier="laptop",
        networks=["mnist_cnn7"],
    )
    def measure(n: int = 100) -> Measurement:
        return share(run("mnist", "paper", "any", n).clipped(eps))


_clipped(0.3, 0.01)
_clipped(0.5, 0.06)

#: Budgets of the attacks that keep to them, in linf.
LINF_BUDGETS = {"mnist": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "cifar10": [k / 255 for k in (1, 2, 4, 8)]}


@functools.cache
def bounded(dataset: str, gradient: str, n: int) -> list[Tensor]:
    """Which of the first n seeds evade within each of :data:`LINF_BUDGETS`; an image that evades is kept for larger ones."""
    model, at = network(dataset), level(dataset, None if n >= 12 else n)
    x, y = examples.seeds(dataset, n)
    squeezers = adaptive.with_gradient(JOINT[dataset], gradient)
    steps = 5 if n < 12 else 60 if dataset == "mnist" else 30
    with torch.no_grad():
        likely = model(x).scatter(1, y[:, None], -math.inf).topk(2).indices.T
    best, done, found = x.clone(), torch.zeros(n, dtype=torch.bool), []
    for eps in LINF_BUDGETS[dataset]:
        for targets in (None, *likely):  # (n,) or the two likeliest wrong classes
            rows = (~done).nonzero()[:, 0]
            if not len(rows):
                break
            goals = None if targets is None else targets[rows]
            made = adaptive.evade_linf(
                model, squeezers, at, x[rows], y[rows], eps=eps, steps=steps, start=best[rows], targets=goals
            )
            _, evades = judge(dataset, made, y[rows], goals, at)
            if targets is None:
                best[rows] = made
            done[rows] |= evades
        found.append(done.clone())
    return found


def _bounded_claim(dataset: str, gradient: str, place: int, seeds: int) -> None:
    eps = LINF_BUDGETS[dataset][place]
    shown = f"{eps}" if dataset == "mnist" else f"{round(255 * eps)}/255"

    @claim(
        f"feature_squeezing.bounded_{dataset}",
        f"{NAMES[dataset]}, attack that knows the detector, within linf {shown}: share that evades",
        digits=0,
        note="Margin on all views, 60 steps (30 on CIFAR-10) untargeted and to each of the two likeliest wrong classes.",
        tier="laptop",
        networks=[examples.NETWORKS[dataset]],
    )
    def measure(n: int = seeds) -> Measurement:
        curves = bounded(dataset, gradient, n)
        found = share(curves[place])
        return Measurement(found.value, found.n, found.interval, series=_curve(curves, LINF_BUDGETS[dataset]))


_bounded_claim("mnist", "soft", 2, 50)
_bounded_claim("cifar10", "straight-through", 3, 15)

KAPPAS = [0.0, 10.0, 20.0, 30.0, 40.0]


@claim(
    "feature_squeezing.confidence_evades_mnist",
    "MNIST, CW2 with confidence 40 that knows nothing of the detector: share that evades",
    digits=0,
    note="Untargeted; the series has the confidences from 0 to 40. Confidence alone defeats the detector.",
    tier="laptop",
    networks=["mnist_cnn7"],
)
def confidence_evades_mnist(n: int = 50) -> Measurement:
    model, at = network("mnist"), level("mnist", None if n >= 12 else n)
    x, y = examples.seeds("mnist", n)
    evading, lengths = [], []
    steps = 100 if n >= 12 else 20
    for kappa in KAPPAS:
        x_adv = attacks.cw_l2(model, x, y, confidence=kappa, search_steps=4, steps=steps)
        evading.append(judge("mnist", x_adv, y, None, at)[1])
        lengths.append(float(evaluate.distances(x_adv, x, "l2").median()))
    found = share(evading[-1])
    return Measurement(found.value, n, found.interval, series=_curve(evading, KAPPAS) | {"median_l2": lengths})


CUTOFFS = (0.4, 0.5, 0.6)


@claim(
    "feature_squeezing.random_cutoff_mnist",
    "MNIST, the one-bit cutoff drawn anew at each look: share of looks that are evaded",
    paper=0.465,
    where=ADAPTIVE,
    digits=1,
    note="The cutoff is normal, mean 0.5, deviation 0.0625; the attack asks for a margin at cutoffs 0.4, 0.5 and 0.6 and "
    "through the median. Twenty looks an image. The paper's number is its own ensemble attack, untargeted.",
    tier="laptop",
    networks=["mnist_cnn7"],
)
def random_cutoff_mnist(n: int = 50) -> Measurement:
    model, at = network("mnist"), level("mnist", None if n >= 12 else n)
    x, y = examples.seeds("mnist", n)
    views = {f"cutoff {c}": functools.partial(adaptive.binary_filter, cutoff=c, gradient="soft") for c in CUTOFFS}
    views["median"] = functools.partial(median_filter, size=2)
    searches, steps = (5, 100) if n >= 12 else (2, 20)
    images = eight_bits(adaptive.evade_l2(model, views, at, x, y, search_steps=searches, steps=steps))
    wrong = evaluate.predict(model, images) != y
    generator = torch.Generator().manual_seed(0)
    passed = []
    for _ in range(20):
        cutoff = 0.5 + 0.0625 * float(torch.randn((), generator=generator))
        looks = {"bits": functools.partial(adaptive.binary_filter, cutoff=cutoff), "median": views["median"]}
        passed.append(wrong & (SqueezingDetector(model, looks).score_samples(images) <= at))
    each = torch.stack(passed).double().mean(0)  # the share of looks, for each seed
    generator.manual_seed(1)
    means = each[torch.randint(n, (2000, n), generator=generator)].mean(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return Measurement(float(each.mean()), n, (low, high))


# ---------------------------------------------------------------------------------------------- Figure 4

EPSILONS = [0.1, 0.2, 0.3, 0.4]


class Behind(nn.Module):
    """A network that sees the image through a squeezer."""

    def __init__(self, squeezer: Squeezer, net: nn.Module) -> None:
        super().__init__()
        self.squeezer, self.net = squeezer, net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.squeezer(x))


def _pgd(model: nn.Module, x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    return attacks.pgd(model, x, y, eps=eps, steps=40, generator=torch.Generator().manual_seed(0))


def _protected(defence: str, attack: str, n: int) -> Measurement:
    """Accuracy on the first n test images against the budget: of the series, the entry at eps 0.3."""
    x, y = data.mnist(n=n)
    plain = network("mnist")
    target = zoo.load("mnist_adversarial") if defence == "trained" else Behind(SQUEEZERS["1-bit"], plain).eval()
    known = Behind(functools.partial(reduce_bit_depth, bits=1, gradient="straight-through"), plain).eval()
    attacked = {"trained": target, "filter": plain, "filter that is known": known}[defence]
    right = []
    for eps in EPSILONS:
        make = functools.partial(attacks.fgsm if attack == "FGSM" else _pgd, eps=eps)
        parts = zip(x.split(250), y.split(250), strict=True)
        right.append(
            torch.cat([evaluate.predict(target, make(attacked, images, labels)) == labels for images, labels in parts])
        )
    found = share(right[2])
    curve = _curve(right, EPSILONS)
    curve["accuracy"] = curve.pop("evades")
    return Measurement(found.value, n, found.interval, series=curve)


_DEFENCES = {
    "filter": ("binary filter, attack that does not know it", "The attack is made on the bare network, as in the paper."),
    "filter that is known": ("binary filter, attack through it", "Straight-through gradient; the paper has no such row."),
    "trained": ("adversarial training", "White box; trained with PGD-5 at 0.3, a smaller network. The series has 0.1 to 0.4."),
}
_FIGURE_4 = {("filter", "FGSM"): 0.9303, ("filter", "PGD"): 0.9050, ("trained", "FGSM"): 0.9238}


def _figure_4(defence: str, attack: str) -> None:
    title, note = _DEFENCES[defence]
    printed = _FIGURE_4.get((defence, attack))

    @claim(
        f"feature_squeezing.figure4_{defence.replace(' ', '_')}_{attack.lower()}",
        f"MNIST, {title}: accuracy under {attack}, linf 0.3",
        paper=printed,
        where=None if printed is None else "Xu et al. (2018), Figure 4",
        note=note,
        tier="laptop",
        networks=["mnist_adversarial" if defence == "trained" else "mnist_cnn7"],
    )
    def measure(n: int = 500) -> Measurement:
        return _protected(defence, attack, n)


for _defence in _DEFENCES:
    for _attack in ("FGSM", "PGD"):
        _figure_4(_defence, _attack)


# ---------------------------------------------------------------------------------------------- inside the network

#: The MNIST network's feature maps: the four convolutions and the two hidden linear layers.
LAYERS = ("conv 1", "conv 2", "conv 3", "conv 4", "linear 1", "linear 2")
BITS = (1, 2, 3, 4)
SHARES = (0.25, 0.5, 0.75)


@functools.cache
def _inside(n: int | None) -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    """The MNIST network, clean images that set thresholds (2,000), the seeds, and successful adversarial images."""
    model = network("mnist")
    assert isinstance(model, nn.Sequential)
    found, successful = shipped("mnist")
    attacked = torch.cat([images[:n][successful[name][:n]] for name, images in found.adversarial.items()])
    return model, halves("mnist", n)[0][:2000], found.x[:n], attacked


def _response(n: int | None, squeezer: str) -> Measurement:
    """How much more a squeezer changes the features of adversarial images than of clean ones, at the last hidden layer."""
    model, _, seeds, attacked = _inside(n)
    clean_change, change = (response(model, images, SQUEEZERS[squeezer]).median(1).values for images in (seeds, attacked))
    ratios = (change / clean_change.clamp_min(1e-12)).tolist()
    return Measurement(
        ratios[-1], len(attacked), series={"clean": clean_change.tolist(), "attacked": change.tolist(), "ratio": ratios}
    )


def _response_claim(squeezer: str) -> None:
    @claim(
        f"feature_squeezing.response_{squeezer.replace('-', '').replace(' ', '_')}",
        f"MNIST, {squeezer}: how many times more it changes the last features of attacked digits than of clean ones",
        unit="times",
        note="Ratio of the median relative changes, |h(x) - h(squeezed x)| / |h(x)|; the series has all six layers.",
        networks=["mnist_cnn7"],
        images=["mnist"],
    )
    def measure(n: int | None = None) -> Measurement:
        return _response(n, squeezer)


_response_claim("1-bit")
_response_claim("median 2x2")


def _detection(fit: Tensor, attacked: Tensor) -> float:
    return float((attacked > threshold(fit)).double().mean())


@claim(
    "feature_squeezing.input_bits",
    "MNIST, detection by one bit of the input alone, all attacks",
    note="The series has 1 to 4 bits. Interval of the one-bit detector, images taken as independent.",
    networks=["mnist_cnn7"],
    images=["mnist"],
)
def input_bits(n: int | None = None) -> Measurement:
    model, fit, _, attacked = _inside(n)
    found = []
    for bits in BITS:
        one = SqueezingDetector(model, {"bits": functools.partial(reduce_bit_depth, bits=bits)})
        found.append(one.score_samples(attacked) > threshold(one.score_samples(fit)))
    best = share(found[0])
    return Measurement(best.value, best.n, best.interval, series={"detected": [float(f.double().mean()) for f in found]})


@claim(
    "feature_squeezing.feature_bits",
    "MNIST, detection by rounding one feature map instead, the best layer and precision",
    note="1 to 4 bits at each of six feature maps, scaled to the largest clean value; the series has all 24, layer by layer. "
    "The best of 24 is chosen on the images it is scored on, which flatters it.",
    networks=["mnist_cnn7"],
    images=["mnist"],
)
def feature_bits(n: int | None = None) -> Measurement:
    model, fit, _, attacked = _inside(n)
    tops = [float(f.max()) for f in features(model, fit)]
    grid = {"layer": [], "bits": [], "detected": []}
    for layer, (place, top) in enumerate(zip(hidden_layers(model), tops, strict=True)):
        for bits in BITS:
            coarse = with_layer(model, place, FeatureBits(bits, top))
            grid["layer"].append(float(layer))
            grid["bits"].append(float(bits))
            grid["detected"].append(_detection(output_distance(model, coarse, fit), output_distance(model, coarse, attacked)))
    best = max(grid["detected"])
    return Measurement(best, len(attacked), evaluate.clopper_pearson(round(best * len(attacked)), len(attacked)), series=grid)


@claim(
    "feature_squeezing.feature_width",
    "MNIST, detection by leaving out channels of one layer instead, the best layer and share",
    note="A quarter, a half and three quarters of the channels, drawn at random once; the series has all 18, layer by layer.",
    networks=["mnist_cnn7"],
    images=["mnist"],
)
def feature_width(n: int | None = None) -> Measurement:
    model, fit, _, attacked = _inside(n)
    widths = [f.shape[1] for f in features(model, fit[:1])]
    grid = {"layer": [], "share": [], "detected": []}
    for layer, (place, width) in enumerate(zip(hidden_layers(model), widths, strict=True)):
        for part in SHARES:
            narrow = with_layer(model, place, ChannelDrop(width, part, torch.Generator().manual_seed(layer)))
            grid["layer"].append(float(layer))
            grid["share"].append(part)
            grid["detected"].append(_detection(output_distance(model, narrow, fit), output_distance(model, narrow, attacked)))
    best = max(grid["detected"])
    return Measurement(best, len(attacked), evaluate.clopper_pearson(round(best * len(attacked)), len(attacked)), series=grid)
