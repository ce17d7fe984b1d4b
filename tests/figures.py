"""What every live figure is held to: words and a picture of its own, and nothing in the page that sticks out of it."""

import base64

from labbook.live import figure


def has_words_and_a_picture(f):
    bundle = f._repr_mimebundle_()
    shown = bundle[0] if isinstance(bundle, tuple) else bundle
    assert shown["text/plain"] == repr(f)
    assert "0x" not in repr(f)
    assert f.alt == f.describe()
    assert f.alt.endswith(".")
    assert any(c.isdigit() for c in f.alt)
    assert "nan" not in f.alt
    assert base64.b64decode(shown["image/png"]) == figure.png(f.still()), "a still picture is the same each time"


def stands_in_its_frame(f, name):
    """``f`` is the figure's element in a page of :func:`browser.page`."""
    assert f.get_attribute("aria-label")
    assert "NaN" not in f.inner_html()
    assert "undefined" not in f.inner_html()
    wide = f.evaluate(
        "e => [...e.querySelectorAll('svg text, select, input, td, th')].map(t => t.getBoundingClientRect()).filter("
        "r => r.width && (r.left < e.getBoundingClientRect().left || r.right > e.getBoundingClientRect().right)).length"
    )
    assert wide == 0, f"{name}: something sticks out of the figure"
    assert f.evaluate("e => e.scrollWidth <= e.clientWidth"), name


def answer_to_keys(p, moves):
    """In the page ``p``: figure -> (label of a control, key, words that the verdict then has), one after another."""
    for name, steps in moves.items():
        f = p.locator(f".advlab-{name}")
        verdict = f.locator(".verdict")
        verdict.wait_for()
        assert verdict.get_attribute("role") == "status"
        for label, key, said in steps:
            before = f.inner_html()
            f.get_by_label(label, exact=True).focus()
            p.keyboard.press(key)
            assert said in verdict.inner_text().replace("\u00a0", " "), (name, label, verdict.inner_text())
            assert f.inner_html() != before, (name, label)
        stands_in_its_frame(f, name)
