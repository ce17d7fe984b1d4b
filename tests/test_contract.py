"""Every attack at its border: what would make an image look robust, or a result be nonsense, is refused or flagged.

The table of test_attacks.py has every attack; here all of them meet tiny models, one fault each.
"""

import copy
import functools
import inspect
import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_attacks import FAST, TABLE, UNTARGETED
from torch import nn

from advlab import attacks, evaluate, squeezing
from advlab.attacks import contract

ATTACKS = sorted({name.split()[0] for name in TABLE})
BLACK_BOXES = {"square", "hop_skip_jump"}
MINIMAL = [name for name in ATTACKS if inspect.signature(getattr(attacks, name)).parameters["eps"].default == math.inf]
#: For each attack, a few steps of it.
FEW = {
    "pgd": {"steps": 3},
    "apgd": {"steps": 3},
    "fmn_linf": {"steps": 20},
    "sigma_zero": {"steps": 40},
    "square": {"queries": 5},
    "hop_skip_jump": {"queries": 30, "batch": 5},
    "ddn": {"steps": 5},
    "jsma": {"gamma": 0.5},
    "cw_l2": {"steps": 3, "search_steps": 2},
    "cw_linf": {"steps": 5},
    "cw_l0": {"steps": 3, "rounds": 2},
}


def run(name, model, x, y, **options):
    return getattr(attacks, name)(model, x, y, **{"eps": 0.3, **FEW.get(name, {}), **options})


def linear(classes=10, side=4):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(side * side, classes)).eval()


@pytest.fixture
def tiny():
    """A linear network, and images that it gets right."""
    net = linear()
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    return net, x, net(x).argmax(1)


class Around(nn.Module):
    """A network behind or before a function."""

    def __init__(self, net, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x):
        return self.after(self.net(self.before(x)))


# ---------------------------------------------------------------------------------------------- dtypes and types


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ATTACKS)
def test_half_precision_is_refused(name, dtype, tiny):
    net, x, y = tiny
    half = copy.deepcopy(net).to(dtype)
    hidden = Around(half, lambda v: v.to(dtype), lambda z: z.float()).eval()
    for model, images in ((half, x.to(dtype)), (net, x.to(dtype)), (hidden, x), (lambda v: net(v).to(dtype), x)):
        with pytest.raises(TypeError, match=r"float\(\)"):
            run(name, model, images, y)


@dataclass
class Output:
    logits: torch.Tensor


@pytest.mark.parametrize("name", ATTACKS)
def test_models_that_return_no_logits_are_refused_with_a_sentence(name, tiny):
    net, x, y = tiny
    for after in (lambda z: (z, z), Output, lambda z: {"logits": z}, lambda z: z.detach().numpy(), lambda z: z.argmax(1)):
        with pytest.raises(TypeError, match=r"it must return its logits|logits are torch.int64"):
            run(name, Around(net, after=after).eval(), x, y)
    for after in (lambda z: z[:, :1], lambda z: z[:, 0], lambda z: z[..., None], lambda z: z.sum()):
        with pytest.raises(ValueError, match=r"one logit|must give logits of the shape"):
            run(name, Around(net, after=after).eval(), x, y * 0)


@pytest.mark.parametrize("name", ATTACKS)
def test_labels_targets_and_arrays_are_refused_by_name(name, tiny):
    net, x, y = tiny
    for labels in (y.int(), y.byte(), y.bool(), y.double()):
        with pytest.raises(TypeError, match=r"y is torch.*y.long\(\)"):
            run(name, net, x, labels)
    for images, labels in ((x.numpy(), y), (x, y.numpy()), (x.tolist(), y)):
        with pytest.raises(TypeError, match="must be torch tensors"):
            run(name, net, images, labels)
    if name not in UNTARGETED:
        with pytest.raises(TypeError, match=r"targets is torch.int32.*targets.long\(\)"):
            run(name, net, x, y, targets=y.int())


# ---------------------------------------------------------------------------------------------- numbers that are none


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_not_finite_in_the_input_is_named(name, tiny):
    net, x, y = tiny
    for bad in (math.nan, math.inf):
        spoiled = x.clone()
        spoiled[3, 0, 2, 1] = bad
        with pytest.raises(ValueError, match=r"x\[3, 0, 2, 1\] is (nan|inf)"):
            run(name, net, spoiled, y)
        if "start" in inspect.signature(getattr(attacks, name)).parameters:
            with pytest.raises(ValueError, match=r"start\[3, 0, 2, 1\] is (nan|inf)"):
                run(name, net, x, y, start=spoiled)
    if name not in MINIMAL:
        with pytest.raises(ValueError, match="finite number from 0 up"):
            run(name, net, x, y, eps=math.inf)


class Spoiled(nn.Module):
    """NaN logits, or NaN gradients, for points whose nearest image is that of one row."""

    def __init__(self, net, x, row, gradient):
        super().__init__()
        self.net, self.x, self.row, self.gradient = net, x, row, gradient

    def forward(self, v):
        bad = (v.detach()[:, None] - self.x).flatten(2).norm(dim=2).argmin(1) == self.row
        if self.gradient:  # the value of sqrt(0) is 0, its gradient infinite, and 0 times that is nan
            v = v + (v - v.detach()).where(bad.view(-1, 1, 1, 1), torch.ones_like(v)).sqrt() * 0
        return self.net(v) if self.gradient else self.net(v).masked_fill(bad[:, None], math.nan)


@pytest.mark.parametrize("kind", ["logits", "gradients"])
@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "autoattack"])
def test_what_is_not_finite_in_the_model_is_named(name, kind, tiny):
    net, x, y = tiny
    if kind == "gradients" and name in BLACK_BOXES:
        pytest.skip("it asks for none")
    with pytest.raises(ValueError, match=rf"{kind} are not finite: first at x\[4\]"):
        run(name, Spoiled(net, x, 4, kind == "gradients").eval(), x, y)


def test_evaluation_names_the_image_whose_logits_are_not_finite(tiny):
    net, x, y = tiny
    spoiled = Spoiled(net, x, 5, False).eval()
    for ask in (
        lambda: evaluate.predict(spoiled, x, batch_size=4),
        lambda: evaluate.robust_accuracy(spoiled, x, y, lambda m, x, y: x, batch_size=2),
        lambda: evaluate.transferable(spoiled, x, y, lambda m, x, y: x),
    ):
        with pytest.raises(ValueError, match=r"logits\[5, 0\] is nan"):
            ask()
    with pytest.raises(ValueError, match=r"logits\[0, 0\] is nan"):  # the argmax of nan is 0: it would count as right
        evaluate.robust_accuracy(Around(net, after=lambda z: z * math.nan).eval(), x, y * 0, lambda m, x, y: x)
    with pytest.raises(ValueError, match=r"x_adv\[2, 0, 0, 0\] is nan"):
        evaluate.robust_accuracy(net, x, y, lambda m, x, y: x.index_fill(0, torch.tensor([2]), math.nan))


def test_evaluation_refuses_what_attacks_refuse(tiny):
    net, x, y = tiny
    idle = lambda m, x, y: x  # noqa: E731
    for model, images, labels, error, says in (
        (copy.deepcopy(net).half(), x.half(), y, TypeError, r"float\(\)"),
        (lambda v: (net(v),), x, y, TypeError, "returns tuple"),
        (lambda v: SimpleNamespace(logits=net(v)), x, y, TypeError, "returns SimpleNamespace"),
        (lambda v: net(v)[:, :1], x, y * 0, ValueError, "one logit"),
        (net, x.numpy(), y, TypeError, "torch tensors"),
        (nn.Sequential(net, nn.Dropout(0.5)), x, y, ValueError, r"training mode in its part|model\.eval"),
    ):
        with pytest.raises(error, match=says):
            evaluate.robust_accuracy(model, images, labels, idle)
        if labels is y:
            with pytest.raises(error, match=says):
                evaluate.predict(model, images)
    with pytest.raises(TypeError, match=r"y.long\(\)"):
        evaluate.robust_accuracy(net, x, y.int(), idle)
    with pytest.raises(TypeError, match="torch tensors"):
        evaluate.distances(x.numpy(), x)
    for made in (x.half(), (x * 255).byte()):
        with pytest.raises(TypeError, match="float32 or float64"):
            evaluate.distances(made, made)
    for options in ({"batch_size": 0}, {"queries": -1}, {"eps": -0.1}, {"eps": math.nan}):
        with pytest.raises(ValueError, match=next(iter(options))):
            evaluate.robust_accuracy(net, x, y, idle, **options)


def test_one_logit_for_each_image_is_read_by_its_sign():
    x = torch.tensor([[0.5], [-0.5], [0.0]])
    assert evaluate.predict(lambda v: v[:, 0], x).tolist() == [1, 0, 0]


# ---------------------------------------------------------------------------------------------- training mode


def stateful():
    """A network with batch norm and dropout, in eval mode."""
    return nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, 10)).eval()


@pytest.mark.parametrize("part", [1, 2])
@pytest.mark.parametrize("name", [*ATTACKS, "predict", "robust_accuracy"])
def test_a_part_in_training_mode_is_refused_before_it_changes(name, part, tiny):
    net, (_, x, y) = stateful(), tiny
    net[part].train()
    before = copy.deepcopy(net.state_dict())

    def ask(model):
        if name == "predict":
            return evaluate.predict(model, x)
        if name == "robust_accuracy":
            return evaluate.robust_accuracy(model, x, y, lambda m, x, y: x)
        return run(name, model, x, y)

    around = Around(net)
    around.training = False
    methods = SimpleNamespace(net=net, logits=lambda v: methods.net(v) * 2)
    functions = [lambda v: net(v), functools.partial(lambda m, v: m(v), net), methods.logits]
    for model in (net, around, *functions):
        with pytest.raises(ValueError, match=r"training mode.*model\.eval\(\)"):
            ask(model)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_function_around_a_model_that_changes_is_flagged(tiny):
    net, x, y = tiny

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("passes", torch.zeros(()))

        def forward(self, v):
            self.passes += 1
            return net(v)

    first, second = Counting().eval(), Counting().eval()
    (flag,) = evaluate.robust_accuracy(lambda v: first(v) + second(v), x, y, lambda m, x, y: x).flags
    assert flag.id == "changes-state"
    assert flag.evidence == "changed: passes, 2.passes", "the network in both is noted once, between them"


def test_training_in_another_thread_is_no_ones_business(tiny):
    import threading

    net, x, y = tiny
    other, done, started = nn.Linear(2, 2).train(), threading.Event(), threading.Event()

    def train():
        while not done.is_set():
            other(torch.zeros(1, 2))
            started.set()

    thread = threading.Thread(target=train)
    thread.start()
    started.wait()
    try:
        for _ in range(20):
            attacks.fgsm(lambda v: net(v), x, y, eps=0.1)
    finally:
        done.set()
        thread.join()


# ---------------------------------------------------------------------------------------------- gradients


def blind(net):
    """Models that no gradient passes, with weights that want gradients and without."""
    frozen = copy.deepcopy(net).requires_grad_(False)
    return {
        "the input is cut off": Around(net, before=lambda v: v.detach()).eval(),
        "the output is cut off": Around(net, after=lambda z: z.detach()).eval(),
        "a threshold": Around(net, before=lambda v: (v > 0.5).float()).eval(),
        "a threshold before frozen weights": Around(frozen, before=lambda v: (v > 0.5).float()).eval(),
        "a function": lambda v: net((v > 0.5).float()),
    }


@pytest.mark.parametrize("case", blind(linear()))
@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in BLACK_BOXES])
def test_a_model_without_a_gradient_is_an_error_and_in_an_evaluation_a_flag(name, case, tiny):
    net, x, _ = tiny
    model = blind(net)[case]
    y = model(x).argmax(1)
    with pytest.raises(ValueError, match=r"no gradient to its input.*bpda"):
        run(name, model, x, y)
    if name == "autoattack":
        return
    found = evaluate.robust_accuracy(model, x, y, functools.partial(run, name), queries=0)
    assert "zero-gradient" in {flag.id for flag in found.flags}
    assert torch.equal(found.x_adv, x)


@pytest.mark.parametrize("name", sorted(BLACK_BOXES))
def test_black_boxes_need_no_gradient(name, tiny):
    net, x, y = tiny
    assert run(name, Around(net, after=lambda z: z.detach()).eval(), x, y).shape == x.shape


def test_a_criterion_without_a_gradient_or_with_nan_is_refused():
    x = torch.rand(3, 4)
    with pytest.raises(ValueError, match="no gradient"):
        attacks.minimal_l2(lambda z: (z.detach().sum(1) > 1).float(), x)
    with pytest.raises(ValueError, match=r"criterion\[0\] is nan"):
        attacks.minimal_l2(lambda z: z.sum(1) * math.nan, x)
    for options in ({"steps": 0}, {"search_steps": 0}, {"initial_c": -1.0}, {"learning_rate": 0.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            attacks.minimal_l2(lambda z: 1 - z.sum(1), x, **options)


# ---------------------------------------------------------------------------------------------- settings that do nothing

#: Parameters that no range is given for: what they may be is checked elsewhere, or any value does something.
FREE = {"model", "x", "y", "eps", "norm", "loss", "targets", "random_start", "start", "active_set", "generator", "seed"}
WHOLE = {"steps", "restarts", "search_steps", "rounds", "patience", "queries", "batch", "batch_size", "classes"}
POSITIVE = {"step_size", "learning_rate", "initial_c", "largest_c", "initial_norm", "theta", "sigma"}
POSITIVE |= {"shrink", "drop", "share", "threshold"}


@pytest.mark.parametrize("name", ATTACKS)
def test_settings_with_which_an_attack_does_nothing_are_refused(name, tiny):
    net, x, y = tiny
    ranged = set(inspect.signature(getattr(attacks, name)).parameters) - FREE
    for option in ranged:
        assert option in contract.SETTINGS or f"{name}.{option}" in contract.SETTINGS, f"{option} has no range"
        bad = [-1, math.nan, math.inf, "3"]
        bad += [0, 2.5] if option in WHOLE else [0] if option in POSITIVE or (option == "gamma" and name != "jsma") else []
        for value in bad:
            if (option, value) == ("theta", -1):  # darker pixels
                continue
            with pytest.raises(ValueError, match=rf"{option} is .*it must be"):
                run(name, net, x, y, **{option: value})
    for eps in (-0.1, math.nan, -math.inf):
        with pytest.raises(ValueError, match="budget"):
            run(name, net, x, y, eps=eps)
    with pytest.raises(TypeError, match=r"'0\.1'; a budget is a number"):
        run(name, net, x, y, eps="0.1")
    with pytest.raises(TypeError, match="unexpected keyword"):
        run(name, net, x, y, eps=0.0, setps=3)


# ---------------------------------------------------------------------------------------------- already wrong


@pytest.mark.parametrize("name", [name for name in MINIMAL if name != "autoattack"])
def test_what_meets_the_goal_already_comes_back_as_it_is(name, tiny):
    net, x, y = tiny
    wrong = y.clone()
    wrong[::2] = (wrong[::2] + 1) % 10
    x_adv = run(name, net, x, wrong, eps=math.inf)
    assert torch.equal(x_adv[::2], x[::2])
    if name not in UNTARGETED:
        assert torch.equal(run(name, net, x, y, eps=math.inf, targets=y), x)


@pytest.mark.parametrize("name", ["cw_l2", "cw_linf", "cw_l0"])
def test_a_confidence_that_is_not_reached_yet_is_still_worked_for(name, tiny):
    net, x, _ = tiny
    kappa = 0.05
    wrong = net(x).topk(2, 1).indices[:, 1]  # the second likeliest class is taken for the true one
    more = {"steps": 40, "search_steps": 5} if name == "cw_l2" else {"steps": 60}
    with torch.no_grad():
        sure = attacks.margin_loss(net(x), wrong) > kappa
        x_adv = run(name, net, x, wrong, eps=math.inf, confidence=kappa, **more)
        assert torch.equal(x_adv[sure], x[sure])
        assert (attacks.margin_loss(net(x_adv), wrong) >= kappa).all()


# ---------------------------------------------------------------------------------------------- in place, l0, medians


def test_an_attack_in_place_is_measured_on_copies_and_flagged(tiny):
    net, x, y = tiny
    before = x.clone(), y.clone()

    def in_place(m, x, y):
        return x.add_(0.2).clamp_(0, 1)

    with pytest.raises(ValueError, match="left its budget"):
        evaluate.robust_accuracy(net, x, y, in_place, eps=0.1)
    found = evaluate.robust_accuracy(net, x, y, in_place, eps=0.3, batch_size=4)
    assert "changes-input" in {flag.id for flag in found.flags}
    assert torch.equal(found.x_adv, (x + 0.2).clamp(0, 1))
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    evaluate.transferable(net, x, y, in_place)
    assert torch.equal(x, before[0])
    labels = evaluate.robust_accuracy(net, x, y, lambda m, x, y: (x.clone(), y.zero_())[0])
    assert [flag.id for flag in labels.flags] == ["changes-input"]


ASK = {
    **{name: functools.partial(run, name) for name in ATTACKS},
    "predict": lambda model, x, y: evaluate.predict(model, x),
    "first_correct": lambda model, x, y: evaluate.first_correct(model, x, y, 1),
    "robust_accuracy": lambda model, x, y: evaluate.robust_accuracy(model, x, y, lambda m, x, y: x),
    "detector": lambda model, x, y: squeezing.SqueezingDetector(model, ["1-bit"]).score_samples(x),
    "joint_score": lambda model, x, y: squeezing.joint_score(model, x.requires_grad_(), ["1-bit"]),
}


@pytest.mark.parametrize("name", ASK)
def test_a_model_that_changes_its_input_is_refused_and_has_changed_nothing(name, tiny):
    net, x, y = tiny
    before = x.clone()
    with pytest.raises(ValueError, match="the model changes its input in place"):
        ASK[name](Around(net, before=lambda v: v.sub_(0.5)).eval(), x, y)
    assert torch.equal(x, before)
    evaluate.predict(Around(net, before=lambda v: v.nan_to_num()).eval(), x.detach() * math.nan)  # which is not equal to itself


def test_a_squeezer_that_changes_its_input_is_refused_and_has_changed_nothing(tiny):
    net, x, _ = tiny
    before = x.clone()
    with pytest.raises(ValueError, match="the squeezer 'dark' changes its input in place"):
        squeezing.SqueezingDetector(net, {"dark": lambda v: v.mul_(0)}).score_samples(x)
    assert torch.equal(x, before)


def test_an_attack_that_leaves_the_images_is_refused(tiny):
    @contract.attack
    def bright(model, x, y, *, eps):
        return x + eps

    with pytest.raises(ValueError, match=r"the attack's result\[.*it must lie in \[0, 1\]"):
        bright(*tiny, eps=0.9)


@pytest.mark.parametrize("name", ["jsma", "cw_l0"])
def test_a_colour_result_within_its_pixels_is_within_the_budget_of_the_evaluation(name):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 10)).eval()
    x = torch.rand(8, 3, 4, 4)
    y = net(x).argmax(1)
    options = {"gamma": 1.0} if name == "jsma" else {}
    x_adv = run(name, net, x, y, eps=16, **options)
    pixels, values = (x_adv != x).any(1).flatten(1).sum(1), (x_adv != x).flatten(1).sum(1)
    assert (values > pixels).any(), "channels never met: the test shows nothing"
    assert torch.equal(evaluate.distances(x_adv, x, "l0"), pixels)
    eps = int(pixels.max())
    found = evaluate.robust_accuracy(net, x, y, functools.partial(run, name, eps=eps, **options), eps=eps, norm="l0")
    assert evaluate.distances(found.x_adv, x, "l0").max() <= eps
    with pytest.raises(ValueError, match="left its budget"):
        evaluate.robust_accuracy(net, x, y, lambda m, x, y: x_adv, eps=eps - 1, norm="l0")


def test_distances_in_l0_count_positions():
    x = torch.zeros(3, 3, 2, 2)
    x_adv = x.clone()
    x_adv[1, :, 0, 1] = 0.5
    x_adv[2, 0, 0, 0] = x_adv[2, 1, 1, 1] = 1e-30
    assert evaluate.distances(x_adv, x, "l0").tolist() == [0, 1, 2]
    assert evaluate.distances(torch.eye(3), torch.zeros(3, 3), "l0").tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "values", [[1, 2], [1, 2, 3], [1, math.inf], [1, math.inf, math.inf], [math.inf] * 4, [1, 1, 1, math.inf]]
)
def test_the_median_with_infinities_is_that_of_numpy(values):
    expected = float(np.median(np.array(values, dtype=float)))
    assert evaluate.median_interval(torch.tensor(values, dtype=torch.float64))[0] == expected


def test_a_failure_rate_above_one_half_gives_an_infinite_median_and_upper_end():
    values = torch.full((40,), math.inf)
    values[:15] = torch.linspace(0, 1, 15)
    median, low, high = evaluate.median_interval(values)
    assert (median, high) == (math.inf, math.inf)
    assert low < 1 or low == math.inf
    for interval in (evaluate.median_interval, evaluate.mean_interval):
        with pytest.raises(ValueError, match=r"values\[1\] is nan"):
            interval(torch.tensor([1.0, math.nan]))
    with pytest.raises(ValueError, match=r"values\[0\] is inf"):
        evaluate.mean_interval(values.flip(0))


# ---------------------------------------------------------------------------------------------- numbers of classes


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "autoattack"])
def test_any_number_of_classes_from_two(name, classes, tiny):
    net, x = linear(classes), tiny[1]
    x_adv = run(name, net, x, net(x).argmax(1))
    assert x_adv.shape == x.shape
    flat = nn.Linear(16, classes).eval()
    if name != "square":
        assert run(name, flat, x.flatten(1), flat(x.flatten(1)).argmax(1)).shape == (6, 16)


def few_passes(monkeypatch):
    """AutoAttack with few iterations: its own are thousands."""
    import pyautoattack.autoattack as package

    real = package.AutoAttack.run_standard_evaluation

    def quick(self, *args, **options):
        for part in (self.apgd, self.apgd_targeted, self.fab):
            part.n_iter = 5
        self.square.n_queries = 20
        return real(self, *args, **options)

    monkeypatch.setattr(package.AutoAttack, "run_standard_evaluation", quick)


@pytest.mark.filterwarnings("ignore:.*jit.trace:DeprecationWarning")
@pytest.mark.parametrize("classes", [2, 3, 4, 7, 12])
@pytest.mark.parametrize("kind", ["module", "function", "traced", "vectors"])
def test_autoattack_of_any_classifier_of_which_images_survive(monkeypatch, kind, classes, tiny):
    few_passes(monkeypatch)
    net, x = linear(classes), tiny[1]
    y = net(x).argmax(1)
    if kind == "vectors":
        x, net = x.flatten(1), net[1]
    model = {"function": lambda v: net(v), "traced": torch.jit.trace(net, x) if kind == "traced" else None}.get(kind, net)
    eps = float((attacks.margin_loss(net(x), y).detach().abs() / 8).median())  # some fall, some stand
    x_adv = attacks.autoattack(model, x, y, eps=eps)
    assert x_adv.shape == x.shape
    assert ((x_adv - x).abs() <= eps + 1e-6).all()
    assert (net(x_adv).argmax(1) == y).any(), "none survives: the later attacks were never asked"
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_deepfool_lets_ten_classes_compete_as_its_authors_do(tiny):
    net, x = linear(30), tiny[1]
    y = net(x).argmax(1)
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        grad = torch.autograd.grad
        patch.setattr(torch.autograd, "grad", lambda *a, **o: calls.append(1) or grad(*a, **o))
        x_adv = attacks.deepfool(net, x, y, steps=1)
    assert len(calls) == 9 + 1, "one gradient for each rival, and one that checks the model"
    everyone = attacks.deepfool(net, x, y, steps=1, classes=30)
    assert ((everyone - x).norm() <= (x_adv - x).norm() + 1e-6).all()
    two = attacks.deepfool(net, x, y, classes=2)
    assert torch.equal(net(two).argmax(1), net(x).topk(2, 1).indices[:, 1]), "only the likeliest other class is looked at"
    ten = linear(10)
    labels = ten(x).argmax(1)
    assert torch.equal(attacks.deepfool(ten, x, labels), attacks.deepfool(ten, x, labels, classes=1000))


def test_the_guard_changes_no_bit_and_draws_nothing(tiny):
    """The plain loop on the bare network gives the attack's result, and the global generator is where it was."""
    net, x, y = tiny
    state = torch.get_rng_state()
    x_adv = attacks.bim(net, x, y, eps=0.1, steps=4, active_set=False)
    assert torch.equal(torch.get_rng_state(), state)
    plain = x.clone()
    kept = None
    for _ in range(4):
        at = plain.clone().requires_grad_()
        loss = nn.functional.cross_entropy(net(at), y, reduction="sum")
        hit = net(at).argmax(1) != y
        kept = plain.clone() if kept is None else torch.where(hit.view(-1, 1, 1, 1), plain, kept)
        plain = (plain + 0.025 * torch.autograd.grad(loss, at)[0].sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1)
    broken = net(plain).argmax(1) != y
    assert torch.allclose(x_adv[broken], plain[broken])


def test_the_minimal_attacks_are_those_whose_budget_may_be_left_out():
    assert {"ddn", "deepfool", "jsma", "cw_l2", "cw_linf", "cw_l0", "hop_skip_jump"} <= set(MINIMAL)
    assert set(FAST) < set(TABLE)
