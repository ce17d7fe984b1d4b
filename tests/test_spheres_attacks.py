"""Attacks on the sphere: on the sphere, real errors, never nearer than the exact answer, and near to it."""

import math

import pytest
import torch
from torch import nn

from advlab import models, spheres, training


class Ellipsoid(nn.Module):
    """A quadratic network in its own eigenbasis."""

    def __init__(self, alphas):
        super().__init__()
        self.alphas = alphas

    def forward(self, x):
        return x.square() @ self.alphas.to(x) - 1


def points(n, d, outer, seed=0):
    x = spheres.sample_sphere(n, d, 1.3 if outer else 1.0, generator=torch.Generator().manual_seed(seed))
    return x, torch.full((n,), int(outer))


SPECTRA = {
    "spread": torch.linspace(0.3, 1.5, 500),
    "one bad": torch.tensor([3.0] + [0.77] * 499),
    "one ignored": torch.tensor([0.0] + [0.85] * 499),
    "low": torch.linspace(0.3, 1.6, 8),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("outer", [False, True])
def test_never_below_the_exact_nearest_error(name, outer):
    alphas = SPECTRA[name]
    net = Ellipsoid(alphas).eval()
    x, y = points(200, len(alphas), outer)
    exact, _ = spheres.nearest_error_quadratic(x, alphas)
    first = spheres.manifold_pgd(net, x, y, steps=400)
    hit = (net(first) > 0) != outer
    assert ((first - x).norm(dim=1) >= exact - 1e-5)[hit].all()
    distance, error = spheres.nearest_error(net, x, y, steps=400)
    if math.isnan(exact[0]):
        assert distance.isnan().all()
        return
    found = distance.isfinite()
    assert found.double().mean() > (0.95 if name == "spread" else 0.3)
    assert (distance.double() >= exact - 1e-5)[found].all()
    assert float((distance.double() / exact)[found & (exact > 0)].mean()) < 1.1
    right = (net(error) > 0) == bool(outer)
    assert not right[found].any(), "each is an error of the network as it computes"
    torch.testing.assert_close(error.norm(dim=1)[found], x.norm(dim=1)[found])
    torch.testing.assert_close((error - x).norm(dim=1)[found], distance[found])
    wrong = (net(x) > 0) != outer
    assert (distance[wrong] == 0).all()
    assert torch.equal(error[wrong], x[wrong])


def test_refinement_comes_close_to_the_exact_answer():
    alphas = SPECTRA["spread"]
    x, y = points(200, 500, False)
    exact, _ = spheres.nearest_error_quadratic(x, alphas)
    net = Ellipsoid(alphas).eval()
    first = (spheres.manifold_pgd(net, x, y) - x).norm(dim=1)
    refined, _ = spheres.nearest_error(net, x, y)
    assert float(refined.mean() / exact.mean()) < 1.004
    assert float(first.mean() / exact.mean()) > 1.01, "a first error is farther away"


def test_a_half_space_by_geometry():
    """Where errors are a cap, the nearest is known: the angle to its rim."""
    d, height = 40, 0.4
    pole = torch.zeros(d)
    pole[3] = 1.0

    class Cap(nn.Module):
        def forward(self, x):
            return x @ pole - height

    x, y = points(300, d, False)
    distance, _ = spheres.nearest_error(Cap().eval(), x, y)
    angle = (torch.acos(x[:, 3].double()) - math.acos(height)).clamp(min=0)
    torch.testing.assert_close(distance.double(), 2 * (angle / 2).sin(), atol=2e-4, rtol=2e-3)
    assert float(distance.mean()) == pytest.approx(spheres.mean_distance_to_cap(math.acos(height), d), rel=0.05)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    net = models.sphere_relu(50, 100)
    training.fit_online(
        net,
        lambda n: spheres.concentric_spheres(n, 50),
        samples=60_000,
        batch_size=100,
        optimizer=lambda w: torch.optim.Adam(w, 1e-3),
        loss=training.binary_cross_entropy,
        progress=False,
    )
    return net


def test_survivors_find_what_gradients_do_not(trained):
    rare = spheres.rare_event_log10(lambda x: trained(x), 50, generator=torch.Generator().manual_seed(0), particles=200)
    assert -20 < rare.log10 < -2
    x, y = points(60, 50, False)
    alone, _ = spheres.nearest_error(trained, x, y, steps=60)
    helped, error = spheres.nearest_error(trained, x, y, steps=60, starts=rare.survivors)
    assert helped.isfinite().all()
    assert (trained(error) > 0).all()
    both = alone.isfinite()
    torch.testing.assert_close(helped[both], alone[both])


def test_the_attack_of_the_paper_step_by_step(trained):
    """One point by hand: normalised gradient of the loss, back to the sphere, stop at the first error."""
    x, y = points(5, 50, True, seed=3)
    expected = []
    for point in x:
        at = point
        for _ in range(200):
            if trained(at[None]) <= 0:
                break
            leaf = at.clone().requires_grad_()
            loss = nn.functional.binary_cross_entropy_with_logits(trained(leaf[None]).double(), torch.ones(1).double())
            (g,) = torch.autograd.grad(loss, leaf)
            at = at + 0.02 * g / g.norm()
            at = at * (1.3 / at.norm())
        expected.append(at)
    found = spheres.manifold_pgd(trained, x, y, step_size=0.02, steps=200)
    torch.testing.assert_close(found, torch.stack(expected), atol=2e-3, rtol=0)


def test_nothing_is_changed_and_empty_input_is_fine(trained):
    x, y = points(4, 50, False)
    before, weights = x.clone(), [p.clone() for p in trained.parameters()]
    spheres.nearest_error(trained, x, y, steps=5)
    assert torch.equal(x, before)
    assert all(torch.equal(p, q) for p, q in zip(trained.parameters(), weights, strict=True))
    assert all(p.grad is None for p in trained.parameters())
    distance, error = spheres.nearest_error(trained, x[:0], y[:0])
    assert distance.shape == (0,)
    assert error.shape == (0, 50)


def test_bad_input(trained):
    x, y = points(3, 50, False)
    with pytest.raises(TypeError, match=r"\(n, d\)"):
        spheres.manifold_pgd(trained, x[0], y)
    with pytest.raises(ValueError, match="0 for the inner"):
        spheres.manifold_pgd(trained, x, y + 2)
    with pytest.raises(ValueError, match="no sphere"):
        spheres.manifold_pgd(trained, x * 0, y)
    with pytest.raises(ValueError, match="one logit"):
        spheres.manifold_pgd(nn.Linear(50, 2).eval(), x, y)
    with pytest.raises(TypeError, match="float32 or float64"):
        spheres.manifold_pgd(trained, x.half(), y)
    for step_size in (0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"step_size is .*above 0 and finite"):
            spheres.manifold_pgd(trained, x, y, step_size=step_size)
    for option in ({"steps": 2.5}, {"steps": -1}, {"refinements": -1}):
        with pytest.raises(ValueError, match="whole number from 0 up"):
            spheres.nearest_error(trained, x, y, **option)
    with pytest.raises(ValueError, match="starts has the shape"):
        spheres.nearest_error(trained, x, y, starts=x[:, :3])
    for start in (0.0, math.nan):
        with pytest.raises(ValueError, match="starts has a point that is zero or not finite"):
            spheres.nearest_error(trained, x, y, starts=torch.full((2, 50), start))
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        spheres.manifold_pgd(models.sphere_relu(50, 10), x, y)


def height(x):
    """Positive above height 1/2, a cap."""
    return x[:, 1] - 0.5


def test_labels_of_any_type_and_starts_in_double_precision():
    x, y = torch.tensor([[1.0, 0.0], [0.6, 1.2]]), torch.tensor([0, 1])
    expected, _ = spheres.nearest_error(height, x, y)
    assert expected.isfinite().all()
    for dtype in (torch.uint8, torch.bool, torch.float32):
        assert torch.equal(spheres.nearest_error(height, x, y.to(dtype))[0], expected)
    start = torch.tensor([[0.1, 0.9]], dtype=torch.float64)
    helped, _ = spheres.nearest_error(height, x[:1], y[:1], steps=0, starts=start)
    torch.testing.assert_close(helped, expected[:1])


def test_inference_mode_is_no_hindrance():
    x, y = torch.tensor([[1.0, 0.0], [0.6, 1.2]]), torch.tensor([0, 1])
    expected = spheres.manifold_pgd(height, x, y), *spheres.nearest_error(height, x, y)
    with torch.inference_mode():
        given = x.clone(), y.clone()
        found = spheres.manifold_pgd(height, *given), *spheres.nearest_error(height, *given)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: height(x) * math.nan, "logits are not finite"),
        (lambda x: height(x) / (x[:, 1] < 0.2), "logits are not finite"),
        (lambda x: (x[:, 1] > 0.5).float() - 0.5, "no gradient to its input"),
        (lambda x: height(x.mul_(2)), "changes its input in place"),
        (lambda x: (height(x),), "maps .* to tuple"),
        (lambda x: x @ torch.ones(3), "cannot take inputs of the shape"),
    ],
)
def test_models_that_cannot_be_attacked_are_refused(model, message):
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    for attack in (spheres.manifold_pgd, spheres.nearest_error):
        with pytest.raises(ValueError, match=message):
            attack(model, x, y)
    assert x.tolist() == [[1.0, 0.0]]


def test_a_part_in_training_mode_is_refused_as_it_was():
    inner = models.sphere_relu(50, 10)
    outer = nn.Sequential(inner).eval()
    inner[1].train()
    before, (x, y) = inner[1].running_mean.clone(), points(3, 50, False)
    for model in (outer, lambda x: outer(x)):
        with pytest.raises(ValueError, match=r"training mode.*call model.eval\(\)"):
            spheres.manifold_pgd(model, x, y)
    assert torch.equal(inner[1].running_mean, before)
