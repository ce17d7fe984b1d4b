"""What an exercise is, and how an answer is checked and explained."""

from __future__ import annotations

import copy
import html
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .words import said

#: How hard an exercise can be.
LEVELS = ("easy", "medium", "hard")

#: Chapter -> module whose import registers its exercises.
CHAPTERS = {
    "start_here": "labbook.start_here.exercises",
    "adversarial_spheres": "labbook.adversarial_spheres.exercises",
    "feature_squeezing": "labbook.feature_squeezing.exercises",
    "relu_stability": "labbook.relu_stability.exercises",
    "random_mask": "labbook.random_mask.exercises",
    "all_against_all": "labbook.all_against_all.exercises",
}


class Wrong(Exception):
    """What a judge raises: its message tells the reader what is wrong, and where to look.

    >>> try:
    ...     require(2 > 3, "Two is not above three.")
    ... except Wrong as e:
    ...     print(e)
    Two is not above three.
    """


class Missing(Exception):
    """What an exercise raises where the answer is not written yet: no fault, so the check says "not yet".

    >>> issubclass(Missing, Wrong)
    False
    """


@dataclass(frozen=True)
class Exercise:
    """An exercise: ``judge(answer)`` calls the reader's function and raises :class:`Wrong` where it errs.

    >>> found = exercises("start_here")[0]
    >>> found.id, found.chapter
    ('start_here.l2_step', 'start_here')
    """

    id: str  #: "chapter.name"
    title: str
    minutes: int
    level: str  #: one of LEVELS
    judge: Callable[[Callable[..., Any]], None] = field(repr=False)

    @property
    def chapter(self) -> str:
        return self.id.partition(".")[0]


#: All exercises that are registered, by id; :func:`exercises` registers them first.
EXERCISES: dict[str, Exercise] = {}


def exercise(id: str, title: str, *, minutes: int, level: str) -> Callable[[Callable], Callable]:
    """Register a judge as the exercise ``id``. Raises ValueError for a taken id, an unknown chapter or level.

    >>> _ = exercises("start_here")
    >>> another = exercise("start_here.l2_step", "Another of that name", minutes=10, level="easy")
    >>> another(lambda answer: None)
    Traceback (most recent call last):
        ...
    ValueError: exercise 'start_here.l2_step': the id is taken, or its chapter or level 'easy' is unknown
    """

    def register(judge: Callable[[Callable[..., Any]], None]) -> Callable:
        new = Exercise(id, title, minutes, level, judge)
        if id in EXERCISES or new.chapter not in CHAPTERS or level not in LEVELS:
            raise ValueError(f"exercise {id!r}: the id is taken, or its chapter or level {level!r} is unknown")
        EXERCISES[id] = new
        return judge

    return register


def exercises(chapter: str | None = None) -> list[Exercise]:
    """The exercises of a chapter, or of all, in the order of the book. Raises ValueError for an unknown chapter.

    >>> {e.level for e in exercises("start_here")} <= set(LEVELS), sorted({e.chapter for e in exercises()})[0]
    (True, 'adversarial_spheres')
    """
    if chapter is not None and chapter not in CHAPTERS:
        raise ValueError(f"there is no chapter {chapter!r} with exercises; there are: {', '.join(CHAPTERS)}")
    for name in CHAPTERS if chapter is None else [chapter]:
        import_module(CHAPTERS[name])
    order = list(CHAPTERS)
    return sorted((e for e in EXERCISES.values() if chapter in (None, e.chapter)), key=lambda e: order.index(e.chapter))


@dataclass(frozen=True)
class Outcome:
    """What :func:`check` found. True where the answer passed.

    >>> outcome = check("start_here.l2_step", lambda net, x, y, eps: x)
    >>> bool(outcome), outcome.status
    (False, 'wrong')
    """

    id: str
    status: str  #: "solved", "wrong" or "not yet"
    message: str

    def __bool__(self) -> bool:
        return self.status == "solved"

    def __repr__(self) -> str:
        return f"{said(self.status)}: {self.message}"

    def _repr_html_(self) -> str:
        kind, sign = {"solved": ("solved", "✓"), "wrong": ("wrong", "✗"), "not yet": ("open", "○")}[self.status]
        first = said(f"{self.status.capitalize()}.")
        told = f'<span aria-hidden="true">{sign}</span> <strong>{first}</strong> {html.escape(self.message)}'
        return f'<div class="advlab-check {kind}" style="border-left: 0.3em solid; padding: 0.3em 0.8em">{told}</div>'


def check(id: str, answer: Callable[..., Any]) -> Outcome:
    """Check the reader's function ``answer`` against the exercise ``id``, "chapter.name", and explain what is wrong.

    The answer is called on inputs of the exercise's own, the same each time; changing them in place is an error that is named.
    torch's random numbers start from a fixed seed, and go on afterwards as if nothing had been asked.
    No guarantee that a wrong answer is found; every check fails on the stub and on at least two stored wrong answers.
    Raises ValueError for an unknown exercise, TypeError for an answer that cannot be called.

    >>> check("start_here.l2_step", lambda net, x, y, eps: x)
    wrong: ...
    """
    chapter = id.partition(".")[0]
    known = {e.id: e for e in exercises(chapter if chapter in CHAPTERS else None)}
    if id not in known:
        raise ValueError(f"there is no exercise {id!r}; there are: {', '.join(known)}")
    if not callable(answer):
        raise TypeError(f"the answer is a {type(answer).__name__}; give your function itself, without calling it")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            known[id].judge(_Asked(answer))
        except Missing:
            words = said("Replace the last line of the function by your own code, and run the cell again.")
            return Outcome(id, "not yet", words)
        except Wrong as e:
            return Outcome(id, "wrong", said(str(e)))
        except Exception as e:
            return Outcome(id, "wrong", said(f"What your function returned cannot be used. {type(e).__name__}: {e}"))
    return Outcome(id, "solved", said(f"{known[id].title}: all checks pass."))


class _Asked:
    """The reader's function: on copies of its arguments (gradients pass through them), its errors explained."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer = answer

    def __call__(self, *arguments: Any) -> Any:
        given = [
            a.clone() if isinstance(a, Tensor) else copy.copy(a) if isinstance(a, np.ndarray | list) else a for a in arguments
        ]
        try:
            found = self.answer(*given)
        except NotImplementedError as e:
            raise Missing from e
        except Wrong:
            raise
        except Exception as e:
            raise Wrong(f"Your function raised {type(e).__name__}: {e}") from e
        if found is None:
            raise Wrong("Your function returned None. Does it end in a return?")
        for k, (before, after) in enumerate(zip(arguments, given, strict=True)):
            if isinstance(before, Tensor | np.ndarray) and not np.array_equal(_array(before), _array(after), equal_nan=True):
                raise Wrong(f"Your function changed argument {k + 1} in place. Work on a copy.")
        return found


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def close(found: Any, expected: Any, what: str, *, tolerance: float = 1e-5, hint: str = "") -> None:
    """Raise :class:`Wrong` unless ``found`` has the shape and, to ``tolerance`` (absolute and relative), the values expected.

    ``what`` names it in the message, such as "the bound of unit 3"; ``hint`` is added where the values differ.

    >>> close([1.0, 2.0], torch.tensor([1.0, 2.0]), "the bound")  # nothing is said where it is right
    >>> try:
    ...     close([1.0, 2.5], torch.tensor([1.0, 2.0]), "the bound")
    ... except Wrong as e:
    ...     print(e)
    the bound is 2.5 (at (1,)); it should be 2.
    """
    if not isinstance(found, Tensor | np.ndarray | float | int | bool | list | tuple | np.generic):
        raise Wrong(f"{what} should be numbers; your function returned a {type(found).__name__}.")
    try:
        mine, right = np.asarray(_array(found), float), np.asarray(_array(expected), float)
    except (TypeError, ValueError) as e:
        raise Wrong(f"{what} should be numbers; yours cannot be read as such ({e}).") from e
    if mine.shape != right.shape:
        raise Wrong(f"{what} has the shape {mine.shape}; it should be {right.shape}.")
    if not np.isfinite(mine[np.isfinite(right)]).all():
        raise Wrong(f"{what} holds values that are not finite. Is there a division by zero, or a log of 0?")
    apart = ~np.isclose(mine, right, rtol=tolerance, atol=tolerance, equal_nan=True)
    if apart.any():
        k = tuple(int(i) for i in np.argwhere(apart)[0])
        at = f" (at {k})" if k else ""
        raise Wrong(f"{what} is {mine[k]:.6g}{at}; it should be {right[k]:.6g}. {hint}".strip())


def require(condition: object, message: str) -> None:
    """Raise :class:`Wrong` with ``message`` unless the condition holds.

    >>> require(3 > 2, "Three is above two.")  # nothing is said where it holds
    """
    if not condition:
        raise Wrong(message)
