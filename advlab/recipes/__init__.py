"""How each network of the zoo is trained, by the chapter that it was trained for."""

from . import masking, spheres, squeezing, stability, together
from .common import Recipe, Stream

__all__ = ["RECIPES", "Recipe", "Stream"]

RECIPES: dict[str, Recipe] = {
    **spheres.RECIPES,
    **squeezing.RECIPES,
    **stability.RECIPES,
    **masking.RECIPES,
    **together.RECIPES,
}
