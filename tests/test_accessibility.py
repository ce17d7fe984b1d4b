"""The book for readers who do not see it, or not all colours, or want no motion."""

import importlib.resources
import itertools
import os
import re

import nbformat
import numpy as np
import pytest
from browser import HTML, ROOT, all_pages, answered, needs_chromium, opened, page

from labbook.live import gallery

AXE = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
VIEW = "application/vnd.jupyter.widget-view+json"

# Opens what is folded; then all rules of axe but contrast on the whole page, and contrast, its slow rule, once for each look:
# the same colours and size of letters on the same grounds.
ASK = """async () => {
  document.querySelectorAll('details').forEach((e) => { e.open = true; });
  const folded = document.querySelectorAll('.toggle-hidden .toggle-button');
  folded.forEach((e) => e.click());
  if (folded.length) await new Promise((done) => setTimeout(done, 500)); // the theme waits before it looks for what scrolls
  const once = (a) => a.effect?.getComputedTiming().iterations === 1;
  await Promise.all(document.getAnimations().filter(once).map((a) => a.finished));
  const looks = new Map();
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim()) || !e.checkVisibility()) continue;
    const own = getComputedStyle(e), look = [own.color, own.fontSize, own.fontWeight];
    for (let a = e; a; a = a.parentElement) {
      const s = getComputedStyle(a), ground = [s.backgroundColor, s.backgroundImage, s.opacity];
      look.push(...ground.filter((v) => !['rgba(0, 0, 0, 0)', 'none', '1'].includes(v)));
    }
    if (!looks.has(look.join())) looks.set(look.join(), e);
  }
  const brief = { resultTypes: ['violations'] };
  const all = await axe.run(document, { ...brief, rules: { 'color-contrast': { enabled: false } } });
  const contrast = await axe.run({ include: [...looks.values()] }, { ...brief, runOnly: ['color-contrast'] });
  const each = (r) => r.nodes.map((n) => ({ id: r.id, impact: r.impact, at: n.target.join(' '), why: n.failureSummary }));
  const found = [...all.violations, ...contrast.violations].flatMap(each);
  return { passes: all.passes.length, looks: contrast.passes.length && looks.size, found };
}"""


def axe(p):
    """What axe finds on the page ``p``: numbers of passed rules and of looks that were asked for contrast, violations."""
    p.evaluate(AXE)
    return p.evaluate(ASK)


def of_today(scheme):
    """The pages that are asked today: each look of a page comes round in three days, the front page's and chapters' in two."""
    turn = int(os.environ["ADVLAB_DAY"]) + (scheme == "dark")
    for i, path in enumerate(all_pages()):
        often = path.parent.name == "notebooks" or path.name == "index.html"
        if (turn + i) % (2 if often else 3) == 0:
            yield path


def test_every_look_of_a_page_comes_round(monkeypatch):
    for scheme in ("light", "dark"):
        seen = set()
        for day in range(6):
            monkeypatch.setenv("ADVLAB_DAY", str(day))
            seen |= set(of_today(scheme))
        assert seen == set(all_pages())


@needs_chromium
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)], ids=["light, desktop", "dark, phone"])
def test_axe_finds_nothing_serious_on_the_pages_of_today(scheme, width):
    """With ``--slow``, on every page: the next test."""
    serious_on(of_today(scheme), scheme, width)


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)], ids=["light, desktop", "dark, phone"])
def test_axe_finds_nothing_serious_on_any_page(scheme, width):
    serious_on(all_pages(), scheme, width)


def serious_on(pages, scheme, width):
    """Fails where axe finds something serious on one of the pages."""
    grave = []
    with page(color_scheme=scheme, viewport={"width": width, "height": 900}) as p:
        for path in pages:
            opened(p, path, guessed=False)
            for state in ("before a guess", "after")[: 1 + bool(p.locator(".advlab-guess").count())]:
                if state == "after":
                    answered(p)
                assert p.evaluate("() => document.documentElement.scrollWidth") <= width, f"{path} is wider than the screen"
                answer = axe(p)
                assert answer["passes"] >= 30, path
                assert answer["looks"] >= 5, path
                serious = [v for v in answer["found"] if v["impact"] in ("serious", "critical")]
                grave += [(path.relative_to(HTML).as_posix(), state, v) for v in serious]
    assert not grave


@needs_chromium
def test_axe_finds_what_is_spoiled_on_purpose():
    with page() as p:
        opened(p, HTML / "notebooks" / "00_start_here.html")
        assert not [v for v in axe(p)["found"] if v["impact"] in ("serious", "critical")]
        p.evaluate("() => document.querySelector('.cell_output img').removeAttribute('alt')")
        p.evaluate("() => { document.querySelector('.bd-article p').style.color = '#bbb'; }")
        p.evaluate("() => { document.querySelector('.advlab-digit-attack input').removeAttribute('aria-label'); }")
        p.evaluate(
            "() => { const f = document.querySelector('.advlab-digit-attack');"
            " f.querySelector('label').replaceWith(f.querySelector('select')); }"
        )
        found = {v["id"] for v in axe(p)["found"] if v["impact"] in ("serious", "critical")}
        assert {"image-alt", "color-contrast", "select-name"} <= found


FIGURES = ".advlab-live:not(.advlab-guess, .advlab-guesses)"  # what they ask and say is held to their own tests


def is_a_sentence(text):
    """Begins as one, ends as one, is more than a label, and holds a number."""
    return bool(re.match(r"[A-Z0-9]", text) and re.search(r"[.?]$", text) and len(text.split()) >= 6 and re.search(r"\d", text))


def test_what_a_sentence_is():
    assert is_a_sentence("The network reads it as a 7 with probability 0.93.")
    for text in (
        "",
        "figure",
        "The network reads it as a digit.",
        "the network reads it as a 7 with ease.",
        "Accuracy at 0.1, 0.2, 0.3 and 0.4",
    ):
        assert not is_a_sentence(text), text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_picture_of_a_notebook_is_described_with_its_numbers(path):
    outputs = [o for c in nbformat.read(path, 4).cells for o in c.get("outputs", []) if "data" in o]
    shown = [o for o in outputs if any(kind.startswith("image/") for kind in o.data)]
    assert len(shown) >= 2
    for output in shown:
        told = re.sub(r"^\w+: ", "", output.data["text/plain"]) if VIEW in output.data else output.metadata["image/png"]["alt"]
        assert is_a_sentence(told) or "? Answer: " in told or ". Answer: " in told or told.startswith("Your guesses"), told


@needs_chromium
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_picture_of_a_chapter_has_a_name(path):
    """Images, and the figures that scripts draw: a sentence for the figure, a name for each drawing in it."""
    with page() as p:
        opened(p, HTML / "notebooks" / f"{path.stem}.html")
        images = p.eval_on_selector_all(".bd-article img", "all => all.map((e) => e.getAttribute('alt') ?? '')")
        figures = p.eval_on_selector_all(FIGURES, "all => all.map((e) => e.getAttribute('aria-label') ?? '')")
        assert images + figures
        assert not [text for text in images + figures if not is_a_sentence(text)]
        drawings = p.eval_on_selector_all(
            ".bd-article :is(canvas, .advlab-live svg:not(svg *, [aria-hidden=true]))",  # what is hidden is told in words
            "all => all.map((e) => [e.getAttribute('role'), e.getAttribute('aria-label') ?? ''])",
        )
        assert all(role == "img" and len(name) > 5 for role, name in drawings), drawings


@needs_chromium
def test_the_label_of_a_figure_follows_it():
    with page() as p:
        opened(p, HTML / "notebooks" / "00_start_here.html")
        figure = p.locator(".advlab-linear-shift")
        figure.get_by_label("budget ε").focus()
        p.keyboard.press("End")
        assert figure.get_attribute("aria-label") == figure.locator(".verdict").inner_text()
        assert "ε = 0.500" in figure.get_attribute("aria-label")


STEP = """() => {
  const e = document.activeElement, s = getComputedStyle(e), box = e.getBoundingClientRect();
  const later = window.before.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING;
  window.before = e;
  const ring = (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1) || s.boxShadow !== 'none';
  return {
    name: e.tagName, ring, later: !!later, size: Math.min(box.width, box.height),
    inside: !!e.closest('.advlab-linear-shift'),
  };
}"""


@needs_chromium
def test_the_keyboard_walks_through_a_chapter_in_order_and_is_seen():
    """From the first control of the first figure to the end of the second: the order of the page, a visible ring each time."""
    with page() as p:
        opened(p, HTML / "notebooks" / "00_start_here.html")
        p.evaluate("() => document.querySelector('.advlab-digit-attack :is(select, input)').focus()")
        p.evaluate("() => { window.before = document.activeElement; }")
        steps = []
        for _ in range(200):
            p.keyboard.press("Tab")
            steps.append(p.evaluate(STEP))
            assert steps[-1]["later"], steps[-1]
            assert steps[-1]["size"] > 0, steps[-1]
            assert steps[-1]["ring"], steps[-1]
            if [step["inside"] for step in steps[-2:]] == [True, False]:
                break
        else:
            raise AssertionError("the second figure was not reached")
        assert sum(step["inside"] for step in steps) >= 2, "its two sliders, and what else it has"


@needs_chromium
def test_nothing_moves_by_itself_where_the_reader_wants_no_motion():
    now = """() => [...document.querySelectorAll('.advlab-live')].map((e) => [
      e.textContent, ...[...e.querySelectorAll('canvas')].map((c) => c.toDataURL()),
      ...[...e.querySelectorAll('svg')].map((s) => s.innerHTML)])"""
    with page(reduced_motion="reduce") as p:
        for path in NOTEBOOKS:
            opened(p, HTML / "notebooks" / f"{path.stem}.html")
            before = p.evaluate(now)
            p.wait_for_timeout(700)
            assert p.evaluate(now) == before, path
            assert p.evaluate("() => document.getAnimations().filter((a) => a.playState === 'running').length") == 0
            assert p.evaluate("() => getComputedStyle(document.documentElement).scrollBehavior") == "auto"
        opened(p, HTML / "notebooks" / "01_adversarial_spheres.html")
        figure = p.locator(".advlab-splitting")
        figure.get_by_role("button", name="next level").click()
        said = figure.locator(".verdict").inner_text()
        p.wait_for_timeout(1500)
        assert figure.locator(".verdict").inner_text() == said, "one press, one step"


# Machado, Oliveira and Fernandes (2009), table 1, severity 1: what linear RGB is to readers who lack one kind of cones
MACHADO = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "all cones": np.eye(3),
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])


def linear(colour):
    """#rrggbb -> linear RGB (3,)."""
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """WCAG's ratio of two colours, from 1 to 21."""
    dark, light = sorted(float(XYZ[1] @ linear(c)) for c in (a, b))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb):
    """Linear RGB (3,) -> CIE L*a*b* under D65."""
    v = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(1)
    f = np.where(v > (6 / 29) ** 3, np.cbrt(v), v / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(a, b):
    """CIEDE2000 of two L*a*b* colours (Sharma, Wu and Dalal 2005): 1 is just seen side by side, 10 at a glance."""
    chroma = (np.hypot(*a[1:]) + np.hypot(*b[1:])) / 2
    stretch = 1.5 - 0.5 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    (c1, h1), (c2, h2) = [(np.hypot(stretch * v[1], v[2]), np.degrees(np.arctan2(v[2], stretch * v[1])) % 360) for v in (a, b)]
    light, c, turn = (a[0] + b[0]) / 2, (c1 + c2) / 2, (h2 - h1 + 180) % 360 - 180
    h = (h1 + turn / 2) % 360
    t = 1 + sum(k * np.cos(np.radians(n * h + o)) for k, n, o in ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.2, 4, -63)))
    parts = [
        (b[0] - a[0]) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)),
        (c2 - c1) / (1 + 0.045 * c),
        2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * c * t),
    ]
    twist = -2 * np.sqrt(c**7 / (c**7 + 25.0**7)) * np.sin(np.radians(60 * np.exp(-(((h - 275) / 25) ** 2))))
    return float(np.sqrt(sum(v**2 for v in parts) + twist * parts[1] * parts[2]))


def nearest(colours):
    """The least difference of any two, with the eye that sees it least."""
    pairs = itertools.combinations(colours, 2)
    return min(
        (difference(*(lab(np.array(m) @ linear(c)) for c in pair)), eye, pair) for pair in pairs for eye, m in MACHADO.items()
    )


CSS = (ROOT / "book" / "labbook" / "live" / "live.css").read_text()
LIGHT, DARK = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r"\{([^}]*--blue:[^}]*)\}", CSS))
# the page, the figures' panel in the book, and the panel in JupyterLab; the ink there
GROUNDS = {"light": (["#ffffff", "#f3f4f5", "#eeeeee"], "#222832"), "dark": (["#121212", "#29313d", "#424242"], "#ced6dd")}
HUES = ("blue", "orange", "green", "grey")


def test_the_measures_of_colour_are_right():
    published = [  # Sharma, Wu and Dalal (2005), table 1
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ]
    for a, b, value in published:
        assert difference(np.array(a), np.array(b)) == pytest.approx(value, abs=1e-4)
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert nearest(["#1f78c4", "#2f8f6b"])[:2] == (pytest.approx(8.3, abs=0.1), "tritanopia"), (
        "a blue and a green that look alike"
    )
    assert nearest(["#ff0000", "#a08000"])[0] < 10, "red and olive"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_of_the_figures_stay_apart_and_stand_out(scheme):
    """For every eye; lines and areas at 3 : 1 and letters at 4.5 : 1, as WCAG 2.2 asks (1.4.11, 1.4.3)."""
    palette, (grounds, ink) = {"light": LIGHT, "dark": {**LIGHT, **DARK}}[scheme], GROUNDS[scheme]
    hues = [palette[name] for name in HUES]
    assert nearest([*hues, ink])[0] >= 10
    for ground in grounds:
        assert min(contrast(hue, ground) for hue in hues) >= 3, ground
        assert contrast(ink, ground) >= 4.5
    on_orange = re.search(r"\.inside\.orange \{ fill: (#\w{6})", CSS)[1]
    assert min(contrast(palette["on-hue"], palette[name]) for name in ("blue", "green")) >= 4.5
    assert contrast(on_orange, palette["orange"]) >= 4.5


def test_the_colours_of_the_stills_are_those_of_the_page():
    stills = [gallery.BLUE, gallery.ORANGE, gallery.GREEN, gallery.GREY]
    assert stills[:3] == [LIGHT[name] for name in HUES[:3]]
    assert nearest([*stills, "#000000"])[0] >= 10
    assert min(contrast(hue, "#ffffff") for hue in stills) >= 3


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_figures_stand_on_the_grounds_that_are_measured(scheme):
    with page(color_scheme=scheme) as p:
        opened(p, HTML / "notebooks" / "00_start_here.html")
        style = p.eval_on_selector(
            ".advlab-live", "(e) => { const s = getComputedStyle(e); return [s.backgroundColor, s.color]; }"
        )
        ground, ink = ("#" + "".join(f"{int(v):02x}" for v in re.findall(r"\d+", colour)[:3]) for colour in style)
        assert ground in GROUNDS[scheme][0]
        assert ink == GROUNDS[scheme][1]
