"""A guess before its answer: hidden until the reader commits, then beside the guess, and kept; by mouse, keys and on paper."""

import json
import math
import re

import pytest
from browser import HTML, ROOT, needs_chromium, opened, page, page_of
from hypothesis import given
from hypothesis import strategies as st
from node import javascript, needs_node

from labbook import live
from labbook.live import figure
from labbook.predict import Choice, Guess, Guesses, Number, Range, Sketch

HEIGHTS = [0.97, 0.71, 0.33, 0.07]
SOURCE = figure.module(*("plot.js", "stability_parts.js", "guess_store.js", "guess.js"))


def asked():
    """A guess of each kind -> what its answer looks like on the page."""
    return {
        "number": (Guess("start_here.t_number", "How near?", Number(0.2371, 0.001, 10, log=True, digits=4)), "0.2371"),
        "range": (Guess("start_here.t_range", "From where to where?", Range((1.337, 1.493), 0, 2, digits=4)), "1.337"),
        "choice": (Guess("start_here.t_choice", "Which way?", Choice("down", ("up", "down", "neither"))), "the answer"),
        "sketch": (Guess("start_here.t_sketch", "Draw it.", Sketch([0, 1, 2, 3], HEIGHTS, 0, 1, "step", "share")), "0.97"),
    }


@pytest.fixture(scope="module")
def guesses(tmp_path_factory):
    figures = {kind: guess for kind, (guess, _) in asked().items()}
    figures["two"] = Guess(
        "start_here.t_two",
        "Which two?",
        {"at random": Number(0.2, 0, 0.5), "chosen": Number(0.06, 0, 0.5)},
        live.LinearShift(log10_d=2.0),
    )
    figures["all"] = Guesses("start_here")
    return page_of(figures, tmp_path_factory.mktemp("guesses"))


ORDER = ["number", "range", "choice", "sketch", "two"]


def part(p, kind):
    f = p.locator(".advlab-guess").nth(ORDER.index(kind))
    f.locator(".verdict:not(:empty)").wait_for()
    return f


def seen(f):
    """All that a reader can see or be told: the text that is drawn, labels, texts of values."""
    told = f.evaluate(
        "(e, names) => [e, ...e.querySelectorAll('*')].filter(n => n.checkVisibility())"
        ".flatMap(n => names.map(a => n.getAttribute(a)))",
        ["aria-label", "aria-valuetext", "title", "value", "placeholder"],
    )
    return " ".join([f.inner_text(), *filter(None, told)])


def commit(p, f, kind):
    """Make a guess with the keyboard alone."""
    if kind == "number":
        f.get_by_label("your guess").focus()
        p.keyboard.type("0.5")
    elif kind == "range":
        f.get_by_label("from", exact=True).focus()
        p.keyboard.type("1")
        p.keyboard.press("Tab")
        p.keyboard.type("1.4")
    elif kind == "choice":
        f.get_by_label("up").focus()
        p.keyboard.press("Space")
    else:
        f.get_by_label("share at step 0").focus()
        p.keyboard.press("End")
        for _ in range(3):
            p.keyboard.press("Tab")
        p.keyboard.press("Home")
        f.get_by_role("button", name="this is my guess").focus()
    p.keyboard.press("Enter")
    f.locator(".answers > figure").first.wait_for()


@needs_chromium
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("number", "You guessed 0.5; the answer is 0.2371, 2.1 times less."),
        ("range", "You guessed 1 to 1.4; the answer is 1.337 to 1.493, partly in your range."),
        ("choice", "You guessed “up”; the answer is “down”."),
        ("sketch", "your line is off by"),
    ],
)
def test_an_answer_is_hidden_until_the_reader_commits_and_then_stays(guesses, kind, words):
    guess, answer = asked()[kind]
    with page() as p:
        p.goto(guesses)
        f = part(p, kind)
        before = seen(f)
        assert guess.question in before
        assert answer not in before
        assert f.locator(".answers").inner_html() == ""
        f.get_by_role("button", name="this is my guess").click()
        assert "show me" in f.locator(".verdict").inner_text(), "nothing was guessed yet"
        assert answer not in seen(f)
        commit(p, f, kind)
        assert words in f.locator(".verdict").inner_text().replace("\u00a0", " ")
        assert f.locator(".verdict").get_attribute("role") == "status"
        assert answer in seen(f)
        assert "our guess" in seen(f) or "our line" in seen(f)
        assert f.locator("form").is_hidden()
        assert p.evaluate("document.activeElement.className") == "answers", "the keyboard stays in the figure"
        after = f.locator(".answers").inner_html()
        p.reload()
        f = part(p, kind)
        f.locator(".answers > figure").first.wait_for()
        assert f.locator(".answers").inner_html() == after, "kept by the browser"
        assert not p.errors
        assert not p.outside


@needs_chromium
def test_a_number_off_the_scale_is_explained_and_show_me_shows(guesses):
    with page() as p:
        p.goto(guesses)
        f = part(p, "number")
        f.get_by_label("your guess").fill("11")
        f.get_by_role("button", name="this is my guess").click()
        assert "is a number from 0.001 to 10" in f.locator(".verdict").inner_text()
        f.get_by_role("button", name="show me").click()
        assert f.locator(".verdict").inner_text() == "The answer is 0.2371."
        assert "your guess" not in f.locator(".answers").inner_text()


@needs_chromium
def test_a_line_is_drawn_with_the_mouse_and_what_was_left_out_is_straight(guesses):
    with page() as p:
        p.goto(guesses)
        f = part(p, "sketch")
        box = f.locator("svg.plot").bounding_box()
        for x, y in ((50, 30), (box["width"] - 20, 180)):
            p.mouse.click(box["x"] + x, box["y"] + y)
        f.get_by_role("button", name="this is my guess").click()
        kept = json.loads(p.evaluate("localStorage.getItem('advlab.guess.start_here.t_sketch')"))["guess"][0]
        assert kept[0] > 0.8 > 0.2 > kept[3]
        assert kept[1] - kept[0] == pytest.approx(kept[2] - kept[1])


@needs_chromium
def test_a_figure_waits_behind_the_question_and_moves_once_it_is_open(guesses):
    with page() as p:
        p.goto(guesses)
        f = part(p, "two")
        assert f.locator(".advlab-linear-shift").count() == 0
        assert "opens when you have guessed" in f.locator(".verdict").inner_text()
        f.get_by_label("at random").fill("0.1")
        f.get_by_label("chosen").fill("0.1")
        p.keyboard.press("Enter")
        inner = f.locator(".advlab-linear-shift")
        inner.get_by_label("inputs d").focus()
        p.keyboard.press("ArrowRight")
        assert "inputs" in inner.locator(".verdict").inner_text()
        assert f.locator(".verdict").first.inner_text().startswith("At random: you guessed 0.1; the answer is 0.2, 0.1 more.")
        table = p.locator(".advlab-guesses")
        assert "2 guesses, 1 of them right or within a tenth of the scale" in table.locator(".verdict").inner_text()
        assert table.get_by_role("cell").first.inner_text() == "Which two? (at random)"
        table.get_by_role("button", name="forget").click()
        assert f.locator(".advlab-linear-shift").count() == 0
        assert "No guess of this chapter" in table.locator(".verdict").inner_text()
        assert p.evaluate("localStorage.length") == 0
        assert not p.errors


@needs_chromium
def test_a_page_whose_browser_keeps_nothing_goes_on(guesses):
    refused = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('refused'); } })"
    with page() as p:
        p.add_init_script(refused)
        p.goto(guesses)
        commit(p, part(p, "choice"), "choice")
        assert "1 guess, 0 of them" in p.locator(".advlab-guesses .verdict").inner_text()
        assert not p.errors


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_on_paper_the_answer_stands_under_the_question(guesses, width):
    with page() as p:
        p.set_viewport_size({"width": width, "height": 900})
        p.goto(guesses)
        for kind, (guess, _) in asked().items():
            f = part(p, kind)
            assert f.evaluate("e => e.scrollWidth <= e.clientWidth"), kind
            assert not f.locator(".printed").is_visible()
            p.emulate_media(media="print")
            assert f.locator("form").is_hidden()
            question, answer = (f.locator(name).bounding_box() for name in (".question", ".printed"))
            assert answer["y"] > question["y"]
            assert f.locator(".printed").inner_text() == guess.printed
            p.emulate_media(media="screen")


def test_the_words_of_a_guess_hide_the_answer_and_its_print_has_it():
    for guess, answer in asked().values():
        assert answer not in guess.alt
        assert guess.alt == guess.describe()
        said = guess.parts[0]["truth"] if guess.parts[0]["kind"] == "choice" else answer
        assert str(said) in repr(guess)
        drawn = [t.get_text().replace("\n", " ") for t in (guess.still()._suptitle, guess.still()._supxlabel)]
        assert drawn == [guess.question, guess.printed]
    held = Guess("start_here.t_held", "How far?", Number(1, 0, 2), live.LinearShift())
    assert len(held.still().axes) == len(live.LinearShift().still().axes)


@needs_node
@pytest.mark.parametrize("log", [False, True])
def test_nearness_is_the_distance_on_the_scale(tmp_path, log):
    a = {"kind": "number", "label": "", "truth": 10.0, "low": 1.0, "high": 1000.0, "log": log, "unit": "", "digits": 2}
    tried = [1.0, 7.0, 10.0, 400.0, 1000.0]
    found = javascript(tmp_path, SOURCE, "a.tried.map((v) => figure.KINDS.number.near(a.a, v))", {"a": a, "tried": tried})
    scale = (lambda v: math.log10(v) / 3) if log else (lambda v: (v - 1) / 999)
    assert found == pytest.approx([1 - abs(scale(v) - scale(10.0)) for v in tried])


@needs_node
def test_what_was_not_drawn_is_interpolated(tmp_path):
    import numpy as np

    x, y = [0, 1, 3, 4, 9], [None, 2.0, None, 8.0, None]
    found = javascript(tmp_path, SOURCE, "figure.filled(a.x, a.y)", {"x": x, "y": y})
    assert found == pytest.approx(np.interp(x, [1, 4], [2.0, 8.0]).tolist())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Number(2, 0, 1), "widen it"),
        (lambda: Number(math.nan, 0, 1), "widen it"),
        (lambda: Number(0.5, 0, 1, log=True), "above 0"),
        (lambda: Number(0.5, 1, 0), "from low up to high"),
        (lambda: Range((0.5, 0.2), 0, 1), "the smaller first"),
        (lambda: Choice("a", ("b", "c")), "the truth among them"),
        (lambda: Choice("a", ("a",)), "two or more"),
        (lambda: Sketch([0, 1], [0.5], 0, 1, "x", "y"), "a height for each"),
        (lambda: Sketch([1, 0], [0.5, 0.5], 0, 1, "x", "y"), "one after another"),
        (lambda: Guess("nowhere.a", "?", Number(0.5, 0, 1)), "CHAPTER.NAME"),
        (lambda: Guess("start_here", "?", Number(0.5, 0, 1)), "CHAPTER.NAME"),
        (lambda: Guess("start_here.a", " ", Number(0.5, 0, 1)), "needs a question"),
        (lambda: Guess("start_here.a", "?", {}), "and an answer"),
        (lambda: Guesses("nowhere"), "there are: start_here"),
    ],
)
def test_bad_questions_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), at=st.floats(-0.5, 1.5))
def test_a_scale_holds_its_truth(low, width, at):
    truth, high = low + at * width, low + width
    if low <= truth <= high:
        assert Number(truth, low, high).truth == truth
    else:
        with pytest.raises(ValueError, match="widen it"):
            Number(truth, low, high)


# ---------------------------------------------------------------------------------------------- in the chapters

TWINS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))  # an appendix asks for no guess
DRAWS = re.compile(r"\blive\.[A-Z]\w+\(")


def code_after(text):
    """The cells that stand directly under a paragraph that asks for a prediction."""
    found = []
    for paragraph in re.finditer(r"^.*\*\*(?:Before you|Predict).*$", text, re.M):
        after = re.match(r"\n\n```\{code-cell\} ipython3\n(.*?)^```", text[paragraph.end() :], re.M | re.S)
        found += [after[1]] if after else []
    return found


def test_every_figure_that_a_prediction_comes_before_waits_for_it():
    drawn = [code for twin in TWINS for code in code_after(twin.read_text()) if DRAWS.search(code)]
    assert len(drawn) == 12
    assert not [code for code in drawn if "Guess(\n" not in code]


def test_answers_are_computed_and_names_are_their_own():
    """No answer is a number or a word that was typed, and each guess is kept under its chapter's name and no other's."""
    names = []
    for twin in TWINS:
        text = twin.read_text()
        chapter = twin.stem[3:]
        names += (own := re.findall(r"Guess\(\n\s+\"([\w.]+)\"", text))
        assert own
        assert {name.partition(".")[0] for name in own} == {chapter}
        assert text.count(f'Guesses("{chapter}")') == 1
        assert not re.findall(r"\b(?:Number|Range|Choice|Sketch)\(\s*(?:-?[\d.]+|\"[^\"]*\"|'[^']*')\s*,", text)
    assert len(names) == len(set(names)) == 12


@needs_chromium
@pytest.mark.parametrize("twin", TWINS, ids=lambda path: path.stem)
def test_no_page_prints_an_answer_before_the_guess(twin):
    with page() as p:
        opened(p, HTML / "notebooks" / f"{twin.stem}.html", guessed=False)
        guesses = p.locator(".advlab-guess").all()
        assert len(guesses) == len(re.findall(r"\bGuess\(\n", twin.read_text()))
        for guess in guesses:
            assert guess.locator(".advlab-live").count() == 0, "the figure waits"
            assert guess.locator(".answers").inner_html() == ""
            told = guess.locator(".printed").text_content().removeprefix("Answer: ").rstrip(".")
            assert told
            shown, options = seen(guess), [label.inner_text().strip() for label in guess.locator("label").all()]
            if told in options:  # a choice shows its answer, no more often than the others
                assert len(options) > 1
                assert {shown.count(option) for option in options} == {shown.count(told)}
            else:
                assert told not in shown
            assert guess.locator(".verdict").inner_text().endswith("when you have guessed.")
