"""The errata that no other file tests, each with what the paper or its code says and what is so; and that each has a test."""

import ast
import math
import re

import numpy as np
import pytest
import torch
from browser import ROOT
from torch import nn

from advlab import attacks, evaluate, masking, models, squeezing, stability, training
from advlab.stability import losses
from labbook.feature_squeezing import paper as xu
from labbook.random_mask import paper as luo

PAGE = (ROOT / "book" / "errata.md").read_text()
ENTRIES = re.findall(r"^- \*\*(.+?)\*\* (.*)$", PAGE, re.M)


@pytest.mark.parametrize(("title", "text"), ENTRIES, ids=[title.rstrip(".") for title, _ in ENTRIES])
def test_every_entry_names_tests_that_exist(title, text):
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", text)
    assert named, "an erratum is shown by a test"
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text())
        assert test in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], (file, test)


def test_every_bullet_of_the_page_is_an_entry():
    assert len(ENTRIES) == len(re.findall(r"^\s*[-*] ", PAGE, re.M)) >= 16
    named = re.findall(r"`tests/test_errata\.py::(\w+)`", PAGE)
    own = [node.name for node in ast.parse((ROOT / "tests" / "test_errata.py").read_text()).body if hasattr(node, "name")]
    helpers = ("test_every_entry_names_tests_that_exist", "test_every_bullet_of_the_page_is_an_entry")
    assert sorted(set(named)) == sorted(n for n in own if n.startswith("test_") and n not in helpers)


# ---------------------------------------------------------------------------------------------- Feature Squeezing


def test_choosing_a_detector_by_its_score_overrates_it():
    """Twelve detectors that all catch four in five: the one that does best on the images it is chosen by is no better."""
    singles = {name: row for name, row in xu.TABLE_4["cifar10"].items() if name != "joint"}
    assert xu.TABLE_4["cifar10"]["joint"][-1] >= max(row[-1] for row in singles.values()), "the winner is what is printed"
    rng = np.random.default_rng(0)
    seen, fresh = rng.binomial(271, 0.8, (2, 4000, len(singles) + 1)) / 271
    winner = seen.argmax(1)[:, None]
    assert np.take_along_axis(seen, winner, 1).mean() > 0.83
    assert np.take_along_axis(fresh, winner, 1).mean() == pytest.approx(0.8, abs=0.003)


def test_no_gradient_passes_through_the_bits():
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    (bits,) = squeezing.with_gradient(("1-bit",), "none").values()
    assert torch.autograd.grad(bits(x).sum(), x)[0].abs().max() == 0
    (slope,) = torch.autograd.grad(squeezing.with_gradient(("1-bit",), "soft")["1-bit"](x).sum(), x)
    assert slope.min() > 0
    far = (x - 0.5).abs() > 1e-3  # and that is the true slope of a staircase
    assert torch.equal(bits(x)[far], bits(x + 1e-6)[far])


def test_clipping_after_the_attack_is_no_attack_within_the_budget():
    """One weight is large: the nearest error in L2 moves that input far, and loses most of the move when it is clipped."""
    net = nn.Linear(20, 2, bias=True).double().eval()
    with torch.no_grad():
        net.weight.zero_()[1] = torch.cat([torch.tensor([8.0]), torch.ones(19)])
        net.bias.copy_(torch.tensor([0.0, -5.0 - 27 * 0.4]))
    x, y, eps = torch.full((1, 20), 0.4, dtype=torch.float64), torch.tensor([0]), 0.3
    free = attacks.cw_l2(net, x, y)
    assert net(free).argmax() == 1
    clipped = x + (free - x).clamp(-eps, eps)
    assert net(clipped).argmax() == 0, "as in the paper: clipped when it was finished"
    assert net(attacks.pgd(net, x, y, eps=eps)).argmax() == 1, "as it should be: an attack inside the budget"


def test_a_search_that_ignores_the_penalty_ends_where_the_detector_fires():
    """One input, wrong above 0.3; the detector fires below 0.6. Only a search that asks the detector too ends beyond."""
    x = torch.tensor([[0.1]], dtype=torch.float64)
    options = {"penalty": lambda z: 9 * (0.7 - z[:, 0]).relu(), "search_steps": 8, "steps": 200}
    theirs = attacks.minimal_l2(lambda z: 0.3 - z[:, 0], x, **options)
    ours = attacks.minimal_l2(lambda z: 0.3 - z[:, 0], x, accept=lambda z: z[:, 0] > 0.6, **options)
    assert 0.3 <= theirs.item() < 0.6 < ours.item()


#: Table 2 of Xu et al., ImageNet, 224 x 224 pixels: attack -> (mean L2, mean share of changed pixels).
IMAGENET = {
    "FGSM": (3.009, 0.994),
    "BIM": (1.406, 0.984),
    "CWinf next": (1.312, 0.850),
    "CWinf LL": (1.909, 0.952),
    "DeepFool": (0.726, 0.984),
    "CW2 next": (0.666, 0.323),
    "CW2 LL": (1.027, 0.543),
    "CW0 next": (6.825, 0.003),
    "CW0 LL": (9.082, 0.005),
}


def test_so_many_pixels_of_an_8_bit_image_are_farther_away():
    """With k changed pixels it is at least sqrt(k) / 255 away, and the root of a share is at least that share."""

    def least(side, share):
        return share * side / 255  # the mean of sqrt(share side^2) / 255 is no less than this

    draw = np.random.default_rng(9)
    for share in (0.2, 0.9):
        changed = draw.random((100, 14, 14)) < share * draw.random((100, 1, 1))
        changes = changed * draw.integers(1, 3, changed.shape) * draw.choice([-1, 1], changed.shape) / 255
        assert np.sqrt((changes**2).sum((1, 2))).mean() >= least(14, changed.mean())
    assert least(224, 0.984) == pytest.approx(0.864, abs=5e-4)
    assert [name for name, (l2, share) in IMAGENET.items() if l2 + 5e-4 < least(224, share - 5e-4)] == ["DeepFool"]
    for name, side in (("mnist", 28), ("cifar10", 32)):
        for row in xu.TABLE_2[name].values():
            assert row[3] > least(side, row[4]), "the other two data sets are in order"


# ---------------------------------------------------------------------------------------------- ReLU stability


def test_the_loss_of_the_code_is_a_mean_over_positions_in_one_variant():
    """The two reductions of the authors' code, written out in NumPy, on the layers of their network."""
    rng = np.random.default_rng(1)
    low = -rng.random((3, 14, 14, 16))  # theirs: channels last
    high = rng.random((3, 14, 14, 16))
    naive = -np.tanh(1 + low * high).sum(-1).mean()
    improved = -np.tanh(1 + low * high).reshape(3, -1).sum(-1).mean()
    assert improved / naive == pytest.approx(14 * 14)
    ours = [tuple(torch.from_numpy(b).permute(0, 3, 1, 2) for b in (low, high))] * 2
    assert float(losses.rs_loss(ours, reduction="mean")) == pytest.approx(naive)
    assert float(losses.rs_loss(ours)) == pytest.approx(improved)


def test_units_that_read_nothing_are_stable_whatever_the_budget():
    """A network of constants is all stable, by the count of the paper; the share among live units is another."""
    net = models.stability_cnn().eval()
    with torch.no_grad():
        net[0].weight[4:] = 0
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    silent = torch.equal(net[0](x)[:, 4:], net[0](1 - x)[:, 4:])
    assert silent, "12 of 16 channels do not see the image"
    counts = stability.count_units(net, x, 1.0)
    assert counts.constant[0] == 12 * 14 * 14
    assert counts.unstable[0] <= 4 * 14 * 14
    assert counts.share_unstable_of_live > counts.share_unstable


def test_bounds_use_the_full_budget_while_the_attack_grows():
    net = models.stability_cnn().eval()
    x, y = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3])
    early, late = (losses.pgd_pairs(net, x, y, done, eps=0.1, step_size=0.03) for done in (0.0, 1.0))
    moved = [(pairs[:, 0] - pairs[:, 1]).abs().max().item() for pairs in (early, late)]
    assert moved[0] < 0.011 < 0.09 < moved[1]
    with torch.no_grad():
        low, high = (x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1)  # the first layer's bounds, by hand
        centre, radius = (low + high) / 2, (high - low) / 2
        c, r = net[0](centre), nn.functional.conv2d(radius, net[0].weight.abs(), stride=2, padding=2)
        at_full = -(1 + (c - r) * (c + r)).tanh().mean((2, 3)).sum(1).mean()
        bounds = stability.interval_bounds(net, x, 0.1)
        own = losses.rs_loss([bounds[0], bounds[-1]], "mean")
        whole = losses.stability_loss(net, early, y, eps=0.1, rs=1.0) - losses.stability_loss(net, early, y, eps=0.1)
        others = losses.rs_loss([*bounds[1:3], bounds[-1]], "mean")
    assert own == pytest.approx(float(at_full), rel=1e-3)
    assert float(whole - others) == pytest.approx(float(at_full), rel=1e-2), "at the first step too"


# ---------------------------------------------------------------------------------------------- Random Mask


def test_the_masks_of_the_code_have_the_share_in_the_whole_tensor_only():
    """NumPy's permutation of the whole tensor, as the code draws: channels differ by what a hypergeometric law says."""
    c, h, w, p = 64, 32, 32, 0.5
    flat = np.ones(c * h * w, bool)
    flat[np.random.default_rng(2).permutation(flat.size)[: round(p * flat.size)]] = False
    theirs = (~flat.reshape(c, h, w)).sum((1, 2))
    assert theirs.sum() == p * c * h * w
    assert len(set(theirs.tolist())) > 10, "not p h w in each channel, as the text says"
    spread = math.sqrt(h * w * p * (1 - p))
    assert np.abs(theirs - p * h * w).max() < 5 * spread < 0.2 * p * h * w, "the difference is small"
    g = torch.Generator().manual_seed(3)
    text, code = ((~masking.draw_mask((c, h, w), p, kind=kind, generator=g)).sum((1, 2)) for kind in ("element", "tensor"))
    assert set(text.tolist()) == {p * h * w}
    assert code.sum() == p * c * h * w
    assert len(set(code.tolist())) > 10


def test_the_channel_mask_of_the_paper_has_fewer_weights():
    plain, narrow = models.resnet(18, 64), masking.narrow_resnet(18, 64, 0.5)
    masked = masking.masked_resnet(18, 64, 0.5, kind="channel")
    sizes = [sum(p.numel() for p in net.parameters()) for net in (plain, narrow, masked)]
    assert sizes[2] == sizes[0] > sizes[1]
    first = [dict(net.named_parameters())["stage1.0.residual.0.weight"].numel() for net in (plain, narrow)]
    assert first[0] == 4 * first[1], "half of the inputs and half of the outputs"
    assert not [layer for layer in narrow.modules() if isinstance(layer, masking.RandomMask)]


def test_the_same_mask_for_all_channels_does_better_in_table_8():
    """At 5,000 images (1,000 for CW) the intervals of the two rows do not overlap in any column."""
    same, independent = luo.TABLE_8["50_shared"].attacked, luo.TABLE_8["50"].attacked
    for attack, a, b in zip(luo.ATTACKS, same, independent, strict=True):
        n = 1000 if attack.startswith("CW") else 5000
        assert evaluate.clopper_pearson(round(a * n), n)[0] > evaluate.clopper_pearson(round(b * n), n)[1], attack


def test_the_best_epoch_on_the_test_set_flatters():
    """A hundred epochs at a true accuracy of 0.9, all on the same 10,000 images: the best is above it, the last is not."""
    rng = np.random.default_rng(4)
    measured = rng.binomial(10_000, 0.9, (2000, 100)) / 10_000
    assert measured.max(1).mean() - 0.9 > 0.005
    assert measured[:, -1].mean() == pytest.approx(0.9, abs=0.0005)


def test_our_networks_are_those_of_the_last_step():
    """Three steps of gradient descent on one batch, by hand: what training leaves is the third."""
    x, y = torch.rand(64, 4, generator=torch.Generator().manual_seed(5)), torch.arange(64) % 2
    net = nn.Linear(4, 2)
    weight, bias = (p.detach().clone().requires_grad_() for p in net.parameters())
    training.fit(net, x, y, epochs=3, batch_size=64, optimizer=lambda w: torch.optim.SGD(w, 0.5), progress=False)
    for _ in range(3):
        loss = nn.functional.cross_entropy(x @ weight.T + bias, y)
        steps = torch.autograd.grad(loss, (weight, bias))
        weight, bias = ((p - 0.5 * step).detach().requires_grad_() for p, step in zip((weight, bias), steps, strict=True))
    assert torch.allclose(net.weight, weight, atol=1e-6)
    assert torch.allclose(net.bias, bias, atol=1e-6)


def test_fgsm_of_the_code_leaves_the_budget_in_two_colours():
    """The code's step in normalised space, eps over the smallest deviation for all colours; and ours, in pixels."""
    mean, std, eps = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010]), 8 / 255
    x = np.random.default_rng(6).uniform(0.2, 0.8, (3, 8, 8))
    signs = np.sign(np.random.default_rng(7).normal(size=x.shape))
    moved = ((x - mean[:, None, None]) / std[:, None, None] + eps / std.min() * signs) * std[:, None, None] + mean[
        :, None, None
    ]
    change = np.abs(moved - x).max((1, 2))
    assert (change > eps * (1 + 1e-9)).tolist() == [True, False, True]
    assert change.max() < 1.02 * eps, "slightly"
    net = nn.Sequential(models.Normalize(mean, std), nn.Flatten(), nn.Linear(192, 10)).double().eval()
    image = torch.from_numpy(x)[None]
    ours = attacks.fgsm(net, image, net(image).argmax(1), eps=eps)
    assert (ours - image).abs().amax((0, 2, 3)).tolist() == pytest.approx([eps] * 3, rel=1e-9)


def test_keeping_only_what_fools_the_source_makes_targets_look_worse():
    """Two linear networks that are alike: where the source is fooled the target is fooled more often."""
    g = torch.Generator().manual_seed(8)
    base = torch.randn(2, 30, generator=g)
    source, target = (nn.Linear(30, 2, bias=False).eval() for _ in range(2))
    with torch.no_grad():
        source.weight.copy_(base)
        target.weight.copy_(base + 0.7 * torch.randn(2, 30, generator=g))
    x = torch.rand(2000, 30, generator=g)
    y = source(x).argmax(1)

    def attack(net, x, y):
        return attacks.fgsm(net, x, y, eps=0.05)

    everything, chosen = (
        evaluate.transfer_matrix({"s": source}, {"t": target}, x, y, attack, fooled=fooled) for fooled in (False, True)
    )
    x_adv = attack(source, x, y)  # by hand
    fooled, right = source(x_adv).argmax(1) != y, target(x_adv).argmax(1) == y
    assert 0.2 < fooled.float().mean() < 0.95
    assert chosen.accuracy.item() == pytest.approx(right[fooled].float().mean().item(), abs=1e-6)
    assert everything.accuracy.item() == pytest.approx(right.float().mean().item(), abs=1e-6)
    assert chosen.accuracy < everything.accuracy - 0.02
