"""What proofs cost: verdicts with and without them, and how long the checker takes.

    .venv/bin/python -m bench.proofs
    .venv/bin/python -m bench.proofs --network mnist_03_fast_0 --eps 0.3 --images 100

Each image is verified without a proof and then with one, and the proof is checked, in one thread. Times are CPU seconds. It
is no test and never fails on a figure, but for a proof that is not valid.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter

import torch

from advlab import zoo
from advlab.verification import verify
from advlab.verification.check import Weights, check
from advlab.verification.prepared import held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="mnist_01_rs_pruned", help="of the zoo (default: mnist_01_rs_pruned)")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--images", type=int, default=200, help="spread over the test set (default: 200)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    net, (x, y) = zoo.load(args.network), zoo.recipe(args.network).test()
    weights = Weights(zoo.shipped() / f"{args.network}.safetensors")
    counts, plain, proved, sizes, checks, refused = Counter[str](), list[float](), list[float](), list[int](), list[float](), 0
    with held(net, tuple(x.shape[1:])):
        verify(net, x[0], int(y[0]), args.eps, proof=True)  # what is done once is left out
        for i in range(0, len(x), len(x) // args.images):
            plain.append(verify(net, x[i], int(y[i]), args.eps).seconds)
            verdict = verify(net, x[i], int(y[i]), args.eps, proof=True)
            proved.append(verdict.seconds)
            counts[f"{verdict.status} {verdict.grade}".strip()] += 1
            if verdict.proof is None:
                print(f"image {i}: {verdict.status}, {verdict.stage}, no proof", flush=True)
                continue
            start = time.process_time()
            answer = check(verdict.proof, weights)
            checks.append(time.process_time() - start)
            sizes.append(len(verdict.proof))
            if not answer.valid:
                refused += 1
                print(f"image {i}: {answer}", flush=True)
    print(f"{args.network}, linf {args.eps:g}, {len(plain)} images: {dict(counts)}; {refused} proofs refused")
    for name, values in (("without a proof", plain), ("with a proof", proved), ("checking", checks)):
        print(f"CPU s {name:16} sum {sum(values):.2f}, median {statistics.median(values):.4f}, most {max(values):.2f}")
    ratio = statistics.median(b / a for a, b in zip(plain, proved, strict=True))
    print(f"with / without: {sum(proved) / sum(plain):.2f} in sum, {ratio:.2f} in the median image")
    print(f"bytes: median {statistics.median(sizes):.0f}, most {max(sizes)}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
