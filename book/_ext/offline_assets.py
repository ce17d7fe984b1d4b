"""Put MathJax (one file, SVG output, no fonts) into the built book, so that it needs no network to be read."""

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


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
