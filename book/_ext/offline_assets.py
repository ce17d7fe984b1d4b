"""Put MathJax (one file, SVG output, no fonts) into the built book, and keep its pages free of console errors."""

import importlib.util
import shutil
from pathlib import Path

from sphinx.application import Sphinx


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise RuntimeError("sphinx-mathjax-offline is not installed: formulas would need the network")
    vendor = Path(app.outdir, "_static", "vendor")
    vendor.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(spec.origin).parent / "static" / "mathjax" / "tex-svg.js", vendor)


def quiet_page(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Drop the scripts of Thebe, which is off: Jupyter Book declares one constant of theirs twice on every page."""
    context["default_mode"] = "auto"  # light or dark as the reader's system says; unset, the theme complains
    scripts = context.get("script_files", [])
    context["script_files"] = [s for s in scripts if "thebe" not in f"{s} {getattr(s, 'attributes', '')}".lower()]


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", copy_mathjax)
    app.connect("html-page-context", quiet_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
