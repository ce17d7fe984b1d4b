"""Makes the built pages light: they load what they use of icons, styles, formulas and the index of the search.

Measured by tests/test_weight.py. Everything is taken from the theme's own files, so that a new version of it needs nothing
here; where one of them is not as it was, the build stops and says which.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sphinx.application import Sphinx

ICON = re.compile(r"\bfa-([a-z][a-z-]*)")
STYLES = ("styles/pydata-sphinx-theme.css", "styles/sphinx-book-theme.css", "sphinx-design.min.css")
LETTER = re.compile(r',(\d{6}):"[^"]*"')
#: of MathJax's font, what no formula here is set in: whole parts; bold signs; of the plain part bold italic to fraktur, bold
#: fraktur to monospace, slanted bold Greek, digits of other kinds than bold, and rare relations; a test finds what is wanted
SPARE = (range(0x1D468, 0x1D538), range(0x1D56C, 0x1D6A4), range(0x1D71C, 0x1D7CC), range(0x1D7D8, 0x1D800))
UNUSED = ("monospace", "sansSerif", "sansSerifBold", "sansSerifItalic", "sansSerifBoldItalic", "fraktur", "frakturBold")
UNUSED += ("texOldstyle", "texOldstyleBold", "texCalligraphicBold", "boldItalic", "texVariant", "texMathit")
SIGNS = {"bold": (range(0x2100, 0x3000),), "normal": (range(0x22A6, 0x22C0), range(0x22CC, 0x22EE), range(0x2A00, 0x2A7D))}
SEARCH = re.compile(r'\s*<script src="[^"]*(?:searchindex|searchtools|language_data)\.js[^"]*"></script>')
MATHJAX = re.compile(
    r'\s*<script (?:defer="defer" )?src="[^"]*tex-svg\.js[^"]*"></script>|\s*<script>window\.MathJax = .*?</script>'
)
ICONS = re.compile(r'\s*<script[^>]*src="[^"]*fontawesome\.js[^"]*"></script>|\s*<link [^>]*fontawesome[^>]*>')


def icon(name: str, font: str) -> str:
    """The style of an icon, drawn from Font Awesome's script. Raises ValueError where the script has no such icon."""
    found = re.findall(rf'[{{,]"?{re.escape(name)}"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]', font)
    if not found:
        raise ValueError(f"the theme's fontawesome.js has no icon {name!r}: see book/_ext/light.py")
    width, height, path = min(found, key=lambda drawn: len(drawn[2]))  # the solid one
    picture = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><path d="{path}"/></svg>'
    return f'.fa-{name}{{--icon:url("data:image/svg+xml,{quote(picture)}");--wide:{int(width) / int(height):.3f}em}}'


def icons(names: set[str], font: str) -> str:
    """The styles of icons: what they have in common, and each."""
    common = (
        ":is(.fas,.far,.fab,.fa-solid,.fa-regular,.fa-brands){display:inline-block;line-height:1;font-style:normal}"
        ":is(.fas,.far,.fab,.fa-solid,.fa-regular,.fa-brands)::before{content:'';display:inline-block;height:1em;"
        "width:var(--wide,1em);vertical-align:-.125em;background:currentColor;mask:var(--icon) center/contain no-repeat}"
        ".fa-lg{font-size:1.25em}"
    )
    return common + "".join(icon(name, font) for name in sorted(names))


def blocks(css: str) -> Iterator[tuple[str, str]]:
    """The rules of a style: what stands in front of the brace, and what between; a statement without braces has no inside."""
    at = 0
    while (found := re.compile(r"[{;]").search(css, at)) is not None:
        if found[0] == ";":
            yield css[at : found.end()], ""
            at = found.end()
            continue
        depth, end = 1, found.end()
        while depth:
            brace = re.compile(r"[{}]").search(css, end)
            if brace is None:
                raise ValueError("a style has a brace that nothing closes")
            depth, end = depth + (1 if brace[0] == "{" else -1), brace.end()
        yield css[at : found.start()], css[found.end() : end - 1]
        at = end


def used(css: str, words: set[str]) -> str:
    """The rules of a style that could apply to pages in which the ``words`` occur; the rest is left out.

    >>> used("a{b:c}.yes .no,p.yes{d:e}@media print{.no{f:g}}", {"yes"})
    'a{b:c}p.yes{d:e}'
    """
    found = []
    for head, inside in blocks(re.sub(r"/\*.*?\*/", "", css, flags=re.S)):
        if head.lstrip().startswith(("@media", "@supports", "@layer")):
            kept = used(inside, words)
            found += [f"{head}{{{kept}}}"] if kept else []
        elif not inside:
            found += [head] if head.rstrip().endswith(";") else []
        elif head.lstrip().startswith("@font-face") and "Awesome" in inside:
            continue
        elif head.lstrip().startswith("@"):
            found.append(f"{head}{{{inside}}}")
        else:
            parts = re.split(r",(?![^(]*\))", head)
            kept = [
                p for p in parts if {name.replace("\\", "") for name in re.findall(r"\.((?:[\w-]|\\.)+)", bare(p))} <= words
            ]
            found += [f"{','.join(kept)}{{{inside}}}"] if kept else []
    return "".join(found)


def bare(selector: str) -> str:
    """A selector without what stands in brackets, whose names need not occur."""
    return re.sub(r"\[[^\]]*\]|\([^()]*(?:\([^()]*\))?[^()]*\)", "", selector)


def without_spare_letters(mathjax: str) -> str:
    """MathJax without the paths of letters that no formula here is set in; its answer to one of them is a blank."""
    for name, spare in {**dict.fromkeys(UNUSED, (range(0x110000),)), **SIGNS}.items():
        start = mathjax.find(f"e.{name}=(0,n.AddPaths)")
        if start < 0:
            raise ValueError(f"MathJax's font has no part {name!r} any more: see book/_ext/light.py")
        end = mathjax.index("},", start)
        kept = re.sub(
            r'(\d+):"[^"]*"',
            lambda m, spare=spare: f'{m[1]}:""' if any(int(m[1]) in part for part in spare) else m[0],
            mathjax[start:end],
        )
        mathjax = mathjax[:start] + kept + mathjax[end:]
    return LETTER.sub(lambda found: "" if any(int(found[1]) in part for part in SPARE) else found[0], mathjax)


def lighter(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    pages = {p: p.read_text() for p in out.rglob("*.html") if static not in p.parents and p.relative_to(out).parts[0] != "zh"}
    scripts = [p.read_text() for p in static.rglob("*.js") if p.name not in ("fontawesome.js", "tex-svg.js")]
    words = {word for text in (*pages.values(), *scripts) for word in re.findall(r"[\w-]+", text)}
    font = (static / "scripts" / "fontawesome.js").read_text()
    classes = {found for text in pages.values() for found in re.findall(r'class="([^"]*\bfa-[^"]*)"', text)}
    names = {name for found in classes for name in ICON.findall(found)}
    drawn = icons(names - {"solid", "regular", "brands", "lg"} | {"xmark"}, font)
    for name in STYLES:
        path = static / name
        if ".fa-" in (css := path.read_text()) or name == STYLES[0]:
            css = re.sub(r"(?<=[},])[^{},]*\.fa-[^{},]*(?=[,{])", ".unused-icon", css)
        path.write_text(used(css, words) + (drawn if name == STYLES[0] else ""))
    mathjax = static / "vendor" / "tex-svg.js"
    mathjax.write_text(without_spare_letters(mathjax.read_text()))
    for path, text in pages.items():
        text = ICONS.sub("", text)
        text = text if path.name == "search.html" else SEARCH.sub("", text)
        path.write_text(text if 'class="math' in text else MATHJAX.sub("", text))


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", lighter, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
