"""What the verifier says of the public benchmarks: ```{benchmarks}``` is a table of their groups, and the open ones by name.

The file is made by ``python -m bench.benchmarks FOLDER --json book/results/benchmarks.json``; {benchmark}`decided` and the
like are its counts, {benchmark}`all` the number of instances, {benchmark}`date` and {benchmark}`limit` when and how it ran.
{proof}`checked` and the like say what ``python -m bench.proofs`` found, of all test images.
"""

import json
import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

from docutils import nodes
from manifest import depends_on, folded, grid, where
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective, SphinxRole

from labbook.words import said

OUTCOMES = ("decided", "unknown", "refused", "wrong")
GROUPS = {"vnncomp": "VNN-COMP 2021 and 2022", "veristress": "VeriStressGT", "planted": "planted", "forms": "forms"}


def measured(env: BuildEnvironment) -> dict[str, Any]:
    return json.loads(depends_on(env, "benchmarks.json").read_text())


def line(name: str, group: list[dict[str, Any]]) -> tuple[str, ...]:
    """A row of the table: counts, the median and the greatest seconds, and the median of the best published times."""
    counts = Counter(one["outcome"] for one in group)
    seconds, best = [one["seconds"] for one in group], [one["best_s"] for one in group if one["best_s"] is not None]
    times = (f"{statistics.median(seconds):.2f}", f"{max(seconds):.1f}", f"{statistics.median(best):.2f}" if best else "–")
    return (name, str(len(group)), *(str(counts[outcome]) for outcome in OUTCOMES), *times)


class Benchmarks(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        found = measured(self.env)
        instances = found["instances"]
        groups = {name: [one for one in instances if one["group"] == key] for key, name in GROUPS.items()}
        rows = [line(name, group) for name, group in {**groups, "all": instances}.items()]
        families = [
            line(name, [one for one in instances if one["family"] == name]) for name in {i["family"]: 0 for i in instances}
        ]
        left = [one for one in instances if one["outcome"] != "decided"]
        head = ("instances", *OUTCOMES, "s, median", "s, most", "published, median")
        times = [(f"{one['seconds']:.1f}", "–" if one["best_s"] is None else f"{one['best_s']:.1f}") for one in left]
        still = [(one["id"], one["by"], *pair) for one, pair in zip(left, times, strict=True)]
        told = found["made"]
        words = said(f"Measured {told['date']}, advlab {told['version']}, {where(told['machine'])}.")
        return [
            grid(("group", *head), rows),
            *folded(said("Family by family"), grid(("family", *head), families)),
            *folded(said("Those that stay open"), grid(("instance", "last stage", "s", "best published s"), still)),
            nodes.paragraph("", words),
        ]


class Known(SphinxRole):
    """A role whose words are looked up in what was measured."""

    def __init__(self, look_up: Callable[[BuildEnvironment], dict[str, Any]]) -> None:
        super().__init__()
        self.look_up = look_up

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        known = self.look_up(self.env)
        if self.text not in known:
            return [], [self.inliner.reporter.warning(f"{self.text!r} is none of {', '.join(known)}", line=self.lineno)]
        return [nodes.Text(str(known[self.text]))], []


def benchmark(env: BuildEnvironment) -> dict[str, Any]:
    found = measured(env)
    counts = Counter(one["outcome"] for one in found["instances"])
    known = {outcome: counts[outcome] for outcome in OUTCOMES} | {"all": len(found["instances"])}
    return known | {"date": found["made"]["date"], "limit": f"{found['made']['limit']:g}"}


def proof(env: BuildEnvironment) -> dict[str, Any]:
    found = json.loads(depends_on(env, "proofs.json").read_text())
    counts = Counter(found["verdicts"])
    checked = counts["robust proved"] + counts["counterexample proved"]
    return {
        "images": f"{found['images']:,}",
        "checked": f"{checked:,}",
        "robust": f"{counts['robust proved']:,}",
        "solved": counts["robust solved"],
        "refused": found["refused"],
        "minutes": f"{found['check']['sum'] / 60:.0f}",
        "seconds": f"{found['check']['median']:.2f}",
        "most": f"{found['check']['most']:.1f}",
        "bytes": f"{found['bytes']['median']:.0f}",
        "largest": f"{found['bytes']['most'] / 1000:,.0f}",
        "ratio": f"{found['ratio']['sum']:.2f}",
        "date": found["made"]["date"],
    }


def setup(app: Sphinx) -> dict:
    app.add_directive("benchmarks", Benchmarks)
    app.add_role("benchmark", Known(benchmark))
    app.add_role("proof", Known(proof))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
