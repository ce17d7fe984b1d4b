"""Chapter 5: proofs about squeezed inputs against brute force, what it means to stand, and the manifest's own consistency."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from torch import nn

from advlab import squeezing
from advlab.verification import certificates
from labbook import results
from labbook.all_against_all import comparison, ladder
from labbook.all_against_all.defences import CURVES, ROWS, SETTINGS, Defended, OneBit, Row, defended, images, network

ONE_BIT = squeezing.SQUEEZERS["1-bit"]


def tiny(seed, classes=10, side=3):
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(side * side, 12), nn.ReLU(), nn.Linear(12, classes)]
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["1-bit", "5-bit", "median 2x2", "median 3x3"])
@pytest.mark.parametrize("eps", [0.0, 2 / 255, 0.1, 0.6])
def test_no_squeezed_image_of_the_ball_leaves_its_box(name, eps):
    torch.manual_seed(0)
    x = torch.rand(4, 3, 6, 6)
    x[0] = (x[0] * 255).round() / 255
    squeezer = squeezing.SQUEEZERS[name]
    low, high = certificates.reachable(squeezer, x, eps)
    for k in range(300):
        step = eps * (2 * torch.rand(x.shape) - 1) if k % 2 else eps * torch.randn(x.shape).sign()
        inside = (x.double() + step.double().clamp(-eps, eps)).clamp(0, 1).float()
        squeezed = squeezer(inside)
        assert bool((low <= squeezed).all() and (squeezed <= high).all())
    assert not torch.equal(low, high) or eps == 0


def test_the_bit_that_proofs_know_is_the_squeezers():
    near = torch.tensor(0.5).nextafter(torch.tensor([0.0, 0.5, 1.0]))
    x = torch.cat([near, torch.linspace(0, 1, 1001), torch.arange(256) / 255])
    assert torch.equal(x.round(), squeezing.SQUEEZERS["1-bit"](x))


def test_non_local_means_do_leave_it():
    """Why the chapter leaves them out: they are not monotone."""
    torch.manual_seed(0)
    squeezer = squeezing.SQUEEZERS["nlm 11-3-4"]
    x = (torch.rand(4, 1, 12, 12) > 0.5).float() * 0.5 + 0.25
    low, high = certificates.reachable(squeezer, x, 0.2)
    left = False
    for _ in range(50):
        squeezed = squeezer((x + 0.2 * torch.randn(x.shape).sign()).clamp(0, 1))
        left |= bool((squeezed < low - 1e-4).any() or (squeezed > high + 1e-4).any())
    assert left


def worst_accepted(at_squeezed, threshold, generator):
    """The least gap of class 0 among answers within the threshold in L1: the obvious move, and random ones of that length."""
    classes, least = len(at_squeezed), math.inf
    for k in range(40):
        to = torch.zeros(classes, dtype=torch.float64)
        to[int(at_squeezed[1:].argmax()) + 1] = 1.0
        if k:
            to[1:] = torch.rand(classes - 1, generator=generator, dtype=torch.float64) + 1e-9
        taken = min(threshold / 2, float(at_squeezed[0]))
        answer = at_squeezed + taken * to / to.sum()
        answer[0] -= taken
        assert (answer - at_squeezed).abs().sum() <= threshold + 1e-12
        assert abs(answer.sum() - 1) < 1e-9
        least = min(least, float(answer[0] - answer[1:].max()))
    return least


@given(st.floats(0, 0.95), st.integers(2, 12), st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_with_the_lead_no_accepted_answer_is_wrong(threshold, classes, seed):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(classes, generator=g, dtype=torch.float64) * (seed % 3)
    logits[0] = logits[1:].max() + certificates.needed_lead(threshold, classes) + 1e-9
    assert worst_accepted(logits.softmax(0), threshold, g) > 0


@pytest.mark.parametrize("threshold", [0.01, 0.0537, 0.3, 0.9])
@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_no_smaller_lead_is_enough(threshold, classes):
    """The conclusion itself fails below it, not only a step of the argument: an accepted answer with another class ahead."""
    logits = torch.zeros(classes, dtype=torch.float64)
    logits[0] = certificates.needed_lead(threshold, classes) - 1e-6
    assert worst_accepted(logits.softmax(0), threshold, torch.Generator().manual_seed(0)) < 0


def test_leads_in_figures_and_bad_thresholds_are_named():
    assert certificates.needed_lead(0.0537, 10) == pytest.approx(0.4497, abs=5e-4)
    assert certificates.needed_lead(0.0) == 0.0
    assert certificates.needed_lead(1.5) == math.inf
    for bad in ((-0.1, 10), (math.nan, 10), (0.1, 1)):
        with pytest.raises(ValueError, match="at least 0 and 2"):
            certificates.needed_lead(*bad)


def brute_force(net, x, y, eps):
    """The least margin over all images of one bit that the ball reaches, in float64."""
    double = nn.Sequential(*net).double()
    low, high = ((x.double() - eps).clamp(0, 1) > 0.5), ((x.double() + eps).clamp(0, 1) > 0.5)
    places = (low != high).flatten().nonzero()[:, 0].tolist()
    margins = []
    for choice in itertools.product((0.0, 1.0), repeat=len(places)):
        corner = low.double().flatten()
        for place, value in zip(places, choice, strict=True):
            corner[place] = value
        logits = double(corner.view(1, *x.shape))[0]
        margins.append(float(logits[y] - torch.cat([logits[:y], logits[y + 1 :]]).max()))
    nn.Sequential(*net).float()
    return min(margins)


def test_one_bit_is_decided_as_by_brute_force():
    seen = set()
    for seed in range(40):
        net = tiny(seed)
        x = torch.rand(1, 3, 3, generator=torch.Generator().manual_seed(seed))
        y = int(net(ONE_BIT(x[None])).argmax())
        eps = 0.05 + 0.3 * (seed % 5) / 5
        found = certificates.verify_one_bit(net, x, y, eps)
        least = brute_force(net, x, y, eps)
        assert found.status == ("robust" if least > 0 else "counterexample"), seed
        seen.add(found.status)
        if found.witness is not None:
            assert (found.witness.double() - x.double()).abs().max() <= eps
            assert 0 <= found.witness.min() <= found.witness.max() <= 1
            assert int(net(ONE_BIT(found.witness[None])).argmax()) != y
        else:
            assert found.bound <= least + 1e-6
        squeezed = certificates.verify_squeezed(net, ONE_BIT, x, y, eps)
        assert squeezed.status != "robust" or least > 0, "a proof on the box is a proof"
        if math.isfinite(least) and least > 0.05:
            held = certificates.verify_squeezed(net, ONE_BIT, x, y, eps, lead=least + 1e-3)
            assert held.status != "robust", "no more lead than there is"
    assert seen == {"robust", "counterexample"}


@pytest.mark.parametrize("classes", [2, 3, 10, 25])
def test_one_bit_with_a_lead_and_any_number_of_classes(classes):
    seen = set()
    for seed in range(12):
        net = tiny(seed, classes)
        x = torch.rand(1, 3, 3, generator=torch.Generator().manual_seed(seed))
        y, eps = int(net(ONE_BIT(x[None])).argmax()), 0.15
        least = brute_force(net, x, y, eps)
        for lead in (0.02, max(least, 0.0) * 0.9, abs(least) * 1.1 + 0.01):
            found = certificates.verify_one_bit(net, x, y, eps, lead=lead)
            expected = "robust" if least > lead else "counterexample" if least < 0 else "unknown"
            assert found.status in {expected, "unknown" if least < 0 else expected}, (seed, lead, least)
            seen.add(found.status)
            squeezed = certificates.verify_squeezed(net, ONE_BIT, x, y, eps, lead=lead)
            assert squeezed.status != "robust" or least > lead
    assert {"robust", "unknown"} <= seen


@pytest.mark.parametrize("lead", [math.nan, -1.0, math.inf])
def test_a_lead_that_is_none_proves_nothing(lead):
    """On a box of one corner, too, where no bound is computed that could refuse it."""
    x = torch.tensor([[[0.0, 1, 0], [1, 0, 1], [0, 1, 1]]])
    for prove in (
        certificates.verify_one_bit,
        lambda net, *given, **more: certificates.verify_squeezed(net, ONE_BIT, *given, **more),
    ):
        with pytest.raises(ValueError, match="lead is"):
            prove(tiny(0), x, 0, 0.1, lead=lead)


def test_one_bit_without_time_is_unknown():
    assert certificates.verify_one_bit(tiny(0), torch.full((1, 3, 3), 0.5), 0, 0.1, time_limit=1e-12).status == "unknown"


def verify_squeezed(net, *given, **more):
    return certificates.verify_squeezed(net, ONE_BIT, *given, **more)


PROOFS = pytest.mark.parametrize("prove", [certificates.verify_one_bit, verify_squeezed])


@PROOFS
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": torch.full((1, 3, 3), math.nan)}, "is nan"),
        ({"x": torch.full((1, 3, 3), 20.0)}, r"in \[0, 1\]"),
        ({"x": torch.ones(1, 3, 3, dtype=torch.uint8)}, "x is torch.uint8"),
        ({"y": -1}, "y.* is -1"),
        ({"y": 10}, "y.* is 10"),
        ({"eps": math.inf}, "eps is inf"),
        ({"time_limit": -1.0}, "time_limit is -1"),
    ],
)
def test_bad_input_proves_nothing(prove, given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        prove(tiny(0), **{"x": torch.full((1, 3, 3), 0.9), "y": 0, "eps": 0.1} | given)


@pytest.mark.parametrize("x", [torch.ones(1, 1, 2, 2, dtype=torch.uint8), torch.full((1, 1, 2, 2), 20.0), torch.ones(4)])
def test_a_box_is_of_images(x):
    with pytest.raises((ValueError, TypeError), match=r"x is|x\[.* is 20|x has"):
        certificates.reachable(ONE_BIT, x, 0.1)


@PROOFS
def test_a_network_in_training_mode_is_refused_as_it_was(prove):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)).train()
    before = net[1].running_mean.clone()
    with pytest.raises(ValueError, match=r"call net.eval\(\)"):
        prove(net, torch.rand(1, 4, 4), 0, 0.1)
    assert torch.equal(net[1].running_mean, before)


@PROOFS
def test_proofs_are_the_same_in_inference_mode(prove):
    x = torch.rand(1, 3, 3, generator=torch.Generator().manual_seed(0))
    outside = prove(tiny(0), x, 0, 0.2)
    with torch.inference_mode():
        inside = prove(tiny(0), x.clone(), 0, 0.2)
    assert (inside.status, inside.bound) == (outside.status, outside.bound)


def linear_of_three(rows, bias):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, len(rows))).eval().requires_grad_(False)
    net[1].weight.copy_(torch.tensor(rows))
    net[1].bias.copy_(torch.tensor(bias))
    return net


@PROOFS
def test_no_proof_of_what_rounding_hides_or_of_less_than_the_margin(prove):
    """Where no pixel is free too: two large weights cancel, and float64 loses the -4.6 that decides; and a lead of 1e-7."""
    large = 1.265928811493458e17
    lost = linear_of_three([[-4.590921878814697, large, -large], [0.0, 0.0, 0.0]], [0.32575396, 0.0])
    x = torch.ones(1, 1, 3)
    assert lost.double()(x[None].double())[0, 0] > 0, "float64 says so, and is wrong"
    assert prove(lost.float(), x, 0, 0.1).status == "unknown"
    for lead, status in ((1e-7, "unknown"), (2e-6, "robust")):
        assert prove(linear_of_three([[0.0] * 3] * 2, [lead, 0.0]), x, 0, 0.1).status == status


def test_no_counterexample_of_what_rounding_hides():
    large = 1.265928811493458e17
    lost = linear_of_three([[4.590921878814697, large, -large], [0.0, 0.0, 0.0]], [-0.32575396, 0.0])
    assert certificates.verify_one_bit(lost, torch.ones(1, 1, 3), 0, 0.1).status == "unknown"


def test_an_image_stands_only_if_it_was_right_and_is_right_or_flagged():
    class Says(nn.Module):
        def forward(self, x):
            return nn.functional.one_hot((x.flatten(1)[:, 0] * 10).long().clamp(0, 9), 10).float()

    answers = torch.tensor([0.35, 0.55, 0.35])[:, None, None, None]
    y = torch.tensor([3, 3, 3])
    plain = Defended(Says().eval(), {})
    assert plain.answers(answers).tolist() == [3, 5, 3]
    assert plain.holds(answers, y).tolist() == [True, False, True]
    alarmed = Defended(Says().eval(), {}, lambda x: torch.tensor([True, True, False]))
    assert alarmed.answers(answers).tolist() == [-1, -1, 3]
    assert alarmed.right(answers, y).tolist() == [False, False, True]
    assert alarmed.holds(answers, y).tolist() == [True, True, True]


def test_the_bit_is_in_the_loop():
    x = torch.tensor([[[[0.2, 0.8]]]], requires_grad=True)
    out = OneBit()(x)
    assert out.flatten().tolist() == [0.0, 1.0]
    assert torch.autograd.grad(out.sum(), x)[0].tolist() == [[[[1.0, 1.0]]]]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_mcnemar_is_the_binomial_test_of_what_differs(pairs):
    first, second = (torch.tensor(column) for column in zip(*pairs, strict=True))
    found = comparison.paired(first, second)
    more, less = pairs.count((True, False)), pairs.count((False, True))
    assert (found.gained, found.lost) == (more, less)
    expected = min(1.0, 2 * float(binom.cdf(min(more, less), more + less, 0.5))) if more + less else 1.0
    assert found.p == pytest.approx(expected)


def test_the_limits_of_a_lead_hold_it_as_often_as_they_say():
    """By simulation, at shares like those of the table, null and not."""
    for gains, losses in ((0.02, 0.02), (0.06, 0.01), (0.0, 0.03)):
        g, held = torch.Generator().manual_seed(0), 0
        for _ in range(200):
            draw = torch.rand(200, generator=g)
            low, high = comparison.paired(draw < gains, (draw >= gains) & (draw < gains + losses)).limits
            assert high - low < 0.16
            held += low <= gains - losses <= high
        assert held >= 190


def test_outcomes_of_other_images_are_refused():
    with pytest.raises(ValueError, match="the same ones"):
        comparison.paired(torch.ones(3, dtype=torch.bool), torch.ones(4, dtype=torch.bool))


@pytest.mark.parametrize("key", ["none", "detector", "one_bit", "rs"])
def test_a_slice_keeps_the_chain(key):
    """Attacks and proofs share no code; on every image they must agree."""
    row = ROWS["mnist"][key]
    ends, _ = ladder.attacked(row, 6, ladder.TRIAL)
    known = ladder.proved(row, 6, ladder.TRIAL)
    assert tuple(ends) == ladder.ATTACKS
    worst = torch.stack(list(ends.values())).all(0)
    assert not (~worst & (known >= ladder.PROVED)).any()
    assert all(not (stands & ~ends["clean"]).any() for stands in ends.values())


def test_a_detector_is_proved_where_every_image_of_one_bit_has_the_lead_and_nowhere_else():
    """Brute force over every choice of the free pixels, with the gap of probabilities that the threshold asks for."""
    row = ROWS["mnist"]["detector"]
    net, threshold = network(row.network), defended(row).threshold
    x, y = images("mnist", 40)
    known, told = ladder.proved(row, 40, ladder.TRIAL), 0
    for k in range(40):
        low, high = ((x[k] + sign * 0.1).clamp(0, 1) > 0.5 for sign in (-1, 1))
        places = (low != high).flatten().nonzero()[:, 0]
        if len(places) > 10:
            continue
        corners = low.float().flatten().repeat(2 ** len(places), 1)
        corners[:, places] = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(places))))
        with torch.no_grad():
            chance = net(corners.view(-1, 1, 28, 28)).softmax(1)
        others = chance.clone()
        others[:, y[k]] = -1.0
        bound = bool((chance[:, y[k]] - others.amax(1) > threshold).all())
        if known[k] == ladder.PROVED:
            assert bound, k
        told += bound and known[k] in (ladder.PROVED, ladder.BOUNDED)
    assert told >= 8


def test_a_threshold_is_fitted_once_and_is_below_one_on_digits():
    assert defended(ROWS["mnist"]["detector"]) is defended(ROWS["mnist"]["detector"])
    assert 0 < defended(ROWS["mnist"]["detector"]).threshold < 1
    assert defended(Row("none", "mnist", "mnist_small")).alarm is None


@pytest.mark.parametrize("dataset", ROWS)
def test_the_manifest_keeps_the_chain_on_every_image(dataset):
    for key in ROWS[dataset]:
        ends, known = comparison.outcomes(dataset, key)
        worst = torch.stack(list(ends.values())).all(0)
        assert not (~worst & (known >= ladder.PROVED)).any(), key
        entry = results.get(f"all_against_all.{dataset}_{key}")
        assert entry.value == pytest.approx(float(worst.double().mean()))
        proof = results.get(f"all_against_all.{dataset}_{key}_proved")
        assert proof.value == pytest.approx(float((known >= ladder.PROVED).double().mean()))
        assert proof.value <= entry.value


def test_tables_have_a_row_for_each_defence_and_pair():
    for dataset in ROWS:
        table = comparison.outcome_table(dataset)
        assert [label for label, _ in table.rows] == [row.label for row in ROWS[dataset].values()]
        assert SETTINGS[dataset].label in table.corner
        assert len(comparison.pair_table(dataset).rows) == len(comparison.PAIRS)
    for paper, (_, cells) in zip(comparison.CLAIMS_OF_PAPERS, comparison.claims_table().rows, strict=True):
        assert cells[0][0] == results.get(paper.there).show()
        assert cells[1][0] == results.get(paper.harder).show()
    for key in CURVES:
        budgets = results.get(f"all_against_all.budgets_{key}").series["eps"]
        assert budgets == sorted(budgets)
