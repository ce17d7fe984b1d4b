"""A reader's journey through the built book with no network: every figure by mouse and by keyboard, the search."""

import re

import nbformat
import pytest
from browser import HTML, ROOT, needs_chromium, opened, page

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
VIEW, STATE = (f"application/vnd.jupyter.widget-{kind}+json" for kind in ("view", "state"))
# what a figure shows, without its controls
DRAWN = """(f) => [f.querySelector('.verdict').textContent, ...[...f.querySelectorAll('canvas')].map((c) => c.toDataURL()),
  ...[...f.querySelectorAll('svg')].map((s) => s.innerHTML),
  ...[...f.querySelectorAll('tbody')].map((t) => t.textContent)].join('|')"""


def shown_in(path):
    """How many live figures the notebook shows, and how many pictures whose controls need a kernel.

    A question that has no figure behind it is none.
    """
    notebook = nbformat.read(path, 4)
    states = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    views = [o.data[VIEW]["model_id"] for c in notebook.cells for o in c.get("outputs", []) if VIEW in o.get("data", {})]
    asks = [view for view in views if states[view]["state"].get("_anywidget_id") == "labbook.predict.Guess"]
    bare = sum(not states[view]["state"].get("inside") for view in asks)
    live = sum(states[view]["model_module"] == "anywidget" for view in views) - bare
    return live, len(views) - live - bare


def changes(figure, act):
    """Acts, and waits until the figure shows something else; its sentence stays one."""
    handle = figure.element_handle()
    before = handle.evaluate(DRAWN)
    act()
    figure.page.wait_for_function(f"([f, before]) => ({DRAWN})(f) !== before", arg=[handle, before])
    said = figure.locator(".verdict").inner_text()
    assert re.search(r"[.?)]$", said.rstrip()), said
    assert not re.search(r"NaN|undefined|Infinity|null", said), said


def drag(slider):
    """The thumb of a slider to three quarters of its way, or, where it stands there already, to one quarter."""
    box, mouse = slider.bounding_box(), slider.page.mouse
    low, high, now = (float(slider.evaluate(f"(e) => e.{name}")) for name in ("min", "max", "value"))
    share, across = (now - low) / (high - low), box["width"] - 16  # the thumb is 16 pixels wide
    y = box["y"] + box["height"] / 2
    mouse.move(box["x"] + 8 + share * across, y)
    mouse.down()
    mouse.move(box["x"] + 8 + (0.25 if share > 0.6 else 0.75) * across, y, steps=4)
    mouse.up()


@needs_chromium
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_of_a_chapter_moves_by_mouse_and_by_keyboard(path):
    live, recorded = shown_in(path)
    with page() as p:
        opened(p, HTML / "notebooks" / f"{path.stem}.html")
        figures = p.locator(".advlab-live:not(.advlab-guess, .advlab-guesses)")
        assert figures.count() == live - p.locator(".advlab-guesses").count() > 0
        for i in range(figures.count()):
            figure = figures.nth(i)
            figure.scroll_into_view_if_needed()
            sliders, answers = figure.locator("input[type=range]"), figure.locator(".answers button")
            boxes = figure.locator("input[type=checkbox]")
            if not sliders.count() and boxes.count():
                changes(figure, boxes.last.click)
                boxes.last.focus()
                changes(figure, lambda: p.keyboard.press("Space"))
                changes(figure, figure.locator("thead button").first.click)
            elif sliders.count():
                changes(figure, lambda: drag(sliders.first))  # noqa: B023
                sliders.first.focus()
                changes(figure, lambda: [p.keyboard.press("ArrowLeft") for _ in range(3)])
            else:
                changes(figure, answers.first.click)
                answers.nth(1).focus()
                changes(figure, lambda: p.keyboard.press("Enter"))
        assert p.locator(".advlab-recorded img").count() == recorded
        assert not p.outside
        assert not p.errors


@needs_chromium
def test_a_page_that_is_not_whole_is_noticed(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<article class="bd-article"><h1>Bad</h1><img src="nosuch.png"><img src="https://example.org/x.png"></article>'
    )
    with page() as p:
        opened(p, bad)
        p.wait_for_function("() => [...document.images].every((e) => e.complete)")
        assert p.outside == ["https://example.org/x.png"]
        assert any("nosuch.png" in error for error in p.errors)


@needs_chromium
def test_a_reader_searches_for_a_spherical_cap_and_arrives():
    with page() as p:
        opened(p, HTML / "book" / "index.html")
        p.keyboard.press("Control+k")
        p.keyboard.type("spherical cap")
        p.keyboard.press("Enter")
        p.locator("#search-results li a[href*='01_adversarial_spheres']").first.click()
        p.wait_for_url("**/01_adversarial_spheres.html*")
        assert "spherical cap" in p.locator("article").inner_text().lower()
        assert not p.errors
