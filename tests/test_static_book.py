"""The built book: its pages exist, nothing leaves the machine, and its live figures work with no kernel."""

import re

import pytest
from browser import HTML, ROOT, all_pages, needs_chromium, opened, page

CHAPTER = HTML / "notebooks" / "00_start_here.html"


def pages():
    return all_pages()


def test_the_pages_exist():
    assert CHAPTER.exists(), "run `make book` first"
    toc = [*re.findall(r"file: (\S+)", (ROOT / "book" / "_toc.yml").read_text()), "book/index"]
    assert len(toc) > 8
    for name in toc:
        assert (HTML / f"{name}.html").exists(), name
    assert len(pages()) >= len(toc)


def test_every_flag_has_a_page_that_the_index_links():
    from advlab.evaluate import FLAGS

    index = (ROOT / "book" / "flags" / "index.md").read_text()
    for flag in FLAGS:
        text = (ROOT / "book" / "flags" / f"{flag}.md").read_text()
        assert text.startswith(f"# Flag: {flag}")
        assert f"({flag}.md)" in index


def test_no_asset_comes_from_outside():
    for path in pages():
        found = re.findall(r'<(?:script|link|img|iframe)[^>]*?(?:src|href)="(?:https?:)?//[^"]+"', path.read_text())
        assert not [tag for tag in found if 'rel="canonical"' not in tag], path


def test_every_internal_link_leads_somewhere():
    ids = {p: set(re.findall(r'\bid="([^"]+)"', p.read_text())) for p in pages()}
    broken = []
    for path in ids:
        for href in re.findall(r'<a[^>]+href="([^"]+)"', path.read_text()):
            target, _, fragment = href.partition("#")
            if re.match(r"[a-z]+:", href) or href == "#":
                continue
            to = (path.parent / target).resolve() if target else path
            if not to.exists() or (fragment and to in ids and fragment not in ids[to]):
                broken.append(f"{path.relative_to(HTML)} -> {href}")
    assert not broken


def test_the_pages_show_the_manifest_as_it_is_now():
    import html

    from labbook import results

    pages = [(HTML / "book" / "reproduction" / f"{chapter}.html").read_text() for chapter in results.CHAPTERS]
    text = html.unescape("".join(pages)).replace("’", "'")  # typographic
    entries = [e for chapter in results.CHAPTERS for e in results.load(chapter, ROOT / "book" / "results").values()]
    assert len({entry.title for entry in entries}) == len(entries)
    for entry in entries:
        row = text[text.index(f"<p>{entry.title}</p>") :].partition("</tr>")[0]
        for part in ("value", "paper", "interval", "n"):
            assert f"<p>{entry.show(part)}</p>" in row, (entry.id, part)
    index = (HTML / "book" / "index.html").read_text()
    assert results.get("start_here.autoattack").show() in html.unescape(index)


def test_search_knows_the_words_of_the_chapter():
    index = (HTML / "searchindex.js").read_text()
    for word in ("hoeffd", "budget", "manifest", "isoperimetr", "cap"):
        assert word in index, word


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_live_figures_move_with_no_kernel_and_no_network(scheme):
    with page(color_scheme=scheme) as p:
        opened(p, CHAPTER)
        figure = p.locator(".advlab-digit-attack").first
        verdict = figure.locator(".verdict")
        verdict.wait_for()
        p.wait_for_function(
            "() => document.querySelector('.advlab-digit-attack .verdict')?.textContent.includes('It is right')"
        )
        drawn = "() => document.querySelectorAll('.advlab-digit-attack canvas[aria-label^=\"the result\"]')[0].toDataURL()"
        before, said = p.evaluate(drawn), verdict.inner_text()
        figure.get_by_role("combobox", name="change").select_option("pgd")
        slider = figure.get_by_label("budget ε")
        slider.focus()
        for _ in range(20):
            p.keyboard.press("ArrowRight")
        p.wait_for_function(
            "() => document.querySelector('.advlab-digit-attack .verdict.broken')?.textContent.includes('0.26')"
        )
        assert p.evaluate(drawn) != before
        assert verdict.inner_text() != said
        assert "ε = 0.26" in verdict.inner_text()

        line = p.locator(".advlab-linear-shift").first
        path = line.locator("path.worst")
        shape = path.get_attribute("d")
        line.get_by_label("budget ε").focus()
        p.keyboard.press("End")
        assert path.get_attribute("d") != shape
        assert "ε = 0.500" in line.locator(".verdict").inner_text()

        p.wait_for_selector("mjx-container svg")
        assert p.locator(".advlab-recorded img").count() == 1
        assert "kernel" in p.locator(".advlab-recorded p").inner_text()
        assert p.locator(".advlab-recorded img").get_attribute("alt")
        assert p.locator(".bd-article img:not([alt])").count() == 0
        assert not p.outside
        assert not p.errors


@needs_chromium
@pytest.mark.parametrize(
    ("words", "chapter"),
    [("hoeffding", "00_start_here"), ("spherical+cap", "01_adversarial_spheres"), ("squeezer", "02_feature_squeezing")],
)
def test_search_finds_a_page(words, chapter):
    with page() as p:
        p.goto((HTML / "search.html").as_uri() + f"?q={words}")
        p.wait_for_selector(f"#search-results li a[href*='{chapter}']")
