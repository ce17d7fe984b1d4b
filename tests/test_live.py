"""The JavaScript of every live figure against Python to 1e-9, run by Node; and what a figure promises its reader."""

import base64
import io

import numpy as np
import pytest
import torch
from browser import needs_chromium, page, page_of
from figures import answer_to_keys, has_words_and_a_picture
from node import javascript, needs_node
from torch import nn
from torch.nn.functional import cross_entropy

from advlab import data, models
from labbook import live
from labbook.live import figure, gallery, network


@pytest.fixture(scope="module")
def attack_figure(net):
    return live.DigitAttack(net, *data.mnist("test", 4), digit=2)


@needs_node
def test_linear_shift_agrees(tmp_path):
    random = np.random.default_rng(0)
    cases = [
        {"d": 10 ** random.uniform(0, 5), "eps": random.uniform(0.01, 0.5), "margin": random.uniform(0.1, 3)} for _ in range(50)
    ]
    found = javascript(tmp_path, figure.module("plot.js", "linear_shift.js"), "a.map(figure.compute)", cases)
    for case, answer in zip(cases, found, strict=True):
        assert answer == pytest.approx(live.linear_shift(**case), rel=1e-9)


def test_linear_shift_against_a_real_unit():
    """The closed form against the definition: extremes over all sign patterns of ten inputs."""
    d, eps = 10, 0.3
    signs = np.array(np.meshgrid(*[[-1, 1]] * d)).reshape(d, -1).T
    shift = signs @ np.full(d, d**-0.5) * eps
    found = live.linear_shift(d, eps, margin=0.6)
    assert found["worst"] == pytest.approx(shift.max())
    assert found["random"] == pytest.approx(shift.std())
    assert found["chance"] >= (shift >= 0.6).mean() > 0
    assert live.linear_shift(d, found["needed"], 0.6)["worst"] == pytest.approx(0.6)


@needs_node
@pytest.mark.parametrize("log10_d", [0.0, 1.0, 2.9, 5.2])
def test_inputs_vote_one_after_another(log10_d, tmp_path):
    """The sums of a linear unit with the page's own signs, by dot products."""
    f = live.LinearShift(log10_d=log10_d, eps=0.2, seed=3)
    state = {"d": 10**log10_d, "eps": f.eps, "seed": f.seed}
    found = javascript(tmp_path, f._esm, "figure.votes(a)", state)
    n, weights, random = found["n"], np.array(found["weights"]), np.array(found["random"])
    mine = f.votes()
    assert n == len(weights) == round(10**log10_d)
    assert np.array_equal(weights, mine[0])
    assert np.array_equal(random, mine[1])
    assert set(np.abs(random)) == {1}
    unit, change = weights / n**0.5, f.eps * random * weights
    for k, total in found["path"]:
        assert total == pytest.approx(unit[: int(k)] @ change[: int(k)], abs=1e-9)
    assert found["path"][-1] == [n, pytest.approx(found["sum"])]
    assert len(found["path"]) < 260
    assert found["agree"] == (random == 1).sum()
    if n > 100:
        assert abs(found["sum"]) < 5 * f.eps < unit @ (f.eps * weights)


@needs_chromium
def test_the_votes_cross_the_margin_by_keyboard(tmp_path):
    with page(viewport={"width": 390, "height": 900}) as p:
        p.goto(page_of({"votes": live.LinearShift(log10_d=1.0, eps=0.1)}, tmp_path))
        moves = [
            ("inputs d", "ArrowRight", "does not reach the margin"),
            ("inputs d", "End", "and crosses the margin"),
            ("budget ε", "Home", "ε = 0.005"),
        ]
        answer_to_keys(p, {"linear-shift": moves})
        f = p.locator(".advlab-linear-shift")
        before = f.locator("path.line.random").get_attribute("d")
        f.get_by_role("button", name="draw other signs").click()
        assert f.locator("path.line.random").get_attribute("d") != before
        assert not p.errors


HAND = [41, 42, -401]  # pixels from 1, the third one darker


def torch_by_hand(twin, x, label, method, eps):
    """The attacks of the figure once more, written out, in torch's double precision."""
    if method == "noise":
        signs = torch.tensor(np.where(gallery.uniforms(x.numel(), 1) < 0.5, -1.0, 1.0)).view_as(x)
        return (x + eps * signs).clamp(0, 1)
    if method == "hand":
        x_adv = x.clone().flatten()
        x_adv[[40, 41, 400]] += eps * torch.tensor([1.0, 1.0, -1.0], dtype=x.dtype)
        return x_adv.clamp(0, 1).view_as(x)
    if method == "few":
        at = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(cross_entropy(twin(at), torch.tensor([label])), at)
        moved = (x + eps * g.sign()).clamp(0, 1)
        keep = (g * (moved - x)).flatten().topk(len(HAND)).indices
        return x.flatten().scatter(0, keep, moved.flatten()[keep]).view_as(x)
    at = x
    for _ in range(1 if method == "fgsm" else 10):
        at = at.detach().requires_grad_()
        (g,) = torch.autograd.grad(cross_entropy(twin(at), torch.tensor([label])), at)
        length = eps if method == "fgsm" else 0.25 * eps
        at = torch.minimum(torch.maximum(at + length * g.sign(), x - eps), x + eps).clamp(0, 1)
    return at.detach()


@needs_node
@pytest.mark.parametrize("method", ["noise", "fgsm", "pgd", "hand", "few"])
@pytest.mark.parametrize("architecture", ["stability", "carlini"])
def test_the_network_in_the_page_is_the_network_in_torch(architecture, method, net, tmp_path):
    torch.manual_seed(0)
    net = net if architecture == "stability" else models.mnist_cnn7().eval()
    x, y = data.mnist("test", 3)
    f = live.DigitAttack(net, x, y, digit=1, method=method, eps=0.13, hand=HAND)
    state = {key: getattr(f, key) for key in ("images", "labels", "digit", "method", "eps", "hand")}
    state["layers"], state["weights"] = live.pack_network(net, x.shape[1:])
    found = javascript(tmp_path, live.DigitAttack._esm, "figure.compute(a)", state)
    twin, image = network.rounded(net), x[1:2].double()
    image = (image * 255).round() / 255
    expected = torch_by_hand(twin, image, int(y[1]), method, 0.13)
    at = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(twin(at), y[1:2]), at)
    np.testing.assert_allclose(found["x_adv"], expected.flatten(), atol=1e-9)
    np.testing.assert_allclose(found["logits"], twin(expected).detach().flatten(), atol=1e-9)
    np.testing.assert_allclose(found["gradient"], gradient.flatten(), atol=1e-9)
    assert gradient.abs().max() > 1e-6
    x_adv, logits = f.attacked()
    np.testing.assert_allclose(logits, found["logits"], atol=1e-9)
    if method != "pgd":
        np.testing.assert_allclose(x_adv.flatten(), found["x_adv"], atol=1e-9)


@needs_node
def test_halves_and_uniforms_to_the_bit(tmp_path):
    values = np.array([0, -0.0, 1, -2.5, 6e-8, 6.1e-5, 65504, 1 / 3, -1e-3], "<f2")
    source = figure.module() + "\nexport { halvesOf, uniforms };"
    got = javascript(tmp_path, source, "figure.halvesOf(a)", base64.b64encode(values.tobytes()).decode())
    assert got == values.astype(float).tolist()
    got = javascript(tmp_path, source, "(() => { const u = figure.uniforms(a); return Array.from({length: 9}, u); })()", 7)
    assert got == gallery.uniforms(9, 7).tolist()


@needs_node
def test_a_shared_network_is_unpacked_to_the_bit(net, tmp_path):
    layers, weights = live.pack_network(net, (1, 28, 28))
    held = network.Network.pack(net, (1, 28, 28))
    assert held is live.DigitAttack(net, *data.mnist("test", 1)).network, "one for all figures"
    assert held.layers == layers
    assert len(held.weights) < len(weights)
    source = figure.module("network.js") + "\nexport { inflated };"
    got = javascript(tmp_path, source, "await figure.inflated(a)", held.weights)
    assert got == np.frombuffer(base64.b64decode(weights), "<f2").astype(float).tolist()


def test_what_figures_share_is_one_widget_until_it_is_closed(attack_figure):
    other = live.LinearShift()
    assert other.look is attack_figure.look
    assert other.scripts[0] is attack_figure.scripts[0], "kit.js"
    assert [text.value for text in other.scripts] == list(live.LinearShift._esm.parts)
    assert other.get_state()["_esm"] == figure.LOADER != other._esm
    closed = figure.Text.of(value="a text of this test")
    closed.close()
    assert figure.Text.of(value="a text of this test") is not closed


@pytest.mark.parametrize(("kind", "colours"), [("lines", 256), ("photograph", None), ("transparent", None)])
def test_a_picture_is_stored_on_a_palette_where_nobody_sees_it(kind, colours):
    from matplotlib.figure import Figure
    from PIL import Image

    picture = Figure(figsize=(3, 2), facecolor="none" if kind == "transparent" else "white")
    if kind == "photograph":
        picture.figimage(np.random.default_rng(0).random((220, 330, 3)))
    else:
        picture.subplots().plot([0, 1, 0], color="#1f78c4")
    raw, plain = io.BytesIO(figure.png(picture)), io.BytesIO()
    picture.savefig(plain, format="png", dpi=110)
    stored, drawn = Image.open(raw), Image.open(plain)
    assert stored.mode == {"lines": "P", "photograph": "RGB", "transparent": "RGBA"}[kind]
    off = np.abs(np.asarray(stored.convert("RGBA"), int) - np.asarray(drawn.convert("RGBA"), int)).max(-1)
    if colours is None:
        assert off.max() == 0
    else:
        assert len(stored.getcolors()) <= colours
        assert (off > 24).mean() <= 1e-4
        assert len(raw.getvalue()) < 0.5 * len(plain.getvalue())


def test_half_precision_costs_next_to_nothing(net):
    x, _ = data.mnist("test", 500)
    with torch.no_grad():
        exact, page = net(x).softmax(1), network.rounded(net)(x.double()).softmax(1)
    assert (exact - page).abs().max() < 0.01


def test_a_figure_describes_itself_and_carries_a_picture(attack_figure):
    for f in (attack_figure, live.LinearShift(log10_d=3.0)):
        has_words_and_a_picture(f)


def test_bad_figures_are_refused(net):
    x, y = data.mnist("test", 2)
    with pytest.raises(ValueError, match="multiples of 1/255"):
        live.DigitAttack(net, x + 1e-3, y)
    with pytest.raises(ValueError, match="cannot run in the page"):
        live.pack_network(nn.Sequential(nn.Tanh()), (1, 4, 4))
    with pytest.raises(ValueError, match="cannot run in the page"):
        live.pack_network(nn.Sequential(nn.MaxPool2d(2, stride=1)), (1, 4, 4))
    learning = nn.Sequential(nn.Flatten(), nn.Dropout(0.5)).train()
    live.pack_network(learning, (1, 4, 4))
    assert learning[1].training, "the caller's network must keep its mode"
    with pytest.raises(ValueError, match="square"):
        live.pack_network(nn.Sequential(nn.Conv2d(1, 1, (1, 3))), (1, 4, 4))
    with pytest.raises(ValueError, match="at least one control"):
        live.with_kernel(lambda: None, "words")


def test_with_kernel_draws_again_when_a_control_moves():
    import ipywidgets
    from matplotlib.figure import Figure

    def draw(eps):
        picture = Figure(figsize=(1, 1))
        picture.text(0.1, 0.1, f"{eps:.3f}")
        return picture

    slider = ipywidgets.FloatSlider(value=0.1)
    box = live.with_kernel(draw, "a number", eps=slider)
    picture = box.children[-1]
    before = picture.value
    slider.value = 0.7
    assert picture.value != before
    assert base64.b64encode(figure.png(draw(0.7))).decode() in picture.value
    assert 'alt="a number"' in picture.value
    assert repr(box) == "a number"

    told = live.with_kernel(lambda eps: live.Still(draw(eps), f"the number {eps:.3f}"), "a number", eps=slider)
    assert repr(told) == "the number 0.700"
    slider.value = 0.2
    assert 'alt="the number 0.200"' in told.children[-1].value
    assert repr(told) == "the number 0.200"
