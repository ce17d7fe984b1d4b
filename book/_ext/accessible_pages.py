"""Names and roles that the theme's pages lack, for readers who listen to them."""

import re

from sphinx.application import Sphinx


def name_toggles(toctree: str) -> str:
    """The sidebar with a name for each arrow that opens the pages under an entry."""
    return re.sub(
        r"(<a [^>]*>)([^<]*)(</a>\s*<details[^>]*>\s*<summary)>",
        lambda m: f'{m[1]}{m[2]}{m[3]} aria-label="Pages under {m[2].strip()}">',
        toctree,
    )


def name_parts(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    plain = context["generate_toctree_html"]
    context["generate_toctree_html"] = lambda *args, **kwargs: name_toggles(str(plain(*args, **kwargs)))
    if "body" in context:  # the list of references: items that a list may hold
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Sphinx) -> dict:
    app.add_js_file("tab_stops.js")
    app.connect("html-page-context", name_parts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
