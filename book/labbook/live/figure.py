"""The one mechanism behind every live figure."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import io
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

import anywidget
import ipywidgets
import numpy as np
import traitlets
from matplotlib.figure import Figure as Picture
from PIL import Image

from .. import words

HERE = Path(__file__).parent
LOADER = (HERE / "loader.js").read_text()


def module(*names: str) -> Module:
    """One JavaScript module from files of this folder: ``kit.js``, then ``names`` in order, the last one exporting."""
    return Module(*((HERE / name).read_text() for name in ("kit.js", *names)))


@functools.cache
def spoken() -> list[str]:
    """A script by which a figure in JupyterLab speaks the reader's language; none in English. A built page has its own."""
    if words.language() == "en":
        return []
    held = json.dumps(json.dumps(words.rows(), ensure_ascii=False), ensure_ascii=False)
    put = (
        f"if (globalThis.document && !document.getElementById('advlab-words')) document.body.append(Object.assign("
        f"document.createElement('script'), {{ type: 'application/json', id: 'advlab-words', textContent: {held} }}));\n"
    )
    return [put + (words.FOLDER.parent / "static" / "words.js").read_text()]


def existing(proposal: Any, count: int) -> int:
    """For a trait's validator: the index proposed, which must be below ``count``."""
    if proposal["value"] >= count:
        raise traitlets.TraitError(f"{proposal['trait'].name} is {proposal['value']}; there are {count}, from 0")
    return proposal["value"]


def png(picture: Picture) -> bytes:
    """The picture as PNG bytes, the same each time: on a palette, unless one pixel in 10,000 would differ to the eye."""
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    drawn = Image.open(buffer)
    if drawn.getchannel("A").getextrema() != (255, 255):
        return buffer.getvalue()
    found = drawn = drawn.convert("RGB")
    for colours in (64, 256):
        reduced = drawn.quantize(colours, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
        off = np.abs(np.asarray(reduced.convert("RGB"), int) - np.asarray(drawn, int)).max(-1)
        if np.mean(off > 24) <= 1e-4:
            found = reduced
            break
    buffer = io.BytesIO()
    found.save(buffer, "png", optimize=True)
    return buffer.getvalue()


class Module(str):
    """The text of a JavaScript module, and the ``parts`` that it was joined from."""

    parts: tuple[str, ...]

    def __new__(cls, *parts: str) -> Self:
        made = super().__new__(cls, "\n".join(parts))
        made.parts = parts
        return made


class Shared(ipywidgets.Widget):
    """What figures hold in common, such as a script or a network: one widget, stored once in a notebook, for equal values.

    >>> Text.of(value="a") is Text.of(value="a"), Text.of(value="a") is Text.of(value="b")
    (True, False)
    """

    _made: ClassVar[weakref.WeakValueDictionary[str, Any]] = weakref.WeakValueDictionary()

    @classmethod
    def of(cls, **values: Any) -> Self:
        """The widget of this class with these ``values``; a new one where there is none, or where it was closed."""
        key = hashlib.sha256(f"{cls} {values}".encode()).hexdigest()
        found = cls._made.get(key)
        if found is None or found.comm is None:
            found = cls._made[key] = cls(**values)
        return found


class Text(Shared):
    """A script or a style."""

    value = traitlets.Unicode().tag(sync=True)


class Figure(anywidget.AnyWidget):
    """A figure whose JavaScript computes; subclasses set ``_esm`` by :func:`module` and say what they show.

    Figures that show alike things declare alike traits, each its own: they are what its page reads.
    ``describe()`` gives the alt text, ``still()`` the picture for places without scripts. A page gets ``loader.js`` for
    ``_esm``, which joins the module from ``scripts``: a file that several figures of a notebook use is stored once.

    >>> class Square(Figure):
    ...     _esm = module("plot.js")
    ...
    ...     def describe(self):
    ...         return "A square of side 1."
    >>> Square().alt
    'A square of side 1.'
    """

    _esm: ClassVar[Module]
    _css = (HERE / "live.css").read_text()
    alt = traitlets.Unicode("").tag(sync=True)
    look = traitlets.Instance(Text).tag(sync=True, **ipywidgets.widget_serialization)
    scripts = traitlets.List(traitlets.Instance(Text)).tag(sync=True, **ipywidgets.widget_serialization)

    def __init__(self, **values: Any) -> None:
        made = type(self)
        scripts = [Text.of(value=part) for part in (*spoken(), *made._esm.parts)]
        super().__init__(look=Text.of(value=made._css), scripts=scripts, **values)
        self.alt = self.describe()

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """What a page gets of the figure: the loader in the place of the module and the style."""
        state = super().get_state(key, drop_defaults)
        return state | {name: own for name, own in (("_esm", LOADER), ("_css", "")) if name in state}

    def describe(self) -> str:
        """One sentence that says what the figure shows, for readers who do not see it."""
        raise NotImplementedError(f"{type(self).__name__} must describe itself")

    def still(self) -> Picture:
        """The figure as it stands now, as a matplotlib picture."""
        raise NotImplementedError(f"{type(self).__name__} must draw its still picture")

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.describe()}"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:
            data["text/plain"] = repr(self)
            data["image/png"] = base64.b64encode(png(self.still())).decode()
        return bundle


class Still:
    """A matplotlib picture with the sentence that describes it, for a notebook to show.

    >>> Still(Picture(), alt="An empty sheet.")
    An empty sheet.
    """

    def __init__(self, picture: Picture, alt: str) -> None:
        self.picture, self.alt = picture, alt

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        data = {"text/plain": self.alt, "image/png": base64.b64encode(png(self.picture)).decode()}
        return data, {"image/png": {"alt": self.alt}}


class _Recorded(ipywidgets.VBox):
    """Controls over a picture; its text form is the sentence that describes it."""

    describes = ""

    def __repr__(self) -> str:
        return self.describes


def with_kernel(draw: Callable[..., Picture | Still], alt: str, **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
    """Controls whose values go to ``draw(**values) -> matplotlib figure``, which needs the kernel (torch, say).

    In JupyterLab the picture follows the controls. On the static page the picture recorded here is shown with a sentence
    that says so, and no control that would move nothing. ``alt`` describes the pictures; a :class:`Still` from ``draw``
    describes itself.
    Raises ValueError without controls or without ``alt``.

    >>> with_kernel(lambda eps: Picture(), "An empty sheet.", eps=ipywidgets.FloatSlider())
    An empty sheet.
    """
    if not controls or not alt:
        raise ValueError("with_kernel needs a sentence for alt, and at least one control, such as eps=FloatSlider(...)")

    def values() -> dict[str, Any]:
        return {name: control.value for name, control in controls.items()}

    picture = ipywidgets.HTML()
    box = _Recorded([*controls.values(), picture])

    def update(_: object) -> None:
        drawn = draw(**values())
        still = drawn if isinstance(drawn, Still) else Still(drawn, alt)
        box.describes = still.alt
        source = base64.b64encode(png(still.picture)).decode()
        picture.value = f'<img alt="{html.escape(still.alt)}" src="data:image/png;base64,{source}">'

    update(None)
    for control in controls.values():
        control.observe(update, "value")
    return box
