"""The live figure of chapter 5: all defences against all attacks, to sort and to filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure as Picture

from advlab.evaluate import clopper_pearson

from .figure import HERE, Figure, module
from .gallery import BLUE, GREEN, ORANGE

SORTS = ("worst case", "clean", "proved", "gap", "name")
PARTS = ("bounded", "searched", "open", "refuted", "broken")  #: of a bar, from the left
FIELDS = {"dataset", "setting", "key", "label", "group", "papers", "flags", "outcomes", "known"}


def _digits(values: Sequence[float], most: int, name: str) -> str:
    """Whole numbers from 0 to ``most`` as a string, a digit each."""
    if wrong := [v for v in values if v not in range(most + 1)]:
        raise ValueError(f"{name} holds {wrong[0]!r}; it must hold whole numbers from 0 to {most} alone")
    return "".join(str(int(v)) for v in values)


def _packed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the page gets it: columns become strings. Raises ValueError for what cannot be one."""
    if set(row) != FIELDS:
        raise ValueError(f"a row has the fields {sorted(row)}; it must have {sorted(FIELDS)}")
    at = f"row {row['dataset']}, {row['key']}"
    outcomes = {name: _digits(column, 1, f"{at}: {name}") for name, column in row["outcomes"].items()}
    known = _digits(row["known"], 3, f"{at}: known")
    lengths = {"known": len(known)} | {name: len(column) for name, column in outcomes.items()}
    if len(set(lengths.values())) > 1 or not known:
        raise ValueError(f"{at} has columns of the lengths {lengths}; they must be of one length, not empty")
    if "clean" not in outcomes:
        raise ValueError(f"{at} has the outcomes {list(outcomes)}; there must be one for 'clean'")
    for name, column in outcomes.items():
        for image, (stands, state) in enumerate(zip(column, known, strict=True)):
            if stands == "0" and state in "23":
                raise ValueError(f"{at}: image {image} is proved to stand and falls to {name}; one of the two is wrong")
    lists = {"papers": list(row["papers"]), "flags": list(row["flags"])}
    return {**row, **lists, "outcomes": outcomes, "known": known}


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _percent(k: int, n: int) -> str:
    return f"{100 * k / n:.1f}\u00a0%"


class AllAgainstAll(Figure):
    """Defences against attacks, image by image: a bar and a line of a table for each, counted anew for the attacks chosen.

    ``rows`` are dicts with the texts ``dataset``, ``setting`` (the data set and the budget in words), ``key``, ``label`` and
    ``group``, the lists ``papers`` and ``flags``, and for the same n images of the data set ``outcomes``: attack -> n values,
    1 where the image stands after this attack alone ("clean" is none), and ``known``, n values: 0 refuted, 1 unknown, 2
    proved by search, 3 proved by bounds alone. An image stands if it does so clean and after each attack of ``attacks`` (all
    those offered, if None). ``dataset`` (the first, if None), ``sort`` ("worst case", "clean", "proved", "gap", "name") and
    ``show`` ("all", a group, or a paper) say what is seen; the four come back from the page.

    Guarantee: the accuracy that no attack at all would bring lower lies between the share proved and the share that stands
    and is not refuted, as far as the proofs hold; intervals are Clopper and Pearson's at 95 %.
    Raises ValueError for rows that cannot be so, such as an image that is proved to stand and falls to an attack.

    >>> row = {"dataset": "mnist", "setting": "MNIST", "key": "a", "label": "A", "group": "pair", "papers": [], "flags": []}
    >>> row |= {"outcomes": {"clean": [1, 1, 1, 0], "noise": [1, 1, 1, 0], "PGD": [1, 1, 0, 0]}, "known": [3, 0, 0, 0]}
    >>> figure = AllAgainstAll([row], attacks=["noise"])
    >>> [figure.computed()[0][part] for part in ("bounded", "searched", "open", "refuted", "broken")]
    [1, 0, 0, 2, 1]
    """

    _esm = module("all_against_all.js")
    _css = Figure._css + (HERE / "all_against_all.css").read_text()
    rows = traitlets.List().tag(sync=True)
    lows = traitlets.Dict().tag(sync=True)
    settings = traitlets.Dict().tag(sync=True)
    offered = traitlets.List().tag(sync=True)
    dataset = traitlets.Unicode().tag(sync=True)
    attacks = traitlets.List(traitlets.Unicode()).tag(sync=True)
    sort = traitlets.Enum(SORTS, "worst case").tag(sync=True)
    show = traitlets.Unicode("all").tag(sync=True)

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        dataset: str | None = None,
        attacks: Sequence[str] | None = None,
        sort: str = "worst case",
        show: str = "all",
    ) -> None:
        packed = [_packed(row) for row in rows]
        if not packed:
            raise ValueError("there must be a row at least")
        names = list(packed[0]["outcomes"])
        sizes: dict[str, int] = {}
        settings: dict[str, str] = {}
        for row in packed:
            at = f"row {row['dataset']}, {row['key']}"
            if set(row["outcomes"]) != set(names):
                raise ValueError(f"{at} has the attacks {list(row['outcomes'])}; the rows before it have {names}")
            n = len(row["known"])
            if sizes.setdefault(row["dataset"], n) != n:
                raise ValueError(f"{at} has {n} images; the rows before it have {sizes[row['dataset']]}")
            if settings.setdefault(row["dataset"], row["setting"]) != row["setting"]:
                raise ValueError(f"{at} has the setting {row['setting']!r}; the rows before it {settings[row['dataset']]!r}")
        if len({(row["dataset"], row["key"]) for row in packed}) < len(packed):
            raise ValueError("two rows of a data set have one key")
        offered = [name for name in names if name != "clean"]
        super().__init__(
            rows=packed,
            lows={str(n): [clopper_pearson(k, n)[0] for k in range(n + 1)] for n in sorted(set(sizes.values()))},
            settings=settings,
            offered=offered,
            dataset=next(iter(settings)) if dataset is None else dataset,
            attacks=offered if attacks is None else list(attacks),
            sort=sort,
            show=show,
        )

    @traitlets.validate("dataset", "show")
    def _there(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        shown = dict.fromkeys(["all", *(row["group"] for row in self.rows), *(p for row in self.rows for p in row["papers"])])
        choices = list(self.settings if name == "dataset" else shown)
        if self.rows and value not in choices:
            raise traitlets.TraitError(f"{name} is {value!r}; it must be one of {choices}")
        return value

    @traitlets.validate("attacks")
    def _offered(self, proposal: Any) -> list[str]:
        chosen = proposal["value"]
        if self.rows and (len(set(chosen)) < len(chosen) or not set(chosen) <= set(self.offered)):
            raise traitlets.TraitError(f"attacks is {chosen}; each must be one of {self.offered}, and once")
        return [name for name in self.offered if name in chosen] if self.rows else chosen

    def computed(self) -> list[dict[str, Any]]:
        """The rows shown, in order: key, label, n, the numbers of images clean, stands, those of the parts of its bar
        (bounded, searched, open, refuted, broken), proved, gap; and the interval low, high of the share that stands.
        """
        rows = [r for r in self.rows if r["dataset"] == self.dataset and self.show in ("all", r["group"], *r["papers"])]
        found = [{"key": row["key"], "label": row["label"], **self._counted(row, self.attacks)} for row in rows]
        if self.sort == "name":
            return sorted(found, key=lambda row: row["label"].lower())
        return sorted(found, key=lambda row: -row["stands" if self.sort == "worst case" else self.sort])

    def _counted(self, row: dict[str, Any], attacks: Sequence[str]) -> dict[str, Any]:
        outcomes = {name: np.array(list(column)) == "1" for name, column in row["outcomes"].items()}
        stands = np.all([outcomes["clean"], *(outcomes[name] for name in attacks)], 0)
        refuted, opened, searched, bounded = np.bincount(np.array(list(row["known"]), int)[stands], minlength=4).tolist()
        k, n, proved = int(stands.sum()), len(stands), bounded + searched
        low, high = clopper_pearson(k, n)
        counts = {"n": n, "clean": int(outcomes["clean"].sum()), "stands": k, "bounded": bounded, "searched": searched}
        counts |= {"open": opened, "refuted": refuted, "broken": n - k, "proved": proved, "gap": k - proved}
        return {**counts, "low": low, "high": high}

    def describe(self) -> str:
        against = f"against {_listed(self.attacks)}" if self.attacks else "without an attack"
        head = f"{self.settings[self.dataset]}, {against}"
        shown = {row["key"]: row for row in self.computed()}
        order = [row["key"] for row in self.rows if row["dataset"] == self.dataset and row["key"] in shown]
        rows = sorted((shown[key] for key in order), key=lambda row: -row["stands"])
        if not rows:
            return f"{head}: no row is shown."
        first, k, n = rows[0], rows[0]["stands"], rows[0]["n"]
        if not k:
            return f"{head}: no row stands on any of {n} images."
        level = sum(row["stands"] == k for row in rows) - 1
        verb = f"{f' and {level} more stand' if level else ' stands'} {'most often, ' if len(rows) > 1 else ''}on"
        interval = f"95\u00a0% interval {100 * first['low']:.1f} to {100 * first['high']:.1f}"
        told = f"{head}: {first['label']}{verb} {_percent(k, n)} of {n} images ({interval})"
        if not level:
            told += f", with proof on {_percent(first['proved'], n)}"
        if len(rows) > 1:
            told += f"; at least half stand in {sum(2 * row['stands'] >= n for row in rows)} of {len(rows)} rows"
        (given,) = (row for row in self.rows if (row["dataset"], row["key"]) == (self.dataset, first["key"]))
        others = [name for name in self.offered if name not in self.attacks]
        left = {name: self._counted(given, [*self.attacks, name])["stands"] for name in others}
        if not left:
            return f"{told}."
        worst = min(left, key=lambda name: left[name])
        if left[worst] == k:
            return f"{told}. No other attack alone would take more from {first['label']}."
        return f"{told}. With {worst} too, {first['label']} would keep {_percent(left[worst], n)}."

    def still(self) -> Picture:
        rows = self.computed()
        picture = Picture(figsize=(6.0, 1.2 + 0.3 * max(len(rows), 1)), layout="constrained")
        ax = picture.subplots()
        looks = {
            "bounded": ("proved by bounds", {"color": GREEN}),
            "searched": ("proved by search", {"facecolor": "white", "edgecolor": GREEN, "hatch": "/////"}),
            "open": ("stands, not decided", {"facecolor": BLUE, "edgecolor": "white", "hatch": "....", "linewidth": 0}),
            "refuted": ("stands, but refuted", {"facecolor": "white", "edgecolor": ORANGE, "hatch": "|||||"}),
            "broken": ("broken", {"facecolor": "white", "edgecolor": "#9aa1a9"}),
        }
        share = {part: np.array([100 * row[part] / row["n"] for row in rows]) for part in (*PARTS, "clean", "stands")}
        left, places = np.zeros(len(rows)), np.arange(len(rows))
        for part in PARTS:
            label, look = looks[part]
            ax.barh(places, share[part], left=left, height=0.6, label=label, **look)  # pyrefly: ignore[bad-argument-type]
            left = left + share[part]
        ax.plot(share["clean"], places, "|", color="black", markersize=15, markeredgewidth=2.2, label="clean accuracy")
        ends = np.array([[100 * row["low"], 100 * row["high"]] for row in rows]).reshape(-1, 2)
        ax.hlines(places + 0.39, ends[:, 0], ends[:, 1], color="black", linewidth=1.6, label="95 % interval")
        ax.set_yticks(places, [f"{row['label']}, {row['stands']} of {row['n']}" for row in rows], fontsize=8)
        ax.set(xlim=(0, 100), ylim=(max(len(rows), 1) - 0.4, -0.6), xlabel="images, %")
        ax.legend(fontsize=7.5, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0)
        return picture
