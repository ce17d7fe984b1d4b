"""Chapter 3's verifier beside its peers: bounds against auto_LiRPA, verdicts against Marabou and a plain big-M program.

- ``bounds``: interval bounds of 1,000 MNIST test images, and CROWN bounds of 16, against auto_LiRPA's IBP and CROWN.
- ``verify``: the first test images that are classified correctly, decided by ``verification.verify``, by Marabou and by HiGHS
  on the whole network with one column a unit and interval bounds for all big-Ms. The peers get one wrong class at a time.

Run it from the repository's root, in the environment that bench/README.md describes:

    .venv-bench/bin/python -m bench.verifier
    .venv-bench/bin/python -m bench.verifier --parts verify --images 50 --eps 0.2 --networks zoo:mnist_adversarial

Time is CPU time of one thread, and how much faster ours is, theirs divided by ours. Bounds are timed in rounds, in rotated
order, as in bench/attacks.py. A verdict is asked for once, in a process of its own that is killed at ``--time-limit`` CPU
seconds an image; a counterexample counts once the network, run in float64, misclassifies it. Two verdicts that contradict each
other are printed as such. Writes bench/verifier.json, where what was not run stays as it was; it is no test and never fails
on a figure.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import importlib.metadata
import json
import math
import multiprocessing
import platform
import resource
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advlab import data, stability, verification, zoo
from advlab.evaluate import predict

from .report import rounded
from .verifier_peers import Answer, Bounder, Bounds, Question, auto_lirpa, big_m, by_hand, marabou, plain, question

ROOT = Path(__file__).parent
PEERS = {"Marabou": marabou, "HiGHS, big-M": big_m}
IMAGES = {"naive": 1000, "crown": 16}
BATCHES = {"naive": (100, 200, 500, 1000), "crown": (1, 4, 16)}

# ---------------------------------------------------------------------------------------------- bounds


def bounders(kind: str, net: nn.Module, eps: float, make: Any) -> dict[str, Bounder]:
    ordinary, method = plain(net), {"naive": "IBP", "crown": "CROWN"}[kind]
    # pyrefly: ignore[bad-assignment]
    found: dict[str, Bounder] = {"advlab": lambda x: stability.interval_bounds(net, x, eps, kind)}
    if kind == "naive":
        found["by hand"] = by_hand(ordinary, eps)
    if make is not None:
        found[f"auto_LiRPA {method}"] = make(ordinary, method, torch.float32, eps)
    if make is not None and kind == "crown":  # ours is in float64 always
        found["same, float64"] = make(ordinary, method, torch.float64, eps)
    return found


def whole(bound: Bounder, x: Tensor, batch: int) -> Bounds:
    layers = zip(*(bound(part) for part in x.split(batch)), strict=True)
    return [tuple(torch.cat([pair[side].flatten(1) for pair in layer]) for side in (0, 1)) for layer in layers]


def seconds(bound: Bounder, x: Tensor, batch: int) -> float:
    gc.collect()
    start = time.process_time()
    for part in x.split(batch):
        bound(part)
    return time.process_time() - start


def escape(net: nn.Module, x: Tensor, eps: float, bounds: Bounds) -> float:
    """By how much corners and other points of the balls leave the bounds, at most; below 0 if all stay inside."""
    exact, seen = plain(net).double(), list[Tensor]()
    for layer in exact:
        if isinstance(layer, nn.ReLU):
            layer.register_forward_pre_hook(lambda _, i: seen.append(i[0]))
    generator, most = torch.Generator().manual_seed(0), -math.inf
    for turn in range(50):
        step = 2 * torch.rand(x.shape, dtype=torch.float64, generator=generator) - 1
        seen.clear()
        seen.append(exact((x + eps * (step.sign() if turn % 2 else step)).clamp(0, 1)))
        for value, (low, high) in zip([t.flatten(1) for t in seen], bounds, strict=True):
            most = max(most, (low[: len(x)] - value).max().item(), (value - high[: len(x)]).max().item())
    return most


def difference(ours: Bounds, theirs: Bounds) -> float:
    """On logits and on units that either leaves unstable; others need no bound, and "crown" spends nothing on them."""
    most = 0.0
    for k, ((low, high), (low_, high_)) in enumerate(zip(ours, theirs, strict=True)):
        counts = ((low < 0) & (high > 0)) | ((low_ < 0) & (high_ > 0)) | (k == len(ours) - 1)
        apart = torch.maximum((low - low_).abs(), (high - high_).abs())
        most = max(most, (apart * counts).max().item())
    return most


@torch.no_grad()
def measure(kind: str, net: nn.Module, x: Tensor, eps: float, rounds: int, make: Any) -> dict[str, Any]:
    """Rows with the seconds of every round, each contender with the batch that suits it best, and how bounds compare."""
    contenders, rows = bounders(kind, net, eps, make), dict[str, dict[str, Any]]()
    runs = {(name, size): list[float]() for name in contenders for size in BATCHES[kind]}
    order, found = list(runs), dict[str, Bounds]()
    for turn in range(-1, rounds):  # round -1 warms up and is not counted
        for name, size in (order[i % len(order)] for i in range(turn, turn + len(order))):
            spent = seconds(contenders[name], x, size)
            runs[name, size] += [spent] if turn >= 0 else []
    for name, bound in contenders.items():
        batch = min(BATCHES[kind], key=lambda size, name=name: statistics.median(runs[name, size]))
        found[name] = whole(bound, x, batch)
        rows[name] = {"batch": batch, "dtype": str(found[name][0][0].dtype).removeprefix("torch.")}
        rows[name] |= {"cpu_seconds": runs[name, batch], "escape": escape(net, x[:100], eps, found[name])}
    for name, row in rows.items():
        row["difference"] = difference(found["advlab"], found[name])
        row["unstable"] = sum(int(((low < 0) & (high > 0)).sum()) for low, high in found[name][:-1]) / len(x)
        row["seconds"] = statistics.median(row["cpu_seconds"])
        base = rows["advlab"]["cpu_seconds"]
        row["times_faster"] = _spread([b / a for a, b in zip(base, row["cpu_seconds"], strict=True)])
        row["times_faster"]["best"] = min(row["cpu_seconds"]) / min(base)
    print(f"\n{kind} bounds, {len(x)} images, eps {eps:g}, rounds {rounds}; difference is to ours, escape of samples")
    print(f"{'':28}dtype  batch    CPU s  unstable  difference    escape   ours is faster: median [min, max], best")
    for name, row in rows.items():
        speed = "{median:.2f} [{min:.2f}, {max:.2f}], {best:.2f}".format(**row["times_faster"])
        line = f"  {name:24}{row['dtype']:>9}{row['batch']:7}{row['seconds']:9.3f}{row['unstable']:10.2f}"
        line += f"{row['difference']:12.1e}{row['escape']:10.1e}"
        print(line + f"   {speed if name != 'advlab' else ''}", flush=True)
    return {"eps": eps, "images": len(x), "rounds": rounds, "rows": rows}


# ---------------------------------------------------------------------------------------------- verdicts


def ours(asked: Question) -> Answer:
    found = verification.verify(asked.own, asked.x, asked.y, asked.eps, time_limit=asked.limit)
    return found.status, None if found.witness is None else found.witness.double().flatten().numpy()


def alone(decide: Callable[[Question], Answer], asked: Question) -> tuple[str, float]:
    """A verdict and its CPU seconds, from a process of its own that is killed at the limit. Counterexamples are replayed."""
    receive, send = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(asked.limit), math.ceil(asked.limit) + 5))
        start = time.process_time()
        answer = decide(asked)
        send.send((*answer, time.process_time() - start))

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    send.close()
    try:
        status, witness, seconds = receive.recv()
    except EOFError:
        child.join()
        if child.exitcode != -signal.SIGXCPU:
            print(f"  a contender died, exit code {child.exitcode}; it counts as unknown, at the limit", flush=True)
        return "unknown", asked.limit
    child.join()
    if status == "counterexample":
        point = torch.from_numpy(np.clip(witness, *asked.box)).view(1, *asked.x.shape)
        status = "unknown" if int(asked.net(point).argmax()) == asked.y else status
    return status, min(seconds, asked.limit)


def verdicts(net: nn.Module, x: Tensor, y: Tensor, eps: float, limit: float, peers: list[str]) -> dict[str, Any]:
    deciders = {"advlab": ours, **{name: PEERS[name] for name in peers}}
    verification.verify(net, x[0], int(y[0]), eps, last_stage="prediction")  # reads the network; the processes inherit that
    rows: dict[str, dict[str, Any]] = {name: {"verdicts": [], "cpu_seconds": []} for name in deciders}
    names, contradictions = list(deciders), []
    for i in range(len(x)):
        asked = question(net, x[i], int(y[i]), eps, limit)
        for name in (names[j % len(names)] for j in range(i, i + len(names))):
            for key, value in zip(("verdicts", "cpu_seconds"), alone(deciders[name], asked), strict=True):
                rows[name][key].append(value)
        given = {name: row["verdicts"][i] for name, row in rows.items()}
        print(f"  {i}: " + ", ".join(f"{n} {s} {rows[n]['cpu_seconds'][i]:.2f} s" for n, s in given.items()), flush=True)
        if {"robust", "counterexample"} <= set(given.values()):
            contradictions.append({"image": i, **given})
            print(f"\n  !!!!!!  CONTRADICTION on image {i}: {given}  !!!!!!\n", flush=True)
    print(
        f"\nverdicts on {len(x)} images, eps {eps:g}, at most {limit:g} CPU s an image; contradictions: {len(contradictions)}"
    )
    print(f"{'':15}robust  counterexample  unknown  late   mean s  median s   ours is faster: mean, median [min, max]")
    base = rows["advlab"]["cpu_seconds"]
    for name, row in rows.items():
        times = row["cpu_seconds"]
        counts = row["counts"] = {s: row["verdicts"].count(s) for s in ("robust", "counterexample", "unknown")}
        row["late"] = sum(t >= limit for t in times)
        row |= {"mean": statistics.mean(times), "median": statistics.median(times)}
        ratios = [b / a for a, b in zip(base, times, strict=True)]
        row["times_faster"] = {"mean": sum(times) / sum(base), **_spread(ratios)}
        line = f"  {name:13}{counts['robust']:6}{counts['counterexample']:16}{counts['unknown']:9}{row['late']:6}"
        speed = "{mean:.1f}, {median:.1f} [{min:.1f}, {max:.1f}]".format(**row["times_faster"])
        speed = "" if name == "advlab" else "at least " * bool(row["late"]) + speed
        print(f"{line}{row['mean']:9.2f}{row['median']:10.2f}   {speed}", flush=True)
    return {"eps": eps, "images": len(x), "time_limit": limit, "contradictions": contradictions, "rows": rows}


# ---------------------------------------------------------------------------------------------- the run


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare advlab's bounds and verifier with their peers in one run.")
    parser.add_argument("--parts", nargs="+", choices=("bounds", "verify"), default=["bounds", "verify"])
    parser.add_argument("--rounds", type=int, default=9, help="of the bounds")
    parser.add_argument("--images", type=int, default=10, help="for the verdicts: the first N that are classified correctly")
    parser.add_argument("--networks", nargs="+", default=["zoo:mnist_adversarial"], metavar="zoo:NAME")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--time-limit", type=float, default=60.0, help="CPU seconds an image and contender")
    parser.add_argument("--out", type=Path, default=ROOT / "verifier.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    versions = {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}
    versions |= {"advlab": importlib.import_module("advlab").__version__, "highspy": importlib.metadata.version("highspy")}
    make, peers = None, ["HiGHS, big-M"]
    with warnings.catch_warnings(action="ignore"):  # theirs: names that torch has deprecated, parsers that are not there
        for package in ("auto-lirpa", "maraboupy"):
            try:
                if package == "maraboupy":
                    importlib.import_module("maraboupy.Marabou")
                    peers.insert(0, "Marabou")
                else:
                    make = auto_lirpa()
                versions[package] = importlib.metadata.version(package)
            except ImportError as e:
                versions[package] = f"not installed ({e})"
    print("  ".join(f"{name} {version}" for name, version in versions.items()))

    about = {"date": datetime.date.today().isoformat(), "command": " ".join(["python -m bench.verifier", *sys.argv[1:]])}
    about |= {"threads": 1, "versions": versions}
    results: dict[str, Any] = json.loads(args.out.read_text())["networks"] if args.out.exists() else {}
    images, labels = data.mnist("test")
    for name in args.networks:
        net = zoo.load(name.removeprefix("zoo:"))
        kept = results.setdefault(f"{name}, eps {args.eps:g}", {})
        print(f"\n{name}")
        if "bounds" in args.parts:
            for kind, n in IMAGES.items():
                kept[kind] = about | measure(kind, net, images[:n], args.eps, args.rounds, make)
        if "verify" in args.parts:
            right = (predict(net, images) == labels).nonzero().squeeze(1)[: args.images]
            kept["verify"] = about | verdicts(net, images[right], labels[right], args.eps, args.time_limit, peers)
        args.out.write_text(json.dumps(rounded({"networks": results}), indent=1) + "\n")
    print(f"\nWritten: {args.out}")


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    main()
