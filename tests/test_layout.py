"""What a page weighs, and that nothing on it is cut, split or blank, from a phone to a wide screen."""

import re

import pytest
from browser import HTML, all_pages, needs_chromium, opened, page

CHAPTERS = sorted((HTML / "notebooks").glob("*.html"))
INDEX = HTML / "book" / "index.html"
#: bytes before compression; MathJax is half of a chapter, and a network of digits adds 700,000
LIGHT, CHAPTER = 1_200_000, 3_000_000
WIDTHS = (1920, 1400, 1280, 390)  #: of a screen, in pixels
CUT = """() => {
  const found = [], seen = (e) => e.checkVisibility() && e.getBoundingClientRect().width > 0;
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth + 1) found.push(`the page is ${root.scrollWidth} wide`);
  for (const e of document.querySelectorAll('.cell_output pre'))
    if (seen(e) && e.scrollWidth > e.clientWidth + 1) found.push('cut: ' + e.innerText.slice(0, 60));
  for (const table of document.querySelectorAll('.bd-article table')) {
    if (!seen(table)) continue;
    let place = table.parentElement;
    const scrolls = (e) => e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(e).overflowX);
    while (place && !scrolls(place)) place = place.parentElement;
    if (place?.closest('.bd-article') && !place.closest('.advlab-scrolls'))
      found.push('scrolls and does not say so: ' + table.innerText.slice(0, 60));
    if (table.closest('.advlab-scrolls .advlab-scrolls')) found.push('says twice that it scrolls');
    for (const cell of table.querySelectorAll('td')) {
      const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
      while (texts.nextNode()) for (const number of texts.currentNode.data.matchAll(/\\d[\\d.,]*/g)) {
        const range = document.createRange();
        range.setStart(texts.currentNode, number.index);
        range.setEnd(texts.currentNode, number.index + number[0].length);
        if (new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size > 1) found.push('split: ' + number[0]);
      }
    }
  }
  return found;
}"""
BLANK = """() => {
  const paths = {};
  for (const e of document.querySelectorAll('path[id]')) paths[e.id] = e.getAttribute('d');
  const drawn = (e) => e.tagName === 'path' ? e.getAttribute('d') : paths[e.getAttribute('xlink:href').slice(1)];
  return [...document.querySelectorAll('mjx-container [data-c]')].filter((e) => !drawn(e)).map((e) => e.dataset.c);
}"""
SPACES = {"20", "A0", "2061", "2062", "2063", "2064"}  #: letters that have no ink


def weight(path):
    """Bytes that a page loads: itself, and each script, style and picture that it names."""
    text = path.read_text()
    named = set(re.findall(r'<(?:script|link|img)[^>]*?(?:src|href)="([^"?#:]+\.(?:js|css|svg|png))[^"]*"', text))
    return len(text.encode()) + sum((path.parent / name).resolve().stat().st_size for name in named)


def test_pages_are_light():
    found = {path.stem: weight(path) for path in (INDEX, *CHAPTERS)}
    print({name: f"{size / 1e6:.2f} MB" for name, size in found.items()})
    assert found["index"] < LIGHT
    assert max(found.values()) < CHAPTER


def test_the_search_alone_loads_its_index_and_no_page_loads_what_it_does_not_use():
    for path in all_pages():
        text = path.read_text()
        assert ("searchindex.js" in text) == (path.name == "search.html"), path
        assert "fontawesome.js" not in text
        assert ("tex-svg.js" in text) == ('class="math' in text), path


def blank(p):
    """What the reader cannot see: letters of formulas, and icons, that leave no ink."""
    icons = p.evaluate("""() => [...document.querySelectorAll('[class*="fa-"]')].filter((e) => e.checkVisibility())
      .map((e) => [e.className, getComputedStyle(e, '::before').maskImage])""")
    return sorted(set(p.evaluate(BLANK)) - SPACES) + [name for name, mask in icons if "svg" not in mask]


@needs_chromium
@pytest.mark.parametrize("part", range(4))
def test_every_page_is_whole(part):
    """No request leaves the machine or fails, no error is logged; formulas are set, and references have found what they name.

    Nothing is cut, split or blank at any width: each page is opened once, and then made narrower.
    """
    with page(viewport={"width": WIDTHS[0], "height": 1000}) as p:
        for path in all_pages()[part::4]:
            p.set_viewport_size({"width": WIDTHS[0], "height": 1000})
            opened(p, path)
            assert not p.outside, path
            assert not p.errors, path
            assert p.locator("mjx-merror").count() == 0, path
            text = p.locator("article").inner_text() if p.locator("article").count() else ""
            assert not re.search(r"\{(?:prf:ref|eq|cite|numref|ref|doc|result)\}`|\?\?\?|\[\?\]", text), path
            assert blank(p) == [], path
            for width in WIDTHS:
                p.set_viewport_size({"width": width, "height": 1000})
                p.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
                assert p.evaluate(CUT) == [], (path, width)


@needs_chromium
def test_what_is_cut_or_split_would_be_found(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("""<article class="bd-article"><h1>Bad</h1>
        <div class="cell_output"><pre style="width: 3em; overflow: hidden">longer than it is wide</pre></div>
        <table style="width: 3em; table-layout: fixed"><tr><td style="overflow-wrap: anywhere">10,000,000</td></tr></table>
        <div style="width: 5em; overflow: auto"><table><tr><td>oneverylongwordinatable</td></tr></table></div></article>""")
    with page() as p:
        opened(p, bad)
        assert [words.partition(":")[0] for words in p.evaluate(CUT)] == ["cut", "split", "scrolls and does not say so"]
