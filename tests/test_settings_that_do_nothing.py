"""Settings with which an attack or a squeezer would do nothing, or fail deep inside, are refused with a sentence."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from advlab import attacks, evaluate, squeezing
from advlab.squeezing import adaptive, median_filter, non_local_means, reduce_bit_depth

VIEWS = squeezing.with_gradient(("median 2x2",), "soft")
#: The attacks that know the detector, with a few steps.
KNOWING = {
    "evade_l2": functools.partial(adaptive.evade_l2, search_steps=2, steps=5),
    "evade_linf": functools.partial(adaptive.evade_linf, eps=0.3, steps=5),
    "paper_adaptive": functools.partial(adaptive.paper_adaptive, search_steps=2, steps=5),
}


@pytest.fixture
def tiny():
    """A linear network of three classes, and images that it gets right."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    x = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    return net, x, net(x).argmax(1)


# ---------------------------------------------------------------------------------------------- who knows the detector


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("paper_adaptive", {"steps": 0}),
        ("paper_adaptive", {"steps": -1}),
        ("paper_adaptive", {"steps": 2.5}),
        ("paper_adaptive", {"search_steps": 0}),
        ("paper_adaptive", {"learning_rate": -1.0}),
        ("evade_l2", {"search_steps": 0}),
        ("evade_l2", {"learning_rate": math.nan}),
        ("evade_linf", {"step_size": 0.0}),
        ("evade_linf", {"step_size": -1.0}),
        ("evade_linf", {"step_size": math.nan}),
        ("evade_linf", {"steps": 2.5}),
        ("evade_linf", {"restarts": 0}),
        ("evade_linf", {"eps": math.inf}),
    ],
)
def test_numbers_with_which_an_attack_on_the_detector_does_nothing(name, options, tiny):
    net, x, y = tiny
    (option,) = options
    with pytest.raises(ValueError, match=f"{option} is .*(must be|budget)"):
        KNOWING[name](net, VIEWS, 0.3, x, y, **options)


@pytest.mark.parametrize("name", KNOWING)
def test_what_is_no_detector_is_refused(name, tiny):
    net, x, y = tiny
    for threshold in (-1, 0, math.nan, math.inf, "0.3"):
        with pytest.raises(ValueError, match=r"threshold is .* positive and finite"):
            KNOWING[name](net, VIEWS, threshold, x, y)
    for views, error, says in (
        (list(VIEWS.values()), TypeError, "squeezers is list; it must be a mapping"),
        (("1-bit",), TypeError, "squeezers is tuple; it must be a mapping"),
        ({}, ValueError, "squeezers is empty"),
    ):
        with pytest.raises(error, match=says):
            KNOWING[name](net, views, 0.3, x, y)


@pytest.mark.parametrize("name", KNOWING)
def test_a_model_that_cannot_be_attacked_does_not_look_robust(name, tiny):
    net, x, y = tiny
    for model, says in (
        (lambda v: net(v) * math.nan, r"logits are not finite: first at x\[0\]"),
        (lambda v: net((v > 0.5).float()), "no gradient to its input"),
        (lambda v: net(v + (v - v.detach()).sqrt() * 0), "gradients are not finite"),
    ):
        with pytest.raises(ValueError, match=says):
            KNOWING[name](model, VIEWS, 0.3, x, model(x).argmax(1) if "no gradient" in says else y)


def test_a_start_of_another_shape_or_with_nan_is_called_by_its_name(tiny):
    net, x, y = tiny
    attack, spoiled = functools.partial(KNOWING["evade_linf"], net, VIEWS, 0.3, x, y), x.clone()
    spoiled[2, 0, 1, 3] = math.nan
    for start, error, says in (
        (x[:2], ValueError, r"start has the shape \(2, 1, 4, 4\)"),
        (spoiled, ValueError, r"start\[2, 0, 1, 3\] is nan"),
        (x.numpy(), TypeError, "start is ndarray"),
    ):
        with pytest.raises(error, match=says):
            attack(start=start)
    assert attack(start=x.double()).dtype == torch.float32


def test_attacks_on_the_detector_run_in_inference_mode_as_outside(tiny):
    net, x, y = tiny
    for attack in KNOWING.values():
        made = attack(net, VIEWS, 0.3, x, y)
        with torch.inference_mode():
            assert torch.equal(attack(net, VIEWS, 0.3, x, y), made)


# ---------------------------------------------------------------------------------------------- squeezers


@pytest.mark.parametrize(
    ("value", "cutoff", "dtype", "expected"),
    [
        (1.0, 1e-9, torch.float32, 1),
        (1.0, 2e-4, torch.float16, 1),
        (0.3, 0.3, torch.float16, 0),
        (0.3, 0.3, torch.float32, 0),
        (0.3, 0.3, torch.float64, 0),
        (0.30000004, 0.3, torch.float32, 1),  # the next above it
        (0.5, 0.5, torch.float32, 0),
        (0.0, 1e-9, torch.float32, 0),
        (1.0, 1 - 1e-6, torch.float32, 1),
    ],
)
def test_a_cutoff_is_compared_and_not_rounded(value, cutoff, dtype, expected):
    x = torch.tensor([value], dtype=dtype)
    for gradient in ("none", "soft", "straight-through"):
        at = x.clone().requires_grad_()
        out = squeezing.binary_filter(at, cutoff, gradient=gradient)
        assert out.item() == expected
        assert out.dtype == dtype
        (slope,) = torch.autograd.grad(out.sum(), at)
        assert (slope.item() == 0) == (gradient == "none")
    assert squeezing.binary_filter(x, cutoff).item() == expected


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: reduce_bit_depth(x, 3, gradient="foo"), "gradient is 'foo'"),
        (lambda x: reduce_bit_depth((x * 255).byte(), 3, gradient="foo"), "gradient is 'foo'"),
        (lambda x: reduce_bit_depth(x, 3, sharpness=math.inf), "sharpness is inf"),
        (lambda x: reduce_bit_depth(x, 3, sharpness=math.nan), "sharpness is nan"),
        (lambda x: reduce_bit_depth(x, 3, sharpness="10"), "sharpness is '10'"),
        (lambda x: squeezing.binary_filter(x, "0.5"), "cutoff is '0.5'"),
        (lambda x: median_filter(x, math.inf), "size is inf; it must be a whole number"),
        (lambda x: median_filter(x, math.nan), "size is nan; it must be a whole number"),
        (lambda x: median_filter(x, "a"), "size is 'a'; it must be a whole number"),
        (lambda x: non_local_means(x, 3, 3, 1e-25), "strength is 1e-25; it must be positive"),
        (lambda x: non_local_means(x, 3, 3, 1e200), "strength is 1e\\+200; it must be positive"),
        (lambda x: squeezing.with_gradient(("3-bits",), "none"), "there is no squeezer '3-bits'; there are: 1-bit"),
        (lambda x: squeezing.with_gradient(("3-bit",), "foo"), "gradient is 'foo'"),
        (lambda x: squeezing.needed_margin(math.inf), "threshold is inf"),
        (lambda x: squeezing.needed_margin(math.nan), "threshold is nan"),
    ],
)
def test_settings_of_squeezers(call, says):
    with pytest.raises(ValueError, match=says):
        call(torch.rand(2, 3, 6, 6))


@pytest.mark.parametrize("sharpness", [1e-6, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_soft_gradient_is_finite_at_the_ends_of_its_range(sharpness, dtype):
    x = torch.linspace(0, 1, 41, dtype=dtype).requires_grad_()
    out = reduce_bit_depth(x, 3, gradient="soft", sharpness=sharpness)
    assert torch.autograd.grad(out.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("strength", [1e-9, 1e9])
def test_means_are_finite_at_the_ends_of_their_range(strength):
    x = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = non_local_means(x, 3, 3, strength, gradient="soft")
    assert torch.autograd.grad(out.sum(), x)[0].isfinite().all()
    assert out.isfinite().all()
    assert non_local_means(x.detach(), 3.0, 3, strength).equal(out.detach()), "3.0 is 3"


# ---------------------------------------------------------------------------------------------- attacks


def test_jsma_must_be_let_change_a_pair(tiny):
    net, x, y = tiny
    for gamma in (0, 0.01, 0.12):
        with pytest.raises(ValueError, match=f"gamma is {gamma}; it must let two of the 16 values change"):
            attacks.jsma(net, x, y, gamma=gamma)
    assert not torch.equal(attacks.jsma(net, x, y, gamma=0.125), x)


def test_runs_of_pgd_that_would_be_the_same_are_refused(tiny):
    net, x, y = tiny
    for options in ({"restarts": 3}, {"restarts": 3, "start": x}):
        with pytest.raises(ValueError, match="restarts is 3; without a random start"):
            attacks.pgd(net, x, y, eps=0.1, random_start=False, **options)
    attacks.pgd(net, x, y, eps=0.1, random_start=False, restarts=2, start=x * 0.9)


def test_the_decay_of_mi_fgsm_is_what_its_documentation_says(tiny):
    for decay in (5, 1.01):
        with pytest.raises(ValueError, match=f"decay is {decay}; it must be from 0 to 1"):
            attacks.mi_fgsm(*tiny, eps=0.1, decay=decay)


def test_a_loss_that_is_no_loss_for_each_image(tiny):
    mean = lambda logits, y, targets=None: cross_entropy(logits, y)  # noqa: E731
    with pytest.raises(ValueError, match=r"the loss gives \(\) for 4 images; .* reduction='none'"):
        attacks.apgd(*tiny, eps=0.001, loss=mean)


@pytest.mark.parametrize("name", ["pgd", "apgd", "square", "hop_skip_jump", "evade_linf"])
def test_what_is_no_generator_is_refused(name, tiny):
    net, x, y = tiny
    knowing = functools.partial(adaptive.evade_linf, net, VIEWS, 1e-9, restarts=2)
    attack = knowing if name == "evade_linf" else functools.partial(getattr(attacks, name), net)
    with pytest.raises(TypeError, match=r"generator is 0; it must be a torch\.Generator"):
        attack(x, y, eps=1e-6, generator=0)


def test_the_search_in_l2_takes_tensors_alone():
    with pytest.raises(TypeError, match="x is ndarray"):
        attacks.minimal_l2(lambda z: z.sum(1) - 0.7, np.zeros((1, 2), np.float32))


@pytest.mark.parametrize("last", [False, True])
def test_autoattack_takes_images_in_any_layout(last, tiny, monkeypatch):
    auto = pytest.importorskip("pyautoattack.autoattack")
    seen = []
    monkeypatch.setattr(
        auto.AutoAttack,
        "run_standard_evaluation",
        lambda self, images, y, batch_size: seen.append(images) or (images.view(len(images), -1).view_as(images), y),
    )
    x = torch.rand(6, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    x = x.permute(0, 3, 1, 2) if last else x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).eval()
    assert torch.equal(attacks.autoattack(net, x, net(x).argmax(1), eps=0.01), x)
    assert seen[0].is_contiguous()


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, tuple, iter])
def test_the_budgets_of_a_curve_may_stand_in_an_array(kind, tiny):
    net, x, y = tiny
    attack = functools.partial(attacks.bim, steps=2)
    wanted = evaluate.security_curve(net, x, y, attack, [0.0, 0.125, 0.25], queries=0)
    found = evaluate.security_curve(net, x, y, attack, kind([0.0, 0.125, 0.25]), queries=0)
    assert [each.accuracy for each in found] == [each.accuracy for each in wanted]
    for budgets in (0.1, ["small"], [None], np.zeros((2, 2))):
        with pytest.raises(TypeError, match=r"(?s)budgets are .*; give several numbers"):
            evaluate.security_curve(net, x, y, attack, budgets)
