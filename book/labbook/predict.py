"""Guess, then see: a question that a reader answers before a figure does.

A :class:`Guess` asks for a :class:`Number`, a :class:`Range`, a :class:`Choice` or a :class:`Sketch`. Until the reader commits,
the page shows neither the answer nor the figure behind the question; then guess and answer stand side by side over the
figure, and stay. No kernel is needed. Guesses are kept by the reader's browser and go nowhere; :class:`Guesses` shows those
of a chapter. The answer is computed in the notebook, or read from the manifest (:mod:`labbook.results`).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import traitlets
from ipywidgets import widget_serialization
from matplotlib.figure import Figure as Picture

from .live.figure import HERE, Figure, module
from .results import CHAPTERS


@dataclass(frozen=True)
class Number:
    """An answer that is one number, on a scale from ``low`` to ``high``; with ``log``, both are above 0.

    Raises ValueError for a truth that is not on the scale.

    >>> Number(0.218, 0, 0.5).said(), Number(37.5, 0, 100, unit="%", digits=3).said()
    ('0.22', '37.5 %')
    """

    truth: float
    low: float
    high: float
    log: bool = False
    unit: str = ""
    digits: int = 2  #: significant digits that are shown

    def __post_init__(self) -> None:
        _on_scale(self, [self.truth])

    def said(self) -> str:
        """The answer in words."""
        return _shown(self, self.truth)


@dataclass(frozen=True)
class Range:
    """An answer that is an interval, its two ends on a scale from ``low`` to ``high``.

    Raises ValueError for ends that are not on the scale, or the greater first.

    >>> Range((1.33, 1.49), 0, 2, digits=3).said()
    '1.33 to 1.49'
    """

    truth: tuple[float, float]
    low: float
    high: float
    log: bool = False
    unit: str = ""
    digits: int = 2

    def __post_init__(self) -> None:
        _on_scale(self, self.truth)
        if len(self.truth) != 2 or self.truth[0] > self.truth[1]:
            raise ValueError(f"a range has two ends, the smaller first; {self.truth} has not")

    def said(self) -> str:
        """The answer in words."""
        return " to ".join(_shown(self, end) for end in self.truth)


@dataclass(frozen=True)
class Choice:
    """An answer that is one of some ``options``.

    Raises ValueError for a truth that is none of them, for options that come twice, or for fewer than two.

    >>> Choice("smaller", ("smaller", "larger", "about equal")).said()
    'smaller'
    """

    truth: str
    options: Sequence[str]

    def __post_init__(self) -> None:
        if self.truth not in self.options or not 2 <= len(self.options) == len(set(self.options)):
            raise ValueError(
                f"a choice has two or more different options, the truth among them; not {self.truth!r} of {self.options}"
            )

    def said(self) -> str:
        """The answer in words."""
        return self.truth


@dataclass(frozen=True)
class Sketch:
    """An answer that is a line: its heights ``truth`` at the places ``x``, which grow; heights go from ``low`` to ``high``.

    Raises ValueError where the two differ in length, are fewer than two, or leave the scale.

    >>> Sketch([0.0, 0.1, 0.2], [1.0, 0.4, 0.1], 0, 1, across="budget", up="accuracy").said()
    'accuracy is 1 at budget 0, 0.4 at budget 0.1, 0.1 at budget 0.2'
    """

    x: Sequence[float]
    truth: Sequence[float]
    low: float
    high: float
    across: str  #: what x is
    up: str  #: what the heights are
    unit: str = ""
    digits: int = 2

    def __post_init__(self) -> None:
        _on_scale(self, self.truth)
        if len(self.x) != len(self.truth) or len(self.x) < 2 or sorted(set(self.x)) != list(self.x):
            raise ValueError("a sketch needs at least two places x, one after another, and a height for each")

    def said(self) -> str:
        """The answer in words."""
        points = (f"{_shown(self, y)} at {self.across} {x:.3g}" for x, y in zip(self.x, self.truth, strict=True))
        return f"{self.up} is {', '.join(points)}"


Answer = Number | Range | Choice | Sketch


def _shown(answer: Number | Range | Sketch, value: float) -> str:
    rounded = float(f"{value:.{answer.digits}g}")
    return f"{rounded:.12g}" + (f" {answer.unit}" if answer.unit else "")


def _on_scale(answer: Number | Range | Sketch, values: Sequence[float]) -> None:
    log = not isinstance(answer, Sketch) and answer.log
    if not (math.isfinite(answer.low) and math.isfinite(answer.high) and answer.low < answer.high) or (log and answer.low <= 0):
        raise ValueError(
            f"a scale goes from low up to high{', both above 0' if log else ''}; not from {answer.low} to {answer.high}"
        )
    if outside := [v for v in values if not answer.low <= v <= answer.high]:
        raise ValueError(f"the truth {outside[0]} is not on the scale from {answer.low} to {answer.high}: widen it")


def _before(label: str) -> str:
    """The words that ask for one of several answers, as they stand before it."""
    return f"{label}{'' if label.endswith('?') else ':'} " if label else ""


def _packed(label: str, answer: Answer) -> dict[str, Any]:
    values = {
        k: [float(e) for e in v] if k in ("x", "truth") and not isinstance(v, str | float | int) else v
        for k, v in asdict(answer).items()
    }
    return {"kind": type(answer).__name__.lower(), "label": label} | values


class Guess(Figure):
    """A question, a place for the reader's guess, and behind it the answer and a ``figure``.

    ``id`` is "chapter.name", under which the browser keeps the guess. ``answer`` is one answer, or several by the words that
    ask for each. ``guess`` comes back from the page: a value for each, or None. Printed, and where no script runs, the
    answer stands under the question. Raises ValueError for an id of no chapter, for no answer, or for empty words.

    >>> asked = Guess("start_here.doctest", "Heads or tails?", Choice("heads", ("heads", "tails")))
    >>> asked
    Heads or tails? Answer: heads.
    >>> "heads" in asked.alt.removeprefix("Heads or tails?")
    False
    """

    _esm = module("plot.js", "stability_parts.js", "guess_store.js", "guess.js")
    _css = Figure._css + (HERE / "guess.css").read_text()
    name = traitlets.Unicode().tag(sync=True)
    question = traitlets.Unicode().tag(sync=True)
    parts = traitlets.List().tag(sync=True)
    printed = traitlets.Unicode().tag(sync=True)
    # pyrefly: ignore[no-matching-overload]
    inside = traitlets.Instance(Figure, allow_none=True).tag(sync=True, **widget_serialization)
    guess = traitlets.List(allow_none=True, default_value=None).tag(sync=True)

    def __init__(self, id: str, question: str, answer: Answer | Mapping[str, Answer], figure: Figure | None = None) -> None:
        answers = dict(answer) if isinstance(answer, Mapping) else {"": answer}
        chapter, _, rest = id.partition(".")
        if chapter not in CHAPTERS or not rest:
            raise ValueError(f"the id {id!r} is not CHAPTER.NAME with a chapter of {', '.join(CHAPTERS)}")
        if not question.strip() or not answers or (len(answers) > 1 and not all(answers)):
            raise ValueError("a guess needs a question and an answer, and several answers need words for each")
        said = "; ".join(f"{_before(label)}{a.said()}" for label, a in answers.items())
        super().__init__(
            name=id,
            question=question,
            parts=[_packed(label, a) for label, a in answers.items()],
            printed=f"Answer: {said}.",
            inside=figure,
        )

    def describe(self) -> str:
        return f"{self.question} Guess before you see."

    def __repr__(self) -> str:
        return f"{self.question} {self.printed}"

    def still(self) -> Picture:
        """The question, the figure as it stands, and the answer under it."""
        held: Figure | None = self.inside
        picture = held.still() if held else Picture(figsize=(6.4, 1.1), layout="constrained")
        width = round(14 * picture.get_figwidth())
        picture.set_figheight(picture.get_figheight() + 0.25 * (len(self.question) // width + len(self.printed) // width + 2))
        picture.suptitle(textwrap.fill(self.question, width), fontsize=9, fontweight="bold")
        picture.supxlabel(textwrap.fill(self.printed, width), fontsize=9)
        return picture


class Guesses(Figure):
    """The reader's guesses of a ``chapter`` beside the answers, and how near they came. Raises ValueError for no chapter.

    >>> Guesses("start_here").chapter
    'start_here'
    """

    _esm = module("guess_store.js", "guesses.js")
    _css = Guess._css
    chapter = traitlets.Unicode().tag(sync=True)

    def __init__(self, chapter: str) -> None:
        if chapter not in CHAPTERS:
            raise ValueError(f"there is no chapter {chapter!r}; there are: {', '.join(CHAPTERS)}")
        super().__init__(chapter=chapter)

    def describe(self) -> str:
        return "Your guesses of this chapter beside the answers. They are kept by your browser alone."

    def still(self) -> Picture:
        picture = Picture(figsize=(6.4, 0.5))
        picture.text(0.02, 0.4, "In the book's page, your guesses stand here beside the answers.", fontsize=9)
        return picture
