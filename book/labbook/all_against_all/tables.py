"""Chapter 5's rows, as tables and its live figure take them: all from the manifest."""

from __future__ import annotations

from typing import Any

from .. import results
from .defences import ROWS, SETTINGS, Row
from .ladder import ATTACKS

PAPERS = {"feature_squeezing": "Feature Squeezing", "relu_stability": "ReLU stability", "random_mask": "Random Mask"}
GROUPS = ("no defence", "one defence", "pair")


def group_of(key: str, row: Row) -> str:
    return GROUPS[len(row.papers) + ("adversarial" in key)]


def rows(chapter: str = "all_against_all") -> list[dict[str, Any]]:
    """What the manifest has measured of each row of :data:`.defences.ROWS`, for :class:`labbook.live.AllAgainstAll`.

    A row whose attacks or whose proofs are not in the manifest is left out.
    """
    entries, found = results.load(chapter), []
    for dataset, each in ROWS.items():
        setting = SETTINGS[dataset]
        for key, row in each.items():
            worst, proved = (entries.get(f"{chapter}.{dataset}_{key}{end}") for end in ("", "_proved"))
            if worst is None or proved is None:
                continue
            found.append(
                {
                    "dataset": dataset,
                    "setting": f"{setting.label}, {setting.budget}",
                    "key": key,
                    "label": "no defence" if key == "none" else row.label,
                    "group": group_of(key, row),
                    "papers": [PAPERS[paper] for paper in row.papers],
                    "flags": list(worst.flags),
                    "outcomes": {name: worst.series[name] for name in ATTACKS},
                    "known": proved.series["known"],
                }
            )
    return found
