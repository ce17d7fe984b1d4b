"""What proofs cost: verdicts with and without them, and how long the checker takes.

    .venv/bin/python -m bench.proofs
    .venv/bin/python -m bench.proofs --network mnist_03_fast_0 --eps 0.3 --images 100
    .venv/bin/python -m bench.proofs --images 10000 --keep build/proofs.jsonl --json book/results/proofs.json

Each image is verified without a proof and then with one, and the proof is checked, in one thread; an image that the network
misreads has no verdict to prove. Times are CPU seconds. With ``--keep`` a run that breaks off goes on. It is no test and never
fails on a figure, but for a proof that is not valid.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from advlab import __version__, zoo
from advlab.verification import verify
from advlab.verification.check import Weights, check
from advlab.verification.prepared import held
from bench.report import rounded


def measured(net: torch.nn.Module, weights: Weights, x: torch.Tensor, y: int, eps: float) -> dict[str, Any]:
    """One image: its verdict, its grade, what both verdicts and the check took, the proof's bytes and what is wrong with it."""
    plain, verdict = verify(net, x, y, eps), verify(net, x, y, eps, proof=True)
    found = {"verdict": f"{verdict.status} {verdict.grade}".strip(), "plain": plain.seconds, "with": verdict.seconds}
    if verdict.proof is None:
        return found | {"stage": verdict.stage}
    start = time.process_time()
    answer = check(verdict.proof, weights)
    found |= {"check": time.process_time() - start, "bytes": len(verdict.proof)}
    return found if answer.valid else found | {"refused": str(answer)}


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Verdicts by grade, proofs that the checker refused, and sums, medians and maxima of seconds and bytes."""
    kept = {key: [line[key] for line in lines if key in line] for key in ("plain", "with", "check", "bytes")}
    found: dict[str, Any] = {"images": len(lines), "verdicts": dict(Counter(line["verdict"] for line in lines))}
    found["refused"] = sum("refused" in line for line in lines)
    for key, values in kept.items():
        found[key] = {"sum": sum(values), "median": statistics.median(values), "most": max(values)}
    ratios = [b / a for a, b in zip(kept["plain"], kept["with"], strict=True) if a > 0]
    found["ratio"] = {"sum": found["with"]["sum"] / found["plain"]["sum"], "median": statistics.median(ratios)}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="mnist_01_rs_pruned", help="of the zoo (default: mnist_01_rs_pruned)")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--images", type=int, default=200, help="spread over the test set (default: 200)")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="a line for each image, to go on with after a break")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was found goes here as well")
    args = parser.parse_args()
    torch.set_num_threads(1)
    net, (x, y) = zoo.load(args.network), zoo.recipe(args.network).test()
    weights = Weights(zoo.shipped() / f"{args.network}.safetensors")
    lines = [json.loads(line) for line in args.keep.read_text().splitlines()] if args.keep and args.keep.exists() else []
    done = {line["image"] for line in lines}
    with held(net, tuple(x.shape[1:])):
        verify(net, x[0], int(y[0]), args.eps, proof=True)  # what is done once is left out
        for i in range(0, len(x), len(x) // args.images):
            if i in done:
                continue
            lines.append(one := {"image": i} | measured(net, weights, x[i], int(y[i]), args.eps))
            if "refused" in one or "stage" in one:
                print(one, flush=True)
            if args.keep:
                with args.keep.open("a") as file:
                    file.write(json.dumps(rounded(one)) + "\n")
    found = summary(lines)
    print(f"{args.network}, linf {args.eps:g}: " + json.dumps(rounded(found), indent=1))
    if args.json:
        made = {"date": datetime.date.today().isoformat(), "version": __version__, "network": args.network, "eps": args.eps}
        args.json.write_text(json.dumps({"made": made, **rounded(found)}, indent=1) + "\n")
    return 1 if found["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
