"""Pictures of the built book for people to look at:  python book/pictures.py [PAGE ...]

Each page, or those named (notebooks/00_start_here, book/index), in light and dark, at the width of a phone and of a desk, into
build/pictures/, with a contact sheet, index.html. Needs Chromium; CHROMIUM=PATH says where it is.
"""

from __future__ import annotations

import html
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
BUILT = ROOT / "build" / "_build" / "html"
KINDS: list[tuple[Literal["light", "dark"], int]] = [("light", 390), ("dark", 390), ("light", 1280), ("dark", 1280)]
READY = """() => document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]').length
  === document.querySelectorAll('.advlab-live, .advlab-recorded').length"""


def pages(built: Path) -> list[str]:
    """The names of the pages under ``built``, as their addresses say them, without .html."""
    found = (p.relative_to(built) for p in built.rglob("*.html"))
    return sorted(p.with_suffix("").as_posix() for p in found if "_static" not in p.parts)


def sheet(names: Iterable[str]) -> str:
    """The contact sheet: a row for each page, a picture for each kind."""

    def cell(name: str, scheme: str, width: int) -> str:
        file = f"{name.replace('/', '.')}.{scheme}.{width}.png"
        return f'<td><a href="{file}"><img loading="lazy" src="{file}" alt="{name}, {scheme}, {width} pixels wide"></a>'

    rows = (f"<tr><th>{name}{''.join(cell(name, *kind) for kind in KINDS)}" for name in map(html.escape, names))
    head = "".join(f"<th>{scheme}, {width}" for scheme, width in KINDS)
    style = "body { font-family: sans-serif } a { display: block; height: 24rem; overflow: hidden } img { width: 15rem }"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Pictures</title><style>{style}</style>'
        f"<table><tr><th>{head}{''.join(rows)}</table></html>"
    )


def draw(names: Iterable[str], built: Path, to: Path) -> None:
    """Writes a PNG of the whole page for each of ``names`` and KINDS, and index.html, to the folder ``to``.

    Raises FileNotFoundError for a page that is not built, or without Chromium.
    """
    from playwright.sync_api import sync_playwright

    names = list(names)
    for name in names:
        if not (built / f"{name}.html").exists():
            raise FileNotFoundError(f"{name} is not among the built pages; make book builds them")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        raise FileNotFoundError("no Chromium here: apt-get install chromium, or set CHROMIUM=PATH")
    to.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme, width in KINDS:
            context = browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
            )
            page = context.new_page()
            for name in names:
                page.goto((built / f"{name}.html").as_uri())
                page.wait_for_selector(".bd-article h1, #search-results", state="attached")
                page.wait_for_function(READY)
                page.evaluate("async () => { await window.MathJax?.startup?.promise; }")
                page.wait_for_timeout(300)  # the figures take their width
                page.screenshot(path=to / f"{name.replace('/', '.')}.{scheme}.{width}.png", full_page=True, timeout=120_000)
            context.close()
        browser.close()
    (to / "index.html").write_text(sheet(names))


if __name__ == "__main__":
    built = Path(os.environ.get("BOOK_HTML") or BUILT)
    draw(sys.argv[1:] or pages(built), built, ROOT / "build" / "pictures")
    print("Look at  build/pictures/index.html")
