"""Every exercise: its cell in the notebook, its solution, and that its check fails on the stub and on stored wrong answers.

``wrong_answers/CHAPTER.py`` has for each exercise a list ``WRONG["chapter.name"]`` of at least two functions that a reader
could write, each with what the explanation must contain.
"""

import importlib.util
import re

import pytest
import torch
from browser import ROOT

from labbook import exercises

NOTEBOOKS = {md.stem[3:]: md for md in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))}
ALL = exercises.exercises()


def stored(chapter):
    path = ROOT / "tests" / "wrong_answers" / f"{chapter}.py"
    spec = importlib.util.spec_from_file_location(f"wrong_answers_{chapter}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.WRONG


def section(e):
    """The exercise's text, its stub cell and its solution, from the notebook's text twin."""
    text = NOTEBOOKS[e.chapter].read_text()
    start = text.index(f":::{{exercise}} {e.title}\n")
    solution = re.compile(r":::\{solution\}.*?\n:::\n", re.S).search(text, start)
    return text[start : solution.start()], solution[0]


def test_every_chapter_has_exercises():
    assert list(exercises.CHAPTERS) == list(NOTEBOOKS)


@pytest.mark.parametrize("chapter", exercises.CHAPTERS)
def test_a_chapter_has_four_to_eight(chapter):
    assert 4 <= len(exercises.exercises(chapter)) <= 8
    in_text = re.findall(r":::\{exercise\} (.*)\n", NOTEBOOKS[chapter].read_text())
    assert in_text == [e.title for e in exercises.exercises(chapter)]


@pytest.mark.parametrize("e", ALL, ids=lambda e: e.id)
def test_the_text_says_minutes_level_and_hints(e):
    before, _ = section(e)
    assert f"*{e.minutes} minutes, {e.level}.*" in before
    hints = re.findall(r":::\{admonition\} Hint (\d)\n:class: dropdown(?: tip)?\n\S", before)
    assert len(hints) >= 2
    assert hints == [str(k + 1) for k in range(len(hints))]


@pytest.mark.parametrize("e", ALL, ids=lambda e: e.id)
def test_the_stub_is_not_solved_and_the_solution_is(e):
    before, after = section(e)
    (stub,) = re.findall(r"```\{code-cell\} ipython3\n(.*?)```", before, re.S)
    asks = re.search(rf'exercises\.check\("{re.escape(e.id)}", (\w+)\)', stub)
    names = {"exercises": exercises}
    exec(compile(stub.rpartition("exercises.check")[0], e.id, "exec"), names)
    outcome = exercises.check(e.id, names[asks[1]])
    assert outcome.status == "not yet"
    (solution,) = re.findall(r"\n```python\n(.*?)```", after, re.S)
    assert f'assert exercises.check("{e.id}", {asks[1]})' in solution
    exec(compile(solution, e.id, "exec"), {})


CASES = [
    pytest.param(e, wrong, words, id=f"{e.id}-{k}") for e in ALL for k, (wrong, words) in enumerate(stored(e.chapter)[e.id])
]


@pytest.mark.parametrize(("e", "wrong", "words"), CASES)
def test_wrong_answers_are_wrong_and_explained(e, wrong, words):
    state = torch.get_rng_state()
    outcome = exercises.check(e.id, wrong)
    assert outcome.status == "wrong"
    assert words in outcome.message
    assert torch.equal(state, torch.get_rng_state())
    assert "wrong" in outcome._repr_html_()


@pytest.mark.parametrize("e", ALL, ids=lambda e: e.id)
def test_two_wrong_answers_at_least_and_other_failures(e):
    assert len(stored(e.chapter)[e.id]) >= 2
    assert exercises.check(e.id, lambda *a: None).status == "wrong"

    def breaks(*a):
        raise KeyError("boom")

    assert "KeyError" in exercises.check(e.id, breaks).message
    for useless in ("text", object(), [], torch.zeros(0), torch.tensor(float("nan"))):
        assert exercises.check(e.id, lambda *a, useless=useless: useless).status == "wrong"


def test_an_argument_that_is_changed_is_named():
    def in_place(net, x, y, eps):
        return x.add_(eps)

    assert "in place" in exercises.check("start_here.l2_step", in_place).message


def test_bad_calls_say_what_to_do():
    with pytest.raises(ValueError, match="there are: start_here"):
        exercises.check("start_here.nosuch", print)
    with pytest.raises(ValueError, match="no exercise"):
        exercises.check("nosuch", print)
    with pytest.raises(TypeError, match="without calling it"):
        exercises.check("start_here.l2_step", 3)
    with pytest.raises(ValueError, match="is taken"):
        exercises.exercise("start_here.l2_step", "Again", minutes=5, level="easy")(print)
