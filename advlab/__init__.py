"""advlab: the thin library under the Adversarial Lab, an interactive textbook on adversarial examples.

Submodules load on first use, so that ``import advlab`` costs milliseconds and torch is imported only by what needs it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import (
        attacks,
        data,
        evaluate,
        exercises,
        live,
        masking,
        models,
        results,
        spheres,
        squeezing,
        stability,
        start_here,
        together,
        training,
        zoo,
    )

__version__ = "0.1.0"
__all__ = [
    "attacks",
    "data",
    "evaluate",
    "exercises",
    "live",
    "masking",
    "models",
    "results",
    "spheres",
    "squeezing",
    "stability",
    "start_here",
    "together",
    "training",
    "zoo",
]


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'advlab' has no attribute {name!r}; its modules are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
