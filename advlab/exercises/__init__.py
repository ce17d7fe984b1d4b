"""Exercises that check themselves: ``check(id, your_function)`` says whether it is right, and if not, why."""

from .core import CHAPTERS, EXERCISES, LEVELS, Exercise, Outcome, Wrong, check, close, exercise, exercises, require

__all__ = [
    "CHAPTERS",
    "EXERCISES",
    "LEVELS",
    "Exercise",
    "Outcome",
    "Wrong",
    "check",
    "close",
    "exercise",
    "exercises",
    "require",
]
