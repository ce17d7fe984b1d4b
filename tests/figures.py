"""What every live figure is held to: words and a picture of its own, and nothing in the page that sticks out of it."""

import base64

from advlab.live import figure


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
