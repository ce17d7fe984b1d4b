"""Public benchmarks through our door: networks in ONNX, properties in VNN-LIB, and answers that are known.

    python -m bench.benchmarks FOLDER [--limit 20] [--only PART,PART] [--json FILE]

FOLDER holds an ``index.json`` (``instances``, each with ``id``, ``family``, ``onnx``, ``vnnlib``, and if known ``truth``,
"sat" or "unsat", and ``best_s``, the best published time), or an ``instances.csv`` of the competition (network, property,
seconds). One instance after the other, each with ``--limit`` CPU seconds. The exit status is 1 where an answer is wrong.
"""

from __future__ import annotations

import argparse
import collections
import csv
import datetime
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ANSWERS = {"robust": "unsat", "counterexample": "sat"}


def instances(folder: Path) -> list[dict[str, Any]]:
    """The instances of a folder. Raises ValueError where it has neither of the two lists."""
    if (index := folder / "index.json").is_file():
        return json.loads(index.read_text())["instances"]
    if not (table := folder / "instances.csv").is_file():
        raise ValueError(f"{folder} has neither an index.json nor an instances.csv: name the folder that has one")
    rows = [row for row in csv.reader(table.read_text().splitlines()) if row]
    return [{"id": Path(row[1]).stem, "family": folder.name, "onnx": row[0], "vnnlib": row[1]} for row in rows]


def asked(folder: Path, instance: dict[str, Any], limit: float) -> dict[str, Any]:
    """What the verifier says of one instance: decided, unknown, refused or wrong, and the CPU seconds of the whole call."""
    from advlab.verification import verify_files

    start = time.process_time()
    try:
        verdict = verify_files(folder / instance["onnx"], folder / instance["vnnlib"], time_limit=limit)
        said, by = ANSWERS.get(verdict.status, "unknown"), verdict.stage
    except (TypeError, ValueError) as e:
        said, by = "refused", str(e).replace(f"{folder}{os.sep}", "")
    outcome = said
    if said in ANSWERS.values():
        outcome = "decided" if instance.get("truth") in (said, None) else "wrong"
    kept = {key: instance.get(key) for key in ("id", "family", "group", "truth", "best_s")}
    return {**kept, "outcome": outcome, "said": said, "by": by, "seconds": round(time.process_time() - start, 3)}


def table(found: Iterable[dict[str, Any]]) -> str:
    """A line a family, in Markdown: counts, our median and greatest seconds, the median of the best published ones."""
    families: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for one in found:
        families[one["family"]].append(one)
        families["all"].append(one)
    families["all"] = families.pop("all", [])
    lines = [
        "| family | decided | unknown | refused | wrong | s, median | s, most | published, median |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, group in families.items():
        counts = collections.Counter(one["outcome"] for one in group)
        seconds = sorted(one["seconds"] for one in group)
        best = sorted(one["best_s"] for one in group if one["best_s"] is not None)
        cells = [str(counts[outcome]) for outcome in ("decided", "unknown", "refused", "wrong")]
        cells += [f"{seconds[len(seconds) // 2]:.2f}", f"{seconds[-1]:.2f}"] if seconds else ["", ""]
        lines.append(f"| {name} | {' | '.join(cells)} | {f'{best[len(best) // 2]:.2f}' if best else ''} |")
    return "\n".join(lines)


def record(limit: float, found: list[dict[str, Any]]) -> str:
    """What the book's page of benchmarks shows: when, on what, with which limit, and a line of JSON an instance."""
    from advlab import __version__
    from labbook.results import machine

    made = {"date": datetime.date.today().isoformat(), "version": __version__, "limit": limit, "machine": machine()}
    lines = ",\n".join(json.dumps(one) for one in found)
    return f'{{"made": {json.dumps(made)},\n"instances": [\n{lines}\n]}}\n'


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=float, default=20.0, help="CPU seconds an instance (default: 20)")
    parser.add_argument("--only", help="parts of ids, with commas between: these instances alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was found goes here as well")
    args = parser.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    parts = args.only.split(",") if args.only else [""]
    found = []
    for instance in instances(args.folder):
        if not any(part in instance["id"] for part in parts):
            continue
        found.append(one := asked(args.folder, instance, args.limit))
        best = "" if one["best_s"] is None else f", published {one['best_s']:.2f}"
        print(f"{one['outcome']:8} {one['id']:28} {one['said']} in {one['seconds']:.2f} s{best} ({one['by']})", flush=True)
        if args.json:
            args.json.write_text(record(args.limit, found))
    print("\n" + table(found))
    return int(any(one["outcome"] == "wrong" for one in found))


if __name__ == "__main__":
    sys.exit(main())
