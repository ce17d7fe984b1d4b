"""Attacks side by side: advlab against foolbox, torchattacks, ART and adv-lib, in one run on the same images and network.

- ``pgd``: PGD-40 in the linf ball (eps 0.1, step 0.01, random start) on 1,000 MNIST test images: robust accuracy.
- ``ddn``: DDN with 100 steps on 300 test images that are classified correctly: median L2 distance.
- ``cw``: the L2 attack of Carlini and Wagner on 100 such images, one round: median L2 distance.
- ``deepfool``: DeepFool in L2, at most 50 steps, on 300 such images: median L2 distance.
- ``linf``, ``l0``: Carlini and Wagner's attacks in these norms, FMN, sigma-zero and others that look for the least change, on
  30 such images, one round: the median largest change, and the median number of values changed.
- ``jsma``: JSMA on 30 such images (theta 1, gamma 1/8, target the next class): share of targets reached, and how many of our
  images are bit for bit the peer's. torchattacks takes values from 0.99 up for white, so they are made white first.

Run it from the repository's root, in the environment that bench/README.md describes:

    .venv-bench/bin/python -m bench.attacks
    .venv-bench/bin/python -m bench.attacks --parts pgd ddn --rounds 9 --networks zoo:mnist_cnn7
    .venv-bench/bin/python -m bench.attacks --parts cw --images 25 --networks zoo:mnist_cnn7

Time is CPU time of one thread. Machines are noisy, so that only ratios within a round count: in each round every contender
runs once, in rotated order, and its time is divided, in the same round, by that of the fastest peer among those whose score is
within 3 % of the best peer's; the table shows the median, least and largest of these ratios, and that of the two shortest
times ("best"), which noise moves least. Points are judged here, alike for all, never by the library that made them.
A peer that cannot be imported is listed as not installed. Writes bench/results.json, where the parts that were not run stay as
they were; it is no test and never fails on a figure.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import math
import platform
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from advlab import attacks, data, models, zoo
from advlab.evaluate import predict
from advlab.training import fit

ROOT = Path(__file__).parent
EPS, STEP, STEPS, DDN_STEPS, DEEPFOOL_STEPS = 0.1, 0.01, 40, 100, 50
GAMMA = 1 / 8  # of 784 values in pairs: 49 steps, whether a library rounds up or down
IMAGES = {"pgd": 1000, "ddn": 300, "cw": 100, "deepfool": 300, "jsma": 30, "linf": 30, "l0": 30}
ONCE = ("cw", "linf", "l0")  # the slow ones, for one round

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
Contenders = dict[str, Attack]
Rows = dict[str, dict[str, Any]]
Judge = Callable[[nn.Module, Tensor, Tensor, Tensor], float]


# ---------------------------------------------------------------------------------------------- contenders by part


def ours() -> dict[str, Contenders]:
    """Ours, with every step run as the peers do, and with the active set, which is the default."""
    budget = {"eps": EPS, "steps": STEPS, "step_size": STEP}
    return {
        "pgd": {
            "advlab, every step": lambda model, x, y: attacks.pgd(model, x, y, **budget, active_set=False),
            "advlab, active set": lambda model, x, y: attacks.pgd(model, x, y, **budget),
        },
        "ddn": {"advlab": lambda model, x, y: attacks.ddn(model, x, y, steps=DDN_STEPS)},
        "cw": {
            "advlab 9x50": lambda model, x, y: attacks.cw_l2(model, x, y, search_steps=9, steps=50),
            "advlab 9x100": lambda model, x, y: attacks.cw_l2(model, x, y, search_steps=9, steps=100),
        },
        "deepfool": {"advlab": lambda model, x, y: attacks.deepfool(model, x, y, steps=DEEPFOOL_STEPS)},
        "jsma": {"advlab": lambda model, x, y: attacks.jsma(model, x, y, gamma=GAMMA, targets=next_class(y))},
        "linf": {
            "advlab cw_linf": attacks.cw_linf,
            "advlab fmn_linf 100": attacks.fmn_linf,
            "advlab fmn_linf 1000": functools.partial(attacks.fmn_linf, steps=1000),
        },
        "l0": {
            "advlab cw_l0": attacks.cw_l0,
            "advlab sigma_zero 100": functools.partial(attacks.sigma_zero, steps=100),
            "advlab sigma_zero 1000": attacks.sigma_zero,
        },
    }


def next_class(y: Tensor) -> Tensor:
    return (y + 1) % 10


def foolbox() -> dict[str, Contenders]:
    lib = importlib.import_module("foolbox")
    make = lib.attacks

    def run(attack: Any, eps: float | None) -> Attack:
        # returns (raw, clipped, success); clipped to the ball is what its users take
        return lambda model, x, y: attack(lib.PyTorchModel(model, bounds=(0, 1)), x, y, epsilons=eps)[1]

    pgd = make.LinfProjectedGradientDescentAttack(abs_stepsize=STEP, steps=STEPS, random_start=True)
    return {
        "pgd": {"foolbox": run(pgd, EPS)},
        "ddn": {"foolbox": run(make.DDNAttack(steps=DDN_STEPS), None)},
        "cw": {
            "foolbox 9x100": run(make.L2CarliniWagnerAttack(binary_search_steps=9, steps=100), None),
            "foolbox 5x1000": run(make.L2CarliniWagnerAttack(binary_search_steps=5, steps=1000), None),
        },
        "deepfool": {"foolbox": run(make.L2DeepFoolAttack(steps=DEEPFOOL_STEPS), None)},
        "linf": {"foolbox FMN 1000": run(make.LInfFMNAttack(steps=1000), None)},
    }


def torchattacks() -> dict[str, Contenders]:
    lib = importlib.import_module("torchattacks")
    budget = {"eps": EPS, "alpha": STEP, "steps": STEPS, "random_start": True}

    def jsma(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:  # without a target it takes the next class
        return lib.JSMA(model, theta=1.0, gamma=GAMMA)(x, y)

    return {"pgd": {"torchattacks": lambda model, x, y: lib.PGD(model, **budget)(x, y)}, "jsma": {"torchattacks": jsma}}


def art() -> dict[str, Contenders]:
    """ART draws its start with NumPy; here it gets torch's numbers, so that all begin at the same points."""
    evasion, estimators = (importlib.import_module(f"art.{name}") for name in ("attacks.evasion", "estimators.classification"))
    where = importlib.import_module(evasion.ProjectedGradientDescentPyTorch.__module__)

    def start(n: int, d: int, radius: float, norm: float) -> np.ndarray:
        seeded = torch.Generator().manual_seed(torch.initial_seed())  # its data loader has drawn from the global one
        return torch.empty(n, d).uniform_(-radius, radius, generator=seeded).numpy()

    def read(model: nn.Module, x: Tensor) -> Any:
        return estimators.PyTorchClassifier(
            model, loss=nn.CrossEntropyLoss(), input_shape=x.shape[1:], nb_classes=10, clip_values=(0, 1), device_type="cpu"
        )

    def minimal(name: str, **options: Any) -> Attack:
        def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            attack = getattr(evasion, name)(read(model, x), batch_size=len(x), verbose=False, **options)
            return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))

        return run

    def pgd(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = evasion.ProjectedGradientDescentPyTorch(
            read(model, x), eps=EPS, eps_step=STEP, max_iter=STEPS, num_random_init=1, batch_size=len(x), verbose=False
        )
        with mock.patch.object(where, "random_sphere", start):
            return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))

    return {
        "pgd": {"ART": pgd},
        "linf": {"ART CW": minimal("CarliniLInfMethod")},
        "l0": {"ART CW": minimal("CarliniL0Method")},
    }


def adv_lib() -> dict[str, Contenders]:
    """adv-lib imports torchvision and visdom, but its attacks on classifiers use neither: empty modules stand in for them."""
    absent = [name for name in ("torchvision", "torchvision.models", "visdom") if not _found(name)]
    sys.modules.update({name: types.ModuleType(name) for name in absent})
    if "torchvision.models" in absent:
        sys.modules["torchvision"].models = sys.modules["torchvision.models"]  # pyrefly: ignore[missing-attribute]
    try:
        lib = importlib.import_module("adv_lib.attacks")
    finally:
        for name in absent:
            del sys.modules[name]
    cw = lib.carlini_wagner_l2
    return {
        "pgd": {"adv-lib": lambda model, x, y: lib.pgd_linf(model, x, y, EPS, steps=STEPS, absolute_step_size=STEP)},
        # by default it rounds to 256 levels; nobody else does
        "ddn": {"adv-lib": lambda model, x, y: lib.ddn(model, x, y, steps=DDN_STEPS, levels=None)},
        "cw": {
            "adv-lib 9x100": lambda model, x, y: cw(model, x, y, binary_search_steps=9, max_iterations=100),
            "adv-lib 5x1000": lambda model, x, y: cw(model, x, y, binary_search_steps=5, max_iterations=1000),
        },
        "deepfool": {"adv-lib": lambda model, x, y: lib.df(model, x, y, steps=DEEPFOOL_STEPS)},
        "linf": {
            "adv-lib CW": functools.partial(lib.carlini_wagner_linf, max_iterations=100),
            "adv-lib FMN 1000": functools.partial(lib.fmn, norm=math.inf, steps=1000),
            "adv-lib PDPGD 500": functools.partial(lib.pdpgd, norm=math.inf),
        },
        "l0": {
            "adv-lib sigma-zero": lib.sigma_zero,
            "adv-lib FMN 1000": functools.partial(lib.fmn, norm=0, steps=1000),
            "adv-lib PDPGD 500": functools.partial(lib.pdpgd, norm=0),
        },
    }


PEERS = {"foolbox": foolbox, "torchattacks": torchattacks, "adversarial-robustness-toolbox": art, "adv-lib": adv_lib}


def _found(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is absent
        return False


# ---------------------------------------------------------------------------------------------- networks


def network(name: str) -> nn.Module:
    """A trained network in eval mode; its weights require gradients, as a user's do. Trained once, kept in build/bench."""
    if name.startswith("zoo:"):
        return zoo.load(name.removeprefix("zoo:")).requires_grad_()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.stability_cnn()
    path = ROOT.parent / "build" / "bench" / f"mnist-{name}.safetensors"
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    print(f"training the {name} network ...", flush=True)
    x, y = data.mnist("train")
    fit(model, x, y, epochs=5 if name == "standard" else 2, transform=None if name == "standard" else _attacked)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    return model


def _attacked(model: nn.Module, x: Tensor, y: Tensor, done: float) -> Tensor:
    return attacks.pgd(model, x, y, eps=0.2 * min(1.0, 3 * done), steps=4, active_set=False)


# ---------------------------------------------------------------------------------------------- judging and timing


def robust_accuracy(model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor) -> float:
    if not ((x_adv - x).abs().max() <= EPS + 1e-5 and x_adv.min() >= 0 and x_adv.max() <= 1):
        raise RuntimeError("a contender left the ball or the box")
    return (predict(model, x_adv) == y).double().mean().item()


def median_distance(model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, norm: float = 2) -> float:
    """The median distance, where an example that was not fooled, or left the box, counts as infinitely far."""
    distance = (x_adv - x).double().flatten(1).norm(norm, dim=1)
    distance[((x_adv < 0) | (x_adv > 1)).flatten(1).any(1)] = math.inf
    return distance.where(predict(model, x_adv, len(x)) != y, math.inf).quantile(0.5, interpolation="higher").item()


def targets_reached(model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor) -> float:
    if not ((x_adv != x).flatten(1).sum(1).max() <= GAMMA * x[0].numel() and x_adv.min() >= 0 and x_adv.max() <= 1):
        raise RuntimeError("a contender changed too many values or left the box")
    return (predict(model, x_adv) == next_class(y)).double().mean().item()


JUDGES: dict[str, Judge] = {
    "pgd": robust_accuracy,
    "ddn": median_distance,
    "cw": median_distance,
    "deepfool": median_distance,
    "jsma": targets_reached,
    "linf": functools.partial(median_distance, norm=math.inf),
    "l0": functools.partial(median_distance, norm=0),
}


def measure(part: str, contenders: Contenders, model: nn.Module, x: Tensor, y: Tensor, rounds: int) -> Rows:
    """A row for each contender: what its points are worth, and the CPU seconds of every round."""
    rows: Rows = {name: {"scores": [], "cpu_seconds": []} for name in contenders}
    names, points = list(contenders), {}
    for turn in range(-1 if rounds > 1 else 0, rounds):  # round -1 warms up and is not counted
        for name in (names[i % len(names)] for i in range(turn, turn + len(names))):
            torch.manual_seed(turn + 1)
            model.zero_grad(set_to_none=True)
            gc.collect()
            start = time.process_time()
            points[name] = contenders[name](model, x, y).detach()
            seconds = time.process_time() - start
            if turn >= 0:
                rows[name]["cpu_seconds"].append(seconds)
                rows[name]["scores"].append(JUDGES[part](model, x, y, points[name]))
    if part == "jsma":
        for name in names:  # the last contender is the peer, if there is one
            rows[name]["equal_images"] = int((points[name] == points[names[-1]]).flatten(1).all(1).sum())
    return rows


def summarise(part: str, rows: Rows) -> dict[str, Any]:
    """Add the ratios to the fastest of the good peers (times) and, for distances, to the best peer's median."""
    for row in rows.values():
        row["score"], row["seconds"] = statistics.mean(row["scores"]), statistics.median(row["cpu_seconds"])
    if not (peers := [name for name in rows if not name.startswith("advlab")]):
        return {"rows": rows}
    best = (max if part == "jsma" else min)(rows[name]["score"] for name in peers)
    as_good = [name for name in peers if math.isclose(rows[name]["score"], best, rel_tol=0.03)]
    fastest = min(as_good or peers, key=lambda name: rows[name]["seconds"])
    for row in rows.values():
        ratios = [a / b for a, b in zip(row["cpu_seconds"], rows[fastest]["cpu_seconds"], strict=True)]
        row["time_ratio"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
        row["time_ratio"]["best"] = min(row["cpu_seconds"]) / min(rows[fastest]["cpu_seconds"])
        if JUDGES[part] not in (robust_accuracy, targets_reached):
            row["distance_ratio"] = row["score"] / best if math.isfinite(best) else None
    return {"fastest_peer": fastest, "best_peer_score": best, "rows": rows}


def show(title: str, part: str, result: dict[str, Any]) -> None:
    judge = getattr(JUDGES[part], "__name__", "median_distance")
    print(f"\n{title}\n{'':24}{judge:>22}{'CPU s':>9}   time / fastest good peer's: median [min, max], best")
    for name, row in result["rows"].items():
        score = f"{row['score']:.4f} [{min(row['scores']):.3f}, {max(row['scores']):.3f}]"
        if "distance_ratio" in row:
            score = f"{row['score']:.4f}" + (f" ({row['distance_ratio']:.3f})" if row.get("distance_ratio") else "")
        if part == "jsma":
            score = f"{row['score']:.4f} ({row['equal_images']} equal)"
        ratio, mark = row.get("time_ratio"), " *" if name == result.get("fastest_peer") else ""
        times = "{median:.3f} [{min:.3f}, {max:.3f}], {best:.3f}".format(**ratio) if ratio else "no peer"
        print(f"  {name:22}{score:>22}{row['seconds']:9.2f}   {times}{mark}", flush=True)


# ---------------------------------------------------------------------------------------------- the run


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare advlab's attacks with its peers' in one run.")
    parser.add_argument("--parts", nargs="+", choices=list(JUDGES), default=list(JUDGES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, metavar="N", help="at most N images in each part, where time is short")
    parser.add_argument("--networks", nargs="+", default=["standard", "adversarial"], metavar="standard|adversarial|zoo:NAME")
    parser.add_argument("--out", type=Path, default=ROOT / "results.json")
    args = parser.parse_args()
    if unknown := [name for name in args.networks if name not in ("standard", "adversarial") and not name.startswith("zoo:")]:
        parser.error(f"there is no network {unknown[0]!r}: take standard, adversarial or zoo:NAME")
    torch.set_num_threads(1)

    parts, versions = ours(), {"torch": torch.__version__, "numpy": np.__version__}
    versions |= {"python": platform.python_version(), "advlab": importlib.import_module("advlab").__version__}
    for package, load in PEERS.items():
        try:
            for part, contenders in load().items():
                parts[part] |= contenders
            versions[package] = importlib.metadata.version(package)
        except ImportError as e:
            versions[package] = "not installed"
            print(f"{package}: not installed ({e})")
    print("  ".join(f"{name} {version}" for name, version in versions.items()))

    command = " ".join(["python -m bench.attacks", *sys.argv[1:]])
    about = {"date": datetime.date.today().isoformat(), "command": command, "versions": versions}
    settings = {"eps": EPS, "step_size": STEP, "pgd_steps": STEPS, "ddn_steps": DDN_STEPS}
    settings |= {"deepfool_steps": DEEPFOOL_STEPS, "jsma_theta": 1.0, "jsma_gamma": GAMMA, "threads": 1}
    results: dict[str, Any] = json.loads(args.out.read_text())["networks"] if args.out.exists() else {}
    images, labels = data.mnist("test")
    for name in args.networks:
        model = network(name)
        right = (predict(model, images) == labels).nonzero().squeeze(1)
        results[name] = {**results.get(name, {}), "accuracy": len(right) / len(labels)}
        print(f"\n{name} network: {len(right) / len(labels):.4f} of the test images right")
        for part in args.parts:
            n = min(IMAGES[part], args.images or IMAGES[part])
            take = slice(n) if part == "pgd" else right[:n]
            x, y, rounds = images[take], labels[take], 1 if part in ONCE else args.rounds
            x = x.where(x < 0.99, 1) if part == "jsma" else x
            found = summarise(part, measure(part, parts[part], model, x, y, rounds))
            show(f"{part}: images {len(x)}, rounds {rounds}", part, found)
            results[name][part] = {**about, "images": len(x), "rounds": rounds, **found}
            args.out.write_text(json.dumps(_finite({"settings": settings, "networks": results}), indent=1) + "\n")
    print(f"\n* the fastest peer within 3 % of the best peer's score. Written: {args.out}")


def _finite(value: Any) -> Any:
    """JSON has no infinity: a median over a majority of failures is written as null; floats to 6 digits."""
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


if __name__ == "__main__":
    main()
