"""The slides: each heading, figure, table and exercise of a notebook once, in a deck that keys move, offline."""

import re

import nbformat
import pytest
from browser import ROOT, answered, needs_chromium, page

import slides

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOWN = ("application/vnd.jupyter.widget-view+json", "image/png")


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    slides.assets(folder / "assets")
    for path in NOTEBOOKS:
        (folder / f"{path.stem}.html").write_text(slides.page(nbformat.read(path, 4)))
    return folder


def shows(cell):
    data = [o.get("data", {}) for o in cell.get("outputs", [])]
    return any(any(kind in d for kind in SHOWN) or "<table" in d.get("text/html", "") for d in data)


def prose(notebook):
    """The cells' text as the slides have it, a directive without its blank lines, no hints and solutions."""

    def kept(fence):
        hidden = fence[0].startswith(f"{fence[1]}{{solution}}") or ":class: dropdown" in fence[0]
        return "" if hidden else re.sub(r"\n\s*\n", "\n", fence[0])

    return [re.sub(r"^(:{3,}).*?^\1$", kept, c.source, flags=re.M | re.S) for c in notebook.cells if c.cell_type == "markdown"]


def pieces(notebook):
    """What a notebook consists of, by its text alone: heading, block, display."""
    texts = iter(prose(notebook))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield "display" if shows(cell) else "block"
            continue
        for piece in re.split(r"\n\s*\n", re.sub(r"^(#+ .*)$", r"\n\1\n", next(texts), flags=re.M)):
            if re.match(r"#+ ", piece.strip()):
                yield "heading"
            elif piece.strip().startswith(":::{exercise}"):
                yield from ("heading", "block")
            elif piece.strip():
                yield "block"


def count(notebook):
    """The number of slides: a heading and a display begin one, four blocks fill one."""
    slides, room = 0, 0
    for piece in pieces(notebook):
        if piece == "heading":
            slides, room, empty = slides + 1, 4, True
        elif piece == "display":
            slides, room, empty = slides + (not empty), 0, False
        else:
            slides, room, empty = (slides, room - 1, False) if room else (slides + 1, 3, False)
    return slides


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_deck_has_all_of_its_chapter(path, decks):
    notebook, deck = nbformat.read(path, 4), (decks / f"{path.stem}.html").read_text()
    assert deck.count("<section") == count(notebook) > 20
    text = "\n".join(prose(notebook))
    source = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    code = [c for c in notebook.cells if c.cell_type == "code"]
    begun = re.findall(r"<h[12]>(?:(?!</h[12]>).)*?</h[12]>", deck)
    new = [h for h in begun if "<small>continued" not in h]
    assert len(new) == len(re.findall(r"^#+ ", text, flags=re.M)) + text.count(":::{exercise}") > 8
    data = [o.get("data", {}) for c in code for o in c.outputs]
    assert deck.count(f'<script type="{SHOWN[0]}">') == sum(SHOWN[0] in d for d in data)
    assert deck.count("<figure><img") == sum(SHOWN[1] in d and SHOWN[0] not in d for d in data)
    assert deck.count("<table class=") == sum("<table" in d.get("text/html", "") for d in data)
    assert ":::" not in re.sub(r"<script.*?</script>|<pre.*?</pre>", "", deck, flags=re.S), "no directive is left as text"
    for solution in re.findall(r"^:::\{solution\}.*?^:::$", source, flags=re.M | re.S):
        assert solution.splitlines()[-3] not in deck


def test_a_tagged_cell_is_left_out():
    cells = [
        nbformat.v4.new_markdown_cell("# A\n\nyes"),
        nbformat.v4.new_markdown_cell("## B\n\nno", metadata={"tags": ["skip-slide"]}),
    ]
    deck = slides.page(nbformat.v4.new_notebook(cells=cells))
    assert "<p>yes</p>" in deck
    assert "<p>no</p>" not in deck


@pytest.mark.parametrize(
    ("paragraph", "said"),
    [
        ("One two three four five. Six.", "One two three four five."),
        ("**The question.** May it end here? Not before.", "**The question.** May it end here?"),
        ("It is $a. b$ and `c. d` and five. More.", "It is $a. b$ and `c. d` and five."),
        ("No full stop at all", "No full stop at all"),
    ],
)
def test_the_first_sentence(paragraph, said):
    assert slides.shortened(paragraph) == said


@needs_chromium
def test_keys_move_the_deck_and_nothing_leaves_the_machine(decks):
    with page(color_scheme="dark") as p:
        p.set_viewport_size({"width": 1280, "height": 720})
        p.goto((decks / "00_start_here.html").as_uri())
        p.wait_for_selector("body.made", state="attached", timeout=120_000)
        total = p.locator("section.slide").count()
        for key, at in [("ArrowRight", 2), ("ArrowDown", 3), ("PageDown", 4), ("ArrowLeft", 3), ("Home", 1), ("End", total)]:
            p.keyboard.press(key)
            assert p.locator("#place").inner_text() == f"{at} / {total}"
            assert p.locator("section.slide.now").get_attribute("aria-label").startswith(f"{at} of {total}: ")
            assert p.locator("section.slide:not([inert])").count() == 1
        p.keyboard.press("ArrowRight")
        assert p.locator("#place").inner_text() == f"{total} / {total}", "it ends at the end"
        p.get_by_role("button", name="previous slide").click()
        assert p.locator("#place").inner_text() == f"{total - 1} / {total}"

        p.evaluate("location.hash = '#3'")  # the first live figure
        answered(p)
        figure = p.locator("section.slide.now .advlab-digit-attack")
        figure.get_by_label("budget ε").focus()
        said = figure.locator(".verdict").inner_text()
        for _ in range(3):
            p.keyboard.press("ArrowRight")
        p.wait_for_function("said => document.querySelector('.slide.now .verdict').textContent !== said", arg=said)
        assert p.locator("#place").inner_text() == f"3 / {total}", "a slider keeps its keys"
        p.keyboard.press("Escape")
        p.keyboard.press("ArrowRight")
        assert p.locator("#place").inner_text() == f"4 / {total}"

        assert p.locator("html").get_attribute("data-theme") == "dark"
        p.wait_for_selector("mjx-container svg", state="attached")
        assert p.locator("mjx-merror, [data-mjx-error]").count() == 0
        assert p.locator("img:not([alt])").count() == 0
        p.evaluate("dispatchEvent(new Event('beforeprint'))")
        p.emulate_media(media="print")
        assert p.locator("section.slide").first.evaluate("s => getComputedStyle(s).opacity + s.offsetTop") == "10"
        assert p.locator("section.slide").nth(1).evaluate("s => getComputedStyle(s).opacity") == "1"
        assert not p.outside
        assert not p.errors


@needs_chromium
@pytest.mark.parametrize("name", ["02_feature_squeezing"])
def test_slides_fit_in_legible_letters(name, decks):
    """At the size of a small projector: nothing runs off to the right, formulas are right, letters stay above 13 pixels."""
    with page() as p:
        p.set_viewport_size({"width": 1280, "height": 720})
        p.goto((decks / f"{name}.html").as_uri())
        p.wait_for_selector("body.made", state="attached", timeout=120_000)
        assert p.locator("mjx-merror, [data-mjx-error]").count() == 0
        for _ in range(p.locator("section.slide").count()):
            wide, size = p.evaluate(
                "() => { const s = document.querySelector('.slide.now');"
                "return [s.scrollWidth - s.clientWidth, parseFloat(getComputedStyle(s).fontSize)]; }"
            )
            assert wide <= 0
            assert size > 13
            p.keyboard.press("PageDown")
        assert not p.outside
        assert not p.errors
