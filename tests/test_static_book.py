"""The built book: its pages exist, nothing leaves the machine, and its live figures work with no kernel."""

import os
import re
import subprocess
import sys
import zipfile

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

    for chapter in results.CHAPTERS:
        text = html.unescape((HTML / "book" / "reproduction" / f"{chapter}.html").read_text()).replace("’", "'")  # typographic
        subject, rows = "", {}
        for row in re.findall(r"<tr.*?</tr>", text[text.index("subjects") :].partition("</table>")[0], re.S):
            words = re.search(r"<p>(.*?)</p>", row, re.S)[1]
            if re.search(r'<td class="[^"]*\bsubject\b', row):
                subject = f"{words}: "
            else:
                rows[(subject if "of-subject" in row else "") + words] = row
        entries = results.load(chapter, ROOT / "book" / "results").values()
        assert rows.keys() - {"claim"} == {entry.title for entry in entries}
        for entry in entries:
            for part in ("value", "paper", "interval", "n"):
                assert f"<p>{entry.show(part)}" in rows[entry.title], (entry.id, part)
    index = (HTML / "book" / "index.html").read_text()
    assert results.get("start_here.autoattack").show() in html.unescape(index)


@needs_chromium
def test_the_pages_of_numbers_are_short_and_a_field_leaves_the_rows_with_its_words():
    from labbook import results

    folder = HTML / "book" / "reproduction"
    with page() as p:
        for chapter in results.CHAPTERS:
            opened(p, folder / f"{chapter}.html")
            assert p.evaluate("() => document.body.scrollHeight") < 8000, chapter
            rows = p.locator("table.subjects tbody tr:not(:has(.subject))")
            assert rows.count() == len(results.load(chapter))
        opened(p, folder / "random_mask.html")
        everything = rows.count()
        field = p.get_by_label("Show rows with")
        field.fill("paper's width white")
        assert p.locator("table.subjects tbody tr:visible").count() == 0, "no row speaks of both"
        field.fill("paper’s width knows")
        seen = [text for text in p.locator("table.subjects tbody tr:visible").all_inner_texts() if "\t" in text]
        assert len(seen) == 4, "the white box at the paper's width, a row for each network"
        assert all("that knows the network" in text for text in seen)
        field.fill("")
        assert p.locator("table.subjects tbody tr:not(:has(.subject)):visible").count() == everything
        assert not p.errors


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


@needs_chromium
def test_the_book_works_from_a_zip_that_was_unpacked_anywhere(tmp_path):
    """What ``make stick`` packs, in a folder with a blank and a letter that is not ASCII: figures compute, search finds."""
    packed = tmp_path / "adversarial-lab.zip"
    subprocess.run([sys.executable, "-m", "zipfile", "-c", packed, "html"], cwd=HTML.parent, check=True)
    assert packed.stat().st_size < 60e6
    stick = tmp_path / "Übung 1"
    zipfile.ZipFile(packed).extractall(stick)
    packed.unlink()
    chapter = stick / "html" / CHAPTER.relative_to(HTML)
    with page() as p:
        opened(p, chapter)
        figure = p.locator(".advlab-digit-attack").first
        figure.get_by_role("combobox", name="change").select_option("pgd")
        figure.get_by_label("budget ε").focus()
        for _ in range(20):
            p.keyboard.press("ArrowRight")
        p.wait_for_function("() => document.querySelector('.advlab-digit-attack .verdict.broken')")
        p.goto((stick / "html" / "search.html").as_uri() + "?q=hoeffding")
        p.locator("#search-results li a[href*='00_start_here']").first.click()
        p.wait_for_selector(".bd-article h1")
        assert not p.outside
        assert not p.errors


CHAPTERS = sorted(ROOT.glob("notebooks/0?_*.md"))
PAINTED = (HTML / "book" / "index.html", *(HTML / "notebooks" / f"{md.stem}.html" for md in CHAPTERS))
ANSWER = """async () => {
  const slider = [...document.querySelectorAll('.advlab-live input[type=range]')].find((e) => e.checkVisibility());
  if (!slider) return null;
  slider.scrollIntoView();
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  await frame();
  const start = performance.now();
  slider.value = Number(slider.value) === Number(slider.max) ? slider.min : slider.max;
  slider.dispatchEvent(new Event('input', {bubbles: true}));
  await frame();
  return performance.now() - start;
}"""


@needs_chromium
def test_pages_are_painted_and_figures_answer_soon(capsys):
    """First paint, and from a slider's move to the next frame: printed, of the front page and of the day's chapter."""
    first, *chapters = PAINTED
    day = int(os.environ["ADVLAB_DAY"]) % len(chapters)
    for path in (first, chapters[day]):
        with page() as p:
            opened(p, path)
            paint = p.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
            answer = p.evaluate(ANSWER)
        with capsys.disabled():
            said = "no slider" if answer is None else f"a slider's answer {answer:.0f} ms"
            print(f"\n{path.stem}: first paint {paint:.0f} ms, {said}")
        assert paint < 5000
        assert answer is None or answer < 1000
