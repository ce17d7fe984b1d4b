"""Each claim's recipe on a slice, an eighth of them a day: it runs, and what it finds can be true beside the stored number.

``pytest --slow tests/test_slices.py`` runs them all. What a slice is held to depends on its kind:

- ``whole``: it has the n of the stored number, or neither has one: the number itself.
- ``share`` of images, and counts of errors: eight images or seeds stand behind it. By Hoeffding's bound the chance that eight
  independent values in [0, 1] have its mean, or one further away, is not below LEVEL for every mean in the stored interval.
- ``mean``, or a median, with an interval, and so a spread: no further from the stored number than SIGMAS standard errors.
- ``level``, a mean whose spread is not stored: within a factor of FACTOR.
- ``time``: above 0 and finite, as machines differ.
- ``shorter``: the slice attacks, trains or samples less too, so that it measures something else: sign, range, finite.

A slice may find nothing to count, n = 0, where a network is trained on eight images.
"""

import dataclasses
import fnmatch
import math
import os

import pytest
from scipy.stats import binom

from labbook import reproduce, results, vouch

CLAIMS = results.claims()
STORED = {e.id: e for chapter in results.CHAPTERS for e in results.load(chapter).values()}
N = 8
LEVEL = 1e-5
SIGMAS = 6
FACTOR = 1.5

#: Claims whose slices are of other recipes than the stored numbers. Their code says so: with n they have fewer steps,
#: updates, searches, widths or dimensions; or they look for the least, or count what occurs, of more images.
SHORTER = (
    "adversarial_spheres.dimension_*",
    "adversarial_spheres.ignored_*",
    "adversarial_spheres.one_bad_alpha*",
    "adversarial_spheres.ratio_*",
    "adversarial_spheres.fixed_set",
    "adversarial_spheres.narrow",
    "adversarial_spheres.perfect_start_*",
    "adversarial_spheres.batch_norm",
    "feature_squeezing.distance_paper_*",
    "feature_squeezing.evades_*",
    "feature_squeezing.evasion_distance_*",
    "feature_squeezing.paper_parts",
    "feature_squeezing.random_cutoff_*",
    "relu_stability.*_behaviour",
    "relu_stability.cifar_?_fast_*",  # of one training: a thousand verdicts, no interval
    "relu_stability.mnist_01_fast_adversarial_*",  # two seconds an image, not twenty
    "random_mask.class_distance",
    "all_against_all.smoothed",
)


def days(claims, number=8):
    """``number`` lists of about one length: claims that share a dear step stay together."""
    lists = [[] for _ in range(number)]
    for group in sorted(reproduce.together(claims), key=len, reverse=True):
        min(lists, key=len).extend(group)
    return lists


def kind(claim, entry, stored):
    if claim.unit in vouch.TIMES:
        return "time"
    if any(fnmatch.fnmatch(claim.id, pattern) for pattern in SHORTER):
        return "shorter"
    if entry.n == stored.n:
        return "whole"
    if claim.unit in ("%", "errors"):
        return "share"
    if claim.unit == "log10" and stored.interval is None:
        return "shorter"  # a worst case
    return "mean" if stored.interval and math.isfinite(stored.interval[0]) else "level"


def divergence(a, p):
    """Of Kullback and Leibler, of two coins with shares ``a`` and ``p`` of heads."""

    def part(a, p):
        return a * math.log(a / p) if a and p else math.inf if a else 0.0

    return part(a, p) + part(1 - a, 1 - p)


def can_be(share, n, low, high):
    """Whether a mean of ``n`` values in [0, 1] is within what chance allows around any mean from ``low`` to ``high``."""
    return n * divergence(share, min(max(share, low), high)) <= math.log(2 / LEVEL)


def per_example(value, entry):
    return value / entry.n if entry.unit == "errors" else value


def hold(claim, entry, stored):
    """Asserts what ``entry``, a slice, can be held to beside the ``stored`` number."""
    if entry.n == 0:
        assert entry.value == 0 or math.isnan(entry.value)
        return
    low, high = stored.interval or (stored.value, stored.value)
    match kind(claim, entry, stored):
        case "whole":
            assert entry.value == pytest.approx(stored.value, rel=1e-6)
        case "share":
            low, high = per_example(low, stored), per_example(high, stored)
            assert 0 <= per_example(entry.value, entry) <= 1
            assert can_be(per_example(entry.value, entry), min(entry.n, N), low, high)
        case "mean":
            error = (high - low) / 2 / 1.96  # of the stored mean or median
            assert abs(entry.value - stored.value) <= SIGMAS * error * math.sqrt(1 + stored.n / min(entry.n, N))
        case "level":
            assert stored.value / FACTOR <= entry.value <= stored.value * FACTOR
        case "time":
            assert 0 < entry.value < math.inf
        case "shorter" if claim.unit == "%":
            assert 0 <= entry.value <= 1
        case "shorter" if claim.unit == "log10":
            assert -math.inf < entry.value <= 0
        case "shorter":
            no_median = entry.interval is not None and entry.interval[1] == math.inf  # too many are infinite
            assert 0 <= entry.value < math.inf or no_median


TODAY = {c.id for c in days(CLAIMS)[int(os.environ["ADVLAB_DAY"]) % 8]}
SLICES = [pytest.param(c, id=c.id, marks=[] if c.id in TODAY else [pytest.mark.slow]) for c in CLAIMS]


@pytest.mark.parametrize("claim", SLICES)
def test_each_recipe_runs_on_a_slice(claim):
    with vouch.brief_splitting():
        entry = results.measure(claim, n=N)
    assert entry.n is None or 0 <= entry.n <= 10_000, "a slice is small"
    assert entry.code == results.claim_version(claim)
    assert set(entry.inputs) == {*claim.networks, *claim.evidence}
    if entry.interval and not math.isnan(entry.value):
        assert entry.interval[0] <= entry.value <= entry.interval[1]
    hold(claim, entry, STORED[claim.id])


def test_eight_days_have_every_claim_once():
    lists = days(CLAIMS)
    assert sorted(c.id for day in lists for c in day) == sorted(STORED)
    assert max(map(len, lists)) < 2 * len(CLAIMS) / 8


def changed(id, **changes):
    """The claim ``id``, its stored entry, and one like a slice of it with ``changes``."""
    (claim,) = (c for c in CLAIMS if c.id == id)
    return claim, dataclasses.replace(STORED[id], **{"n": N} | changes), STORED[id]


@pytest.mark.parametrize(
    ("id", "of_its_kind", "good", "bad"),
    [
        ("start_here.clean", "share", {"value": 0.875}, {"value": 0.5}),
        ("start_here.clean", "share", {"value": 1.0}, {"value": 1.125}),
        ("start_here.autoattack", "share", {"value": 0.125}, {"value": 0.625}),
        ("adversarial_spheres.relu_sampled_inner", "share", {"value": 0.0}, {"value": 3.0}),
        ("start_here.ddn", "mean", {"value": 1.4}, {"value": 3.4}),
        ("adversarial_spheres.cap_2", "whole", {"n": None}, {"n": None, "value": 1.3711}),
        ("adversarial_spheres.online_exact_inner", "whole", {"n": None}, {"n": None, "value": -500.0}),
        ("relu_stability.rs_unstable", "level", {"value": 60.0}, {"value": 160.0}),
        ("relu_stability.sweep_plain", "time", {"value": 50.0}, {"value": -0.1}),
        ("adversarial_spheres.fixed_set", "shorter", {"value": -9.0}, {"value": 0.1}),
        ("feature_squeezing.random_cutoff_mnist", "shorter", {"value": 0.0}, {"value": -0.1}),
        ("feature_squeezing.evasion_distance_mnist", "shorter", {"value": 9.0}, {"value": math.nan}),
        ("adversarial_spheres.batch_norm", "shorter", {"n": 0, "value": math.nan}, {"n": 0, "value": 0.7}),
    ],
)
def test_each_kind_of_check_passes_what_can_be_and_fails_what_cannot(id, of_its_kind, good, bad):
    assert kind(*changed(id, **good)) == of_its_kind
    hold(*changed(id, **good))
    with pytest.raises(AssertionError):
        hold(*changed(id, **bad))


def test_the_bound_of_shares_is_one_for_coins():
    """Of eight coins: what it refuses is rarer than LEVEL, by the binomial itself; what it allows is not far from that."""
    for p in (0.001, 0.1, 0.3, 0.5, 0.9, 0.999):
        for k in range(N + 1):
            tail = min(binom.cdf(k, N, p), binom.sf(k - 1, N, p))
            assert can_be(k / N, N, p, p) or 2 * tail <= LEVEL
            assert not can_be(k / N, N, p, p) or tail >= LEVEL / 20
