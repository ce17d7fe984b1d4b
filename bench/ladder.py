"""Our own ladder of attacks, rung against rung, in one run on the same images and networks.

- ``budget``: PGD and Auto-PGD with as many gradients in the linf ball around test images that are classified correctly: the
  share that stands. A step of PGD is 2.5 eps / steps, its default, or eps / 4.
- ``linf``: ``cw_linf``, our ``fmn_linf``, and FMN as published, with the first step of 1 and of 10: median distance in linf.
- ``l0``: ``cw_l0`` and sigma-zero: median number of pixels.

FMN and sigma-zero are our own implementations, from their papers, at the papers' 1,000 steps, ours also at 100. Run it from
the repository's root, in the environment of the tests:

    .venv/bin/python -m bench.ladder
    .venv/bin/python -m bench.ladder --parts budget --images 50

Time is CPU time of one thread; as in bench/attacks.py only ratios within a run count. Points are judged here, alike for all.
Writes bench/ladder.json; it is no test and never fails on a figure.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advlab import attacks, data, zoo
from advlab.evaluate import distances, first_correct, predict

ROOT = Path(__file__).parent
EPS = {"mnist_01_rs": 0.15, "mnist_01_adversarial": 0.15, "cifar_2_rs": 4 / 255}  # where about half of the images stand
IMAGES = {"budget": 200, "linf": 100, "l0": 100}
Contenders = dict[str, functools.partial[Tensor]]


def contenders(part: str, eps: float) -> Contenders:
    if part == "linf":
        return {
            "cw_linf": functools.partial(attacks.cw_linf),
            "fmn_linf 100": functools.partial(attacks.fmn_linf, steps=100),
            "fmn_linf 1000": functools.partial(attacks.fmn_linf, steps=1000),
            "FMN 1000, from 1": functools.partial(published_fmn, step_size=1.0),
            "FMN 1000, from 10": functools.partial(published_fmn, step_size=10.0),
        }
    if part == "l0":
        return {"cw_l0": functools.partial(attacks.cw_l0)} | {
            f"sigma_zero {steps}": functools.partial(attacks.sigma_zero, steps=steps) for steps in (100, 1000)
        }
    pgd, apgd = (functools.partial(f, eps=eps, steps=100) for f in (attacks.pgd, attacks.apgd))
    rows = {f"pgd {loss}": functools.partial(pgd, loss=loss) for loss in ("ce", "margin", "dlr")}
    rows["pgd ce, eps / 4"] = functools.partial(pgd, step_size=eps / 4)
    return rows | {f"apgd {loss}": functools.partial(apgd, loss=loss) for loss in ("ce", "dlr", "targeted")}


def published_fmn(
    model: nn.Module, x: Tensor, y: Tensor, *, step_size: float, steps: int = 1000, gamma: float = 0.05
) -> Tensor:
    """FMN in linf as in algorithm 1 of Pintor et al. (2021): along the gradient, divided by its L2 norm."""
    x_adv, best, radius = x.clone(), x.clone(), torch.full((len(x),), math.inf)
    least = radius.clone()
    for step in range(steps):
        at = x_adv.requires_grad_()
        margin = attacks.margin_loss(model(at), y)
        (gradient,) = torch.autograd.grad(margin.sum(), at)
        margin, x_adv = margin.detach(), at.detach()
        distance, cosine = distances(x_adv, x), (1 + math.cos(math.pi * step / steps)) / 2
        nearer = (margin > 0) & (distance < least)
        best[nearer], least = x_adv[nearer], torch.where(nearer, distance, least)
        change = 0.001 + 0.049 * cosine
        away = distance + margin.abs() / gradient.flatten(1).abs().sum(1).clamp_min(1e-12)
        grown = torch.where(least.isfinite(), radius * (1 + change), away)
        radius = torch.where(margin > 0, least.minimum(radius * (1 - change)), grown)
        bound = radius.view(-1, *[1] * (x.ndim - 1))
        way = gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view_as(bound)
        x_adv = (x_adv + step_size * (0.01 + 0.99 * cosine) * way).clamp(x - bound, x + bound).clamp(0, 1)
    return best


def score(part: str, model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor) -> float:
    """The share that stands, or the median distance, where an image that was not fooled counts as infinitely far."""
    stands = predict(model, x_adv) == y
    if part == "budget":
        return stands.double().mean().item()
    return distances(x_adv, x, part).double().where(~stands, math.inf).quantile(0.5, interpolation="higher").item()


def measure(part: str, name: str, limit: int | None) -> dict[str, Any]:
    """The rows of one network: score and CPU seconds of each contender."""
    model, n = zoo.load(name), min(limit or IMAGES[part], IMAGES[part])
    images, labels = (data.mnist if name.startswith("mnist") else data.cifar10)("test", 3 * n)
    x, y = first_correct(model, images, labels, n)
    rows = {}
    print(f"\n{part}, {name}, {n} images" + f", eps {EPS[name]:.4g}" * (part == "budget"), flush=True)
    for contender, attack in contenders(part, EPS[name]).items():
        options = {"generator": torch.Generator().manual_seed(0)} if part == "budget" else {}
        start = time.process_time()
        x_adv = attack(model, x, y, **options)
        seconds = time.process_time() - start
        rows[contender] = {"score": score(part, model, x, y, x_adv), "cpu_seconds": seconds}
        print(f"  {contender:18}{rows[contender]['score']:10.4f}{seconds:10.2f} s", flush=True)
    return {"images": n, "eps": EPS[name] if part == "budget" else None, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the rungs of advlab's own ladder of attacks in one run.")
    parser.add_argument("--parts", nargs="+", choices=list(IMAGES), default=list(IMAGES))
    parser.add_argument("--images", type=int, metavar="N", help="at most N images in each part, where time is short")
    parser.add_argument("--networks", nargs="+", choices=list(EPS), default=list(EPS))
    parser.add_argument("--out", type=Path, default=ROOT / "ladder.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(args.out.read_text()) if args.out.exists() else {}
    for part in args.parts:
        for name in args.networks:
            found = measure(part, name, args.images)
            found |= {"date": datetime.date.today().isoformat(), "torch": torch.__version__}
            found["advlab"] = importlib.import_module("advlab").__version__
            kept.setdefault(part, {})[name] = found
            args.out.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"\nOwn implementations, all of them. Written: {args.out}")


if __name__ == "__main__":
    main()
