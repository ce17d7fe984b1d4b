"""Two versions of the verifier's search beside each other, on the images that need one.

    git worktree add /tmp/before b9e22bc^
    .venv/bin/python -m bench.search /tmp/before . --network mnist_01_rs --images 28 --among 2500

Each version runs in a process of its own, with one thread, and they take turns. An image needs a search if the last version,
stopped after optimised slopes, leaves it open. Prints the verdicts and CPU seconds of each image, and the means; two verdicts
that contradict each other end the run. Nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def serve(network: str, eps: float, among: int) -> None:
    """Answer lines of [image, options] with lines of [status, stage, CPU seconds], by the version that is on the path."""
    import torch

    from advlab import data, zoo

    try:
        from advlab.verification import verify
    except ImportError:  # until 27 November 2026
        from advlab.stability import verify  # pyrefly: ignore[missing-module-attribute]
    torch.set_num_threads(1)
    net, (x, y) = zoo.load(network), data.mnist(n=among)
    for line in sys.stdin:
        image, options = json.loads(line)
        verify(net, x[0], int(y[0]), eps, last_stage="prediction")  # reads the network
        start = time.process_time()
        found = verify(net, x[image], int(y[image]), eps, **options)
        print(json.dumps([found.status, found.stage, time.process_time() - start]), flush=True)


def started(tree: Path, network: str, eps: float, among: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).resolve()), "--serve", "--network", network, "--eps", str(eps)]
    command += ["--among", str(among)]
    threads = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree.resolve()), "PYTHONSAFEPATH": "1"}
    return subprocess.Popen(
        command, cwd=tree, env=os.environ | threads, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def ask(server: subprocess.Popen[str], image: int, **options: Any) -> list[Any]:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps([image, options]) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare two versions of the verifier's search in one run.")
    parser.add_argument("trees", type=Path, nargs="*", help="folders of the versions, the first is what counts as before")
    parser.add_argument("--network", default="mnist_01_rs")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--images", type=int, default=28, help="at most so many, spread evenly over those that need a search")
    parser.add_argument("--among", type=int, default=2500, help="the first so many test images are looked at")
    parser.add_argument("--limit", type=float, default=20.0, help="CPU seconds an image")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.network, args.eps, args.among)
    servers = [started(tree, args.network, args.eps, args.among) for tree in args.trees]
    open_ = [i for i in range(args.among) if ask(servers[-1], i, last_stage="alpha-crown")[0] == "unknown"]
    step = max(1.0, len(open_) / args.images)
    images = [open_[int(k * step)] for k in range(min(args.images, len(open_)))]
    seconds: list[list[float]] = [[] for _ in servers]
    for turn, image in enumerate(images):
        order = [(turn + k) % len(servers) for k in range(len(servers))]
        found = {k: ask(servers[k], image, time_limit=args.limit) for k in order}
        given = [found[k] for k in range(len(servers))]
        print(image, *(f"{status} ({stage}) {spent:.2f} s" for status, stage, spent in given), sep="  ", flush=True)
        if {"robust", "counterexample"} <= {status for status, _, _ in given}:
            sys.exit(f"image {image}: the verdicts contradict each other")
        for times, (_, _, spent) in zip(seconds, given, strict=True):
            times.append(min(spent, args.limit))
    for tree, times in zip(args.trees, seconds, strict=True):
        faster = sum(seconds[0]) / sum(times)
        print(
            f"{tree}: mean {statistics.mean(times):.3f} s, median {statistics.median(times):.3f} s, {faster:.1f} times faster"
        )
    for server in servers:
        server.communicate()


if __name__ == "__main__":
    main()
