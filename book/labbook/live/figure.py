"""The one mechanism behind every live figure."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets
from matplotlib.figure import Figure as Picture

HERE = Path(__file__).parent


def module(*names: str) -> str:
    """One JavaScript module from files of this folder: ``kit.js``, then ``names`` in order, the last one exporting."""
    return "\n".join((HERE / name).read_text() for name in ("kit.js", *names))


def existing(proposal: Any, count: int) -> int:
    """For a trait's validator: the index proposed, which must be below ``count``."""
    if proposal["value"] >= count:
        raise traitlets.TraitError(f"{proposal['trait'].name} is {proposal['value']}; there are {count}, from 0")
    return proposal["value"]


def png(picture: Picture) -> bytes:
    """The picture as PNG bytes, the same each time."""
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


class Figure(anywidget.AnyWidget):
    """A figure whose JavaScript computes; subclasses set ``_esm`` by :func:`module` and say what they show.

    Figures that show alike things declare alike traits, each its own: they are what its page reads.
    ``describe()`` gives the alt text, ``still()`` the picture for places without scripts.

    >>> class Square(Figure):
    ...     _esm = module("plot.js")
    ...
    ...     def describe(self):
    ...         return "A square of side 1."
    >>> Square().alt
    'A square of side 1.'
    """

    _css = (HERE / "live.css").read_text()
    alt = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.alt = self.describe()

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
