"""Borders of the library where a changed sign or constant was seen by no other test: found by changing them at random."""

import pytest
import torch
from torch import nn

from advlab import attacks, evaluate, masking, verification
from advlab.verification import search, verifier


def affine(weight, bias):
    """One input, two classes with the margin weight x + bias."""
    net = nn.Sequential(nn.Linear(1, 2)).double().eval()
    net[0].weight.data = torch.tensor([[weight], [0.0]]).double()
    net[0].bias.data = torch.tensor([bias, 0.0]).double()
    return net


@pytest.mark.parametrize(("at", "weight", "bias"), [(0.05, 1.0, 0.1), (0.95, -1.0, 1.1)], ids=["low", "high"])
def test_the_ball_ends_where_images_end(at, weight, bias):
    """The margin is 0.1 at the border of [0, 1], and would be below 0 in the part of the ball beyond it."""
    x = torch.tensor([at], dtype=torch.float64)
    verdict = verification.verify(affine(weight, bias), x, 0, 0.2)
    assert verdict.status == "robust"
    assert verdict.bound == pytest.approx(0.1)
    nearer = verification.verify(affine(weight, bias - 0.11), x, 0, 0.2)
    assert nearer.status == "counterexample", "the ball reaches the border itself"
    assert -0.01 - 1e-9 <= nearer.bound < 0


def still(logits, y, targets):
    """A loss without a gradient: an attack stays where it begins."""
    return 0 * logits.sum(1)


def test_start_is_where_the_first_run_begins_and_no_other():
    x, y = torch.tensor([[0.9, 0.2], [0.8, 0.1]]), torch.tensor([0, 0])
    near, far = torch.tensor([[0.8, 0.3], [0.7, 0.1]]), torch.tensor([[0.1, 0.2], [0.8, 0.9]])
    net = nn.Identity().eval()

    def run(start, **options):
        return attacks.pgd(net, x, y, eps=0.2, steps=2, loss=still, start=start, **options)

    assert torch.allclose(run(near), near)
    assert torch.allclose(run(far), torch.tensor([[0.7, 0.2], [0.8, 0.3]])), "projected into the ball"
    assert torch.equal(run(near, restarts=2, random_start=False), x), "the second run begins at x"
    again = run(near, restarts=2, generator=torch.Generator().manual_seed(0))
    assert not torch.isclose(again, near).all(1).any()
    assert ((again - x).abs() <= 0.2 + 1e-6).all()
    broken = torch.tensor([[0.5, 0.6], [0.7, 0.1]])  # adversarial in a ball of 0.4
    kept = attacks.pgd(net, x, y, eps=0.4, steps=2, loss=still, start=broken, restarts=2, random_start=False)
    assert torch.equal(kept, torch.stack([broken[0], x[1]])), "what the first run broke is done"


class Blind(nn.Module):
    """Two logits; of the images whose first value is below ``share`` no gradient comes back."""

    def __init__(self, share, trained=True):
        super().__init__()
        self.share, self.line = share, nn.Linear(2, 2).requires_grad_(trained)

    def forward(self, x):
        return self.line(torch.where(x[:, :1] < self.share, x.detach(), x))


@pytest.mark.parametrize("trained", [True, False], ids=["weights want gradients", "frozen weights"])
def test_a_gradient_that_never_reaches_the_input_is_flagged(trained):
    """Whether the graph ends before the input, or there is none."""
    model = Blind(2.0, trained).eval()
    model.forward = lambda x: model.line(x.detach())
    found = evaluate.robust_accuracy(model, torch.rand(10, 2), torch.zeros(10).long(), lambda m, x, y: x)
    (flag,) = found.flags
    assert flag.id == "zero-gradient"
    assert flag.evidence == ("100% of 10 images" if trained else "no gradient reaches the input at all")


@pytest.mark.parametrize(("blind", "evidence"), [(2, None), (3, "8% of 40 images")])
def test_a_gradient_that_is_missing_for_more_than_one_image_in_twenty_is_flagged(blind, evidence):
    x = torch.linspace(0.0, 0.9, 40)[:, None].repeat(1, 2)
    model = Blind(float(x[blind, 0])).eval()
    found = evaluate.robust_accuracy(model, x, torch.zeros(40).long(), lambda m, x, y: x)
    assert [flag.evidence for flag in found.flags if flag.id == "zero-gradient"] == ([evidence] if evidence else [])


@pytest.mark.parametrize(("channels", "period", "drop"), [(7, 2, 0.3), (5, 3, 0.5), (6, 4, 0.26), (3, 1, 0.5), (9, 5, 0.97)])
def test_zeros_that_do_not_divide_go_to_some_of_the_channels(channels, period, drop):
    total = round(drop * period**2 * channels)
    assert total % channels, "or it says nothing"
    fuller = torch.zeros(channels)
    for seed in range(300):
        kept = masking.draw_mask(
            (channels, period, period), drop, kind="periodic", period=period, generator=torch.Generator().manual_seed(seed)
        )
        zeros = (~kept).sum((1, 2))
        assert zeros.sum() == total
        assert set(zeros.tolist()) == {total // channels, total // channels + 1}
        fuller += zeros > total // channels
    share = total % channels / channels
    assert (fuller / 300 - share).abs().max() < 4.5 * (share * (1 - share) / 300) ** 0.5, "each as often as another"


@pytest.mark.parametrize(("kind", "size"), [("periodic", 4), ("periodic", 9), ("block", 4), ("block", 9)])
def test_tiles_and_blocks_that_do_not_fit_are_cut_off(kind, size):
    """On 7 by 10: neither is a multiple of 4, and 9 fits one of them only."""
    options = {"period" if kind == "periodic" else "block": size}
    kept = masking.draw_mask((5, 7, 10), 0.4, kind=kind, generator=torch.Generator().manual_seed(0), **options)
    assert kept.shape == (5, 7, 10)
    for i in range(7):
        for j in range(10):
            same = (i % size, j % size) if kind == "periodic" else (i // size * size, j // size * size)
            assert torch.equal(kept[:, i, j], kept[:, same[0], same[1]])
    if kind == "periodic":
        assert kept[:, :size, :size].any(), "a tile is no block"
        assert not kept.all()


@pytest.mark.parametrize(
    ("units", "last", "seconds", "shares"),
    [
        (149, "mixed-integer", 40.0, [0.5, 0.5, 0.5]),
        (149, "mixed-integer", 0.9, [0.3, 0.3, 0.3]),
        (150, "mixed-integer", 40.0, [2.0, 2.0, 2.0, 17.0, 8.5, 4.25]),
        (399, "mixed-integer", 1.2, [0.4, 0.4, 0.4, 0.0, 0.0, 0.0]),
        (400, "mixed-integer", 40.0, [20.0, 10.0, 5.0]),
        (5, "branch and bound", 40.0, [2.0, 2.0, 2.0, 17.0, 8.5, 8.5]),
        (5, "branch and bound", 1.2, [0.2, 0.25, 0.375, 0.1875, 0.09375, 0.09375]),
    ],
)
def test_branch_and_bound_has_its_share_of_the_time_for_each_margin(monkeypatch, units, last, seconds, shares):
    """Few units: a moment, or what there is. Many: half of the rest. Between, both. Without a solver: then all of the rest."""
    clock, asked = [100.0], []

    def branched(problem, k, check, *, deadline, **_):
        asked.append(deadline - clock[0])
        clock[0] = deadline
        return search.Found("unknown", -1.0)

    monkeypatch.setattr(verifier, "branch_and_bound", branched)
    monkeypatch.setattr(verifier, "mixed_integer", lambda *_, **__: search.Found("unknown", -1.0))
    monkeypatch.setattr(verifier.time, "thread_time", lambda: clock[0])
    problem = type("Problem", (), {"units": units})()
    budget = verifier.Budget(verifier.Clock(seconds), 1e-6, verifier.STAGES.index(last), "highs")
    verifier.search_margins(problem, torch.tensor([-1.0, -2.0, -3.0]), {k: torch.zeros(units) for k in range(3)}, None, budget)
    assert asked == pytest.approx(shares)


def test_one_budget_one_norm_and_one_precision():
    """One budget for each image, a norm that there is not, and an attack in another precision, each by name."""
    net, x, y = nn.Identity().eval(), torch.tensor([[0.9, 0.2], [0.8, 0.1]]), torch.tensor([0, 0])
    budgets = torch.tensor([0.1, 0.2])
    with pytest.raises(TypeError, match=r"eps has the shape \(2,\); it is one budget for all images"):
        attacks.pgd(net, x, y, eps=budgets)
    with pytest.raises(ValueError, match="norm is 'l7'"):
        evaluate.robust_accuracy(net, x, y, lambda m, x, y: x, norm="l7")
    with pytest.raises(TypeError, match=r"the attack returned torch.float64 for torch.float32: let it end with x_adv.to"):
        evaluate.robust_accuracy(net, x, y, lambda m, x, y: x.double())
