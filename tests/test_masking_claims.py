"""Chapter 4's numbers: what they share, cells measured again by other code, and tables that hang together."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from advlab import data, evaluate, masking, zoo
from advlab.models import MaskedReLU
from labbook import results
from labbook.random_mask import (
    bridge,
    bridge_claims,
    claims,
    defence_claims,
    meaning_claims,
    measuring,
    symmetry_claims,
    tables,
)

ENTRIES = results.load("random_mask")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------ what the measurements share


def test_the_mean_of_networks_is_the_mean_of_their_logits():
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    x = torch.rand(5, 3)
    assert torch.allclose(measuring.Averaged(one, two)(x), (one(x) + two(x)) / 2)
    both = measuring.network("cifar_mask_50+cifar_resnet18")
    images = data.cifar10(n=3, full=False)[0]
    parts = [zoo.load(name)(images) for name in ("cifar_mask_50", "cifar_resnet18")]
    assert torch.allclose(both(images), sum(parts) / 2, atol=1e-5)
    assert not both.training


def test_the_interval_over_trainings_is_students():
    shares = [0.2, 0.25, 0.36]
    found = measuring.over_trainings(shares, 50, {"seed": [0.0, 1.0, 2.0]})
    theirs = stats.t.interval(0.95, 2, np.mean(shares), stats.sem(shares))
    assert (found.value, *found.interval) == pytest.approx((np.mean(shares), *np.clip(theirs, 0, 1)))
    assert (found.n, list(found.series)) == (50, ["seed"])
    assert measuring.over_trainings([0.0, 0.0, 0.0], 9, {}).interval == (0.0, 0.0)


def test_the_papers_pgd_is_plain_signed_steps_in_8_bits():
    net = measuring.network("cifar_resnet18")
    x, y = data.cifar10(n=4, full=False)
    ours = measuring.pgd_in_8_bits(4, 3)(net, x, y)
    at = x.clone()
    for _ in range(3):
        at.requires_grad_()
        step = torch.autograd.grad(nn.functional.cross_entropy(net(at), y, reduction="sum"), at)[0].sign() / 255
        at = torch.minimum(torch.maximum(at.detach() + step, x - 4 / 255), x + 4 / 255).clamp(0, 1)
    agree = ((at * 255).round() == (ours * 255).round()).float().mean()
    assert agree > 0.98, "signs of gradients near 0 may differ"
    assert torch.equal((ours * 255).round() / 255, ours)
    assert (ours - x).abs().max() <= 4 / 255 + 1e-6


def test_masks_are_drawn_anew_and_weights_are_kept():
    net = masking.masked_resnet(8, 4, 0.5, generator=seeded())
    other = masking.redraw_masks(net, generator=seeded(1))
    for (name, a), b in zip(net.state_dict().items(), other.state_dict().values(), strict=True):
        if name.endswith("kept"):
            assert not torch.equal(a, b)
            assert torch.equal((~a).sum((2, 3)), (~b).sum((2, 3)))
        elif not name.endswith("seed"):
            assert torch.equal(a, b)
    assert torch.equal(
        masking.redraw_masks(net, generator=seeded(1)).state_dict()["stem.1.1.kept"], other.state_dict()["stem.1.1.kept"]
    )
    tiles = masking.masked_resnet(8, 4, 0.5, kind="periodic", period=4, generator=seeded())
    fresh = masking.redraw_masks(tiles).stem[1][1].kept[0]
    assert torch.equal(fresh, fresh.roll(4, 2)), "still of period 4"
    with pytest.raises(ValueError, match="insert_masks"):
        masking.redraw_masks(nn.Linear(2, 2))


def test_around_the_border_only_masks_break_the_symmetry():
    x = torch.rand(2, 3, 32, 32, generator=seeded())
    for name, net in (("plain", zoo.load("cifar_resnet18")), ("masked", zoo.load("cifar_mask_50"))):
        around = masking.wrapped_around(net).stem
        error = float(masking.translation_error(around, x, shifts=8, generator=seeded()).mean())
        assert (error < 1e-5) == (name == "plain")
        assert net.stem[0].padding_mode == "zeros", "the first is left alone"


# ------------------------------------------------------------------------------------------ cells, measured again


@pytest.mark.parametrize(("key", "kind"), [("50", "resnet"), ("90", "cnn")])
def test_a_cell_of_the_transfer_table_by_hand(key, kind):
    """The first 60 images, by plain code, against the claim on a slice of 60."""
    source, target = zoo.load(claims.SOURCES[kind].network), zoo.load(claims.ROWS[key].network)
    x, y = data.cifar10(n=60, full=False)
    right = source(x).argmax(1) == y
    x, y = x[right], y[right]
    at = x.clone().requires_grad_()
    sign = torch.autograd.grad(nn.functional.cross_entropy(source(at), y, reduction="sum"), at)[0].sign()
    moved = ((x + 8 / 255 * sign).clamp(0, 1) * 255).round() / 255
    fooled = source(moved).argmax(1) != y
    hits = int((target(moved[fooled]).argmax(1) == y[fooled]).sum())
    x_adv, labels = claims.adversarial_images(claims.SOURCES[kind].network, "FGSM 8", 60)
    assert abs(len(labels) - int(fooled.sum())) <= 1, "a gradient near 0 may have the other sign"
    assert abs(claims.count_right(claims.ROWS[key].network, x_adv, labels)[0] - hits) <= 1


@pytest.mark.parametrize("entry", [e for e in ENTRIES.values() if "ours" in e.series], ids=lambda e: e.id)
def test_series_are_shares_with_the_intervals_of_their_counts(entry):
    columns = zip(*(entry.series[name] for name in ("ours", "low", "high", "n")), strict=True)
    for share, low, high, n in columns:
        if math.isnan(share):
            assert n == 0
            continue
        hits = round(share * n)
        assert share == pytest.approx(hits / n)
        assert (low, high) == pytest.approx(evaluate.clopper_pearson(hits, int(n)))


def test_the_worst_case_is_never_above_any_attack():
    for key in defence_claims.DEFENCES:
        series = ENTRIES[f"random_mask.defence_{key}"].series
        ladder = dict(zip(defence_claims.LADDER, series["ours"], strict=True))
        assert all(ladder["AutoAttack"] <= ladder[name] for name in ("clean", "transfer", "Square", "PGD"))
        assert all(ladder[name] <= ladder["clean"] for name in defence_claims.LADDER if name != "HopSkipJump")


def test_random_defences_and_no_others_are_flagged_as_random():
    for key, defence in defence_claims.DEFENCES.items():
        flags = ENTRIES[f"random_mask.defence_{key}"].flags
        assert ("randomised" in flags) == defence.random


def test_the_pairs_of_an_arm_make_its_mean():
    for arm in symmetry_claims.ARMS:
        entry = ENTRIES[f"random_mask.arm_{arm}"]
        pairs = dict(
            zip(zip(*(entry.series[n] for n in ("source", "target")), strict=True), entry.series["accuracy"], strict=True)
        )
        assert set(pairs) == {(a, b) for a in range(3) for b in range(3) if a != b}
        assert entry.value == pytest.approx(np.mean(list(pairs.values())))
        assert entry.interval[0] <= entry.value <= entry.interval[1]


# ------------------------------------------------------------------------------------------ meaning


def test_mixing_goes_towards_the_nearest_image_of_another_class_and_stays_in_the_ball():
    x, y = data.cifar10(n=40, full=False)
    others, labels = x[10:], y[10:]
    near = meaning_claims.mixed(x[:10], y[:10], others, labels, 0.1)
    assert (near - x[:10]).abs().max() <= 0.1 + 1e-6
    all_the_way = meaning_claims.mixed(x[:10], y[:10], others, labels, 1.0)
    for k in range(10):
        far = [float((x[k] - o).norm()) if c != y[k] else math.inf for o, c in zip(others, labels, strict=True)]
        assert torch.allclose(all_the_way[k], others[int(np.argmin(far))], atol=1e-6)


def test_the_panel_agrees_only_with_the_robust_judge_and_a_majority(monkeypatch):
    answers = {meaning_claims.ROBUST_JUDGE: [1, 2, 3, 0]}
    answers |= dict(zip(meaning_claims.PANEL, ([1, 2, 0, 0], [1, 0, 0, 0], [0, 2, 3, 1]), strict=True))
    monkeypatch.setattr(meaning_claims, "network", lambda name: name)
    monkeypatch.setattr(meaning_claims.evaluate, "predict", lambda name, x: torch.tensor(answers[name]))
    agreed, robust = meaning_claims.named(torch.zeros(4, 3, 32, 32))
    assert agreed.tolist() == [1, 2, -1, 0]
    assert robust.tolist() == [1, 2, 3, 0]
    turned, misread = meaning_claims.judged(torch.zeros(4, 3, 32, 32), torch.tensor([1, 0, 0, 0]))
    assert turned.tolist() == [False, True, False, False]
    assert misread.tolist() == [False, True, True, False]


def test_no_judge_is_a_maker_and_no_surrogate_is_attacked():
    made = {name for _, name in meaning_claims.MAKERS.values()}
    assert not made & {*meaning_claims.PANEL, meaning_claims.ROBUST_JUDGE}
    assert not {d.network for d in defence_claims.DEFENCES.values()} & set(defence_claims.SURROGATES)
    for key, names in claims.SURROGATES.items():
        assert all(claims.ROWS[key].network not in name.split("+") for name in names.values())
    assert not {row.network for row in claims.ROWS.values()} & {row.network for row in claims.SOURCES.values()}


# ------------------------------------------------------------------------------------------ the bridge


def test_as_many_relus_are_pruned_as_asked_for():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 200), nn.ReLU(), nn.Linear(200, 5)).eval()
    x = torch.rand(500, 20)
    found = {count: bridge_claims.pruned_units(bridge_claims.prune_as_many(net, x, count)) for count in (100, 150, 190)}
    for count, pruned in found.items():
        assert count - 5 <= pruned <= count
    switching = (net[0](x) > 0).float().mean(0)
    switching = torch.minimum(switching, 1 - switching)
    mask = next(m for m in bridge_claims.prune_as_many(net, x, 150) if isinstance(m, MaskedReLU)).mask
    assert switching[mask != 0].max() <= switching[mask == 0].min(), "those that switch least"


def test_masks_for_the_verifier_remove_their_share():
    for drop in bridge_claims.DROPS.values():
        units = 16 * 14 * 14 + 32 * 7 * 7
        removed = bridge_claims.masked_units(bridge_claims.masked_cnn(drop))
        assert removed == 16 * round(drop * 196) + 32 * round(drop * 49)
        assert abs(removed / units - drop) < 0.01


# ------------------------------------------------------------------------------------------ tables


TABLES = [
    tables.drop_table,
    *(functools.partial(tables.kinds_table, kind) for kind in claims.SOURCES),
    tables.gray_table,
    tables.surrogates_table,
    tables.madry_table,
    tables.white_table,
    tables.symmetry_table,
    tables.defences_table,
    tables.turned_table,
    bridge.bridge_table,
]


@pytest.mark.parametrize("table", TABLES, ids=lambda t: getattr(t, "__name__", None) or t.args[0])
def test_tables_are_full(table):
    grid = table()
    assert grid.rows
    for _, cells in grid.rows:
        assert len(cells) == len(grid.columns)
        assert sum(ours != "" for ours, _, _ in cells) >= len(cells) - 2
        assert not any("nan" in part for cell in cells for part in cell)
    assert "<td>" in grid._repr_html_()
