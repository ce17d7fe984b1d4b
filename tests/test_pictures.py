"""The pictures of the pages that people look at."""

import re

import pytest
from browser import HTML, needs_chromium
from PIL import Image

import pictures


def test_every_page_is_meant():
    names = pictures.pages(HTML)
    assert {"book/index", "notebooks/00_start_here", "search"} <= set(names)
    assert not [name for name in names if name.startswith("_static")]


@needs_chromium
def test_a_page_is_drawn_at_each_width_in_light_and_dark(tmp_path):
    pictures.draw(["book/notation"], HTML, tmp_path)
    shades = {}
    for scheme in ("light", "dark"):
        for width in (390, 1280):
            image = Image.open(tmp_path / f"book.notation.{scheme}.{width}.png").convert("L")
            assert image.width == width
            assert image.height >= 900
            shades[scheme, width] = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert min(shades["light", w] for w in (390, 1280)) > 200
    assert max(shades["dark", w] for w in (390, 1280)) < 70
    sheet = (tmp_path / "index.html").read_text()
    shown = re.findall(r'src="([^"]+)"', sheet)
    assert len(shown) == 4
    assert all((tmp_path / file).exists() for file in shown)


def test_a_page_that_is_not_built_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nosuch"):
        pictures.draw(["book/nosuch"], HTML, tmp_path)
