"""The claims: functions that measure something, registered with what the papers say, as chapters do it by `results.claim`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module

from .entries import Measurement

TIERS = ("fast", "laptop", "gpu")


@dataclass(frozen=True)
class Claim:
    """A registered measurement: ``measure(n=None)`` runs it, on a slice of n examples where n is given.

    >>> c = claims("start_here")[0]
    >>> c.id, c.chapter, c.tier
    ('start_here.clean', 'start_here', 'fast')
    """

    id: str  # these words stand again in the claim's entry, which is read without the code
    title: str
    measure: Callable[..., Measurement]
    paper: float | None
    where: str | None
    unit: str
    digits: int
    note: str
    tier: str
    networks: tuple[str, ...]
    evidence: tuple[str, ...] = ()
    over: str = ""

    @property
    def chapter(self) -> str:
        return self.id.partition(".")[0]


CLAIMS: dict[str, Claim] = {}

#: Chapter -> modules whose import registers its claims, in the order of its tables.
CHAPTERS: dict[str, tuple[str, ...]] = {
    "start_here": ("labbook.start_here.claims",),
    "adversarial_spheres": (
        "labbook.adversarial_spheres.geometry_claims",
        "labbook.adversarial_spheres.quadratic_claims",
        "labbook.adversarial_spheres.training_claims",
        "labbook.adversarial_spheres.dimension_claims",
        "labbook.adversarial_spheres.attack_claims",
        "labbook.adversarial_spheres.relu_claims",
        "labbook.adversarial_spheres.million_claims",
        "labbook.adversarial_spheres.image_claims",
    ),
    "feature_squeezing": (
        "labbook.feature_squeezing.claims",
        "labbook.feature_squeezing.adaptive_claims",
        "labbook.feature_squeezing.authors_claims",
        "labbook.feature_squeezing.filter_claims",
        "labbook.feature_squeezing.inside_claims",
        "labbook.feature_squeezing.imagenet_claims",
    ),
    "relu_stability": (
        "labbook.relu_stability.claims",
        "labbook.relu_stability.plain_claims",
        "labbook.relu_stability.inside_claims",
        "labbook.relu_stability.sweep_claims",
        "labbook.relu_stability.trainings",
    ),
    "random_mask": (
        "labbook.random_mask.claims",
        "labbook.random_mask.bridge_claims",
        "labbook.random_mask.defence_claims",
        "labbook.random_mask.meaning_claims",
        "labbook.random_mask.symmetry_claims",
        "labbook.random_mask.full_scale_claims",
    ),
    "all_against_all": ("labbook.all_against_all.claims",),
}


# Eleven parameters, since all but the first two are words for the manifest, by name, with the defaults of most claims. Calls
# look alike, line by line, and stand so: they are a chapter's table of claims, where one looks for an id or a title.
def claim(
    id: str,
    title: str,
    *,
    paper: float | None = None,
    where: str | None = None,
    unit: str = "%",
    digits: int = 1,
    note: str = "",
    tier: str = "fast",
    networks: Iterable[str] = (),
    evidence: Iterable[str] = (),
    over: str = "",
) -> Callable[[Callable[..., Measurement]], Callable[..., Measurement]]:
    """Register a function ``measure(n=None) -> Measurement`` as the claim ``id``, "chapter.name".

    ``networks`` are the zoo's networks that it uses, and ``evidence`` what is stored of earlier runs
    (:mod:`labbook.evidence`); their SHA-256 become its inputs. ``over`` says what the interval is over, and how many of them,
    such as "3 trainings", where that is not the n examples; tables show it in the place of n. Raises ValueError for an id that
    is taken or has no known chapter, an unknown tier, and a paper value without a place; a place without a paper value says
    nothing.

    >>> _ = claims("start_here")
    >>> claim("start_here.clean", "Another of that name")(lambda n=None: Measurement(1.0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: claim 'start_here.clean': the id is taken, ...
    """

    def register(measure: Callable[..., Measurement]) -> Callable[..., Measurement]:
        place = None if paper is None else where
        new = Claim(id, title, measure, paper, place, unit, digits, note, tier, tuple(networks), tuple(evidence), over)
        if id in CLAIMS or new.chapter not in CHAPTERS:
            raise ValueError(f"claim {id!r}: the id is taken, or its chapter is not one of {', '.join(CHAPTERS)}")
        if tier not in TIERS or (paper is not None and where is None):
            raise ValueError(f"claim {id!r}: the tier must be one of {TIERS}, and a number of a paper has a place, where")
        CLAIMS[id] = new
        return measure

    return register


def claims(chapter: str | None = None) -> list[Claim]:
    """The claims of ``chapter``, or of all chapters. Raises ValueError for an unknown chapter.

    >>> sorted({c.tier for c in claims("start_here")})
    ['fast', 'laptop']
    """
    if chapter is not None and chapter not in CHAPTERS:
        raise ValueError(f"there is no chapter {chapter!r} with claims; there are: {', '.join(CHAPTERS)}")
    order: dict[str, int] = {}  # whichever module was imported first
    for name in CHAPTERS if chapter is None else [chapter]:
        for module in CHAPTERS[name]:
            order[module] = len(order)
            import_module(module)
    found = [c for c in CLAIMS.values() if chapter in (None, c.chapter)]
    return sorted(found, key=lambda c: order.get(c.measure.__module__, len(order)))
