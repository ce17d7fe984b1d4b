"""advlab: the thin library under the Adversarial Lab, an interactive textbook on adversarial examples.

Submodules load on first use, so that ``import advlab`` costs milliseconds and torch is imported only by what needs it.
"""

import importlib
from typing import TYPE_CHECKING

from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import attacks, data, evaluate, masking, models, spheres, squeezing, stability, training, verification, zoo

__all__ = [
    "attacks",
    "data",
    "evaluate",
    "masking",
    "models",
    "spheres",
    "squeezing",
    "stability",
    "training",
    "verification",
    "zoo",
]
#: What advlab 0.1 had and the book has now.
_IN_THE_BOOK = ("exercises", "live", "results")


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    if name in _IN_THE_BOOK:
        raise AttributeError(f"advlab.{name} is labbook.{name} now, the book's own code: it comes with a checkout")
    raise AttributeError(f"module 'advlab' has no attribute {name!r}; its modules are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
