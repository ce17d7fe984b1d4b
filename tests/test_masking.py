"""Masks: exact counts, fixed for good, symmetric or not; and the networks that carry them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from advlab import masking, models, stability, verification
from advlab.verification.affine import normal_form


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def zeros(kept, dims=(1, 2)):
    return (~kept).sum(dims)


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12))


@settings(deadline=None, max_examples=80)
@given(shape=SHAPES, drop=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_counts_are_exact(shape, drop, seed):
    channels, height, width = shape

    def draw(kind, **options):
        kept = masking.draw_mask(shape, drop, kind=kind, generator=seeded(seed), **options)
        assert kept.shape == shape
        assert kept.dtype == torch.bool
        return kept

    assert (zeros(draw("element")) == round(drop * height * width)).all()
    assert zeros(draw("tensor"), (0, 1, 2)) == round(drop * math.prod(shape))
    shared = draw("shared")
    assert zeros(shared[0], (0, 1)) == round(drop * height * width)
    assert (shared == shared[0]).all()
    whole = draw("channel")
    assert zeros(whole[:, 0, 0], 0) == round(drop * channels)
    assert (whole == whole[:, :1, :1]).all()
    assert torch.equal(draw("block", block=1), draw("element"))


@settings(deadline=None, max_examples=80)
@given(
    channels=st.integers(1, 20),
    tiles=st.integers(1, 4),
    period=st.integers(1, 6),
    drop=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_periodic_masks_repeat_their_tiles_and_have_the_share_asked_for(channels, tiles, period, drop, seed):
    size = tiles * period
    kept = masking.draw_mask((channels, size, size), drop, kind="periodic", period=period, generator=seeded(seed))
    tile = kept[:, :period, :period]
    assert torch.equal(kept, tile.repeat(1, tiles, tiles))
    counts = zeros(tile)
    assert counts.sum() == round(drop * period**2 * channels)
    assert counts.max() - counts.min() <= 1
    if period == 1:
        assert (kept == kept[:, :1, :1]).all()


def test_blocks_are_dropped_whole_and_cut_off_at_the_border():
    kept = masking.draw_mask((50, 8, 10), 0.5, kind="block", block=4, generator=seeded())
    cells = kept[:, ::4, ::4]
    assert cells.shape == (50, 2, 3)
    assert (zeros(cells) == 3).all()
    for i in range(8):
        for j in range(10):
            assert torch.equal(kept[:, i, j], cells[:, i // 4, j // 4])


def test_every_position_is_as_likely():
    """2,000 channels of a 4 x 4 map, 5 zeros each: every position and every pair of positions as often as chance has it."""
    gone = (~masking.draw_mask((2000, 4, 4), 5 / 16, generator=seeded())).flatten(1).double()
    share = gone.mean(0)
    assert (share - 5 / 16).abs().max() < 4 * math.sqrt(5 / 16 * 11 / 16 / 2000)
    both = (gone.T @ gone / 2000)[~torch.eye(16, dtype=torch.bool)]
    expected = 5 / 16 * 4 / 15
    assert (both - expected).abs().max() < 4.5 * math.sqrt(expected * (1 - expected) / 2000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((8, 8), 0.5, {}), "channels, height, width"),
        (((0, 8, 8), 0.5, {}), "channels, height, width"),
        (((3, 8, 8), 1.2, {}), "from 0 to 1"),
        (((3, 8, 8), float("nan"), {}), "from 0 to 1"),
        (((3, 8, 8), 0.5, {"kind": "pixel"}), "'element'"),
        (((3, 8, 8), 0.5, {"kind": "periodic"}), "from 1 to 8"),
        (((3, 8, 8), 0.5, {"kind": "periodic", "period": 9}), "from 1 to 8"),
        (((3, 8, 8), 0.5, {"kind": "periodic", "period": 2.5}), "a whole number from 1 to 8"),
        (((3, 8, 8), 0.5, {"kind": "block"}), "from 1 to 8"),
        (((3, 8, 8), 0.5, {"period": 2}), "leave it out"),
        (((3, 8, 8), 0.5, {"kind": "channel", "block": 2}), "leave it out"),
    ],
)
def test_bad_masks_are_refused(arguments, message):
    shape, drop, options = arguments
    with pytest.raises(ValueError, match=message):
        masking.draw_mask(shape, drop, **options)
    with pytest.raises(ValueError, match=message):
        masking.RandomMask(shape, drop, **options)


def test_a_mask_is_fixed_in_training_saving_loading_and_moving():
    mask = masking.RandomMask((4, 6, 6), 0.3, generator=seeded(3))
    kept = mask.kept.clone()
    x = torch.randn(5, 4, 6, 6)
    expected = torch.where(kept, x, 0.0)
    for mode in (True, False):
        assert torch.equal(mask.train(mode)(x), expected)
    for moved in (mask.double(), mask.to(torch.bfloat16), mask.to(memory_format=torch.channels_last), mask.float()):
        assert torch.equal(moved.kept, kept)
        assert moved.kept.dtype == torch.bool
    assert mask(x.half()).dtype == torch.float16
    other = masking.RandomMask((4, 6, 6), 0.3, generator=seeded(4))
    assert not torch.equal(other.kept, kept)
    other.load_state_dict(load(save({k: v.contiguous() for k, v in mask.state_dict().items()})))
    assert torch.equal(other.kept, kept)
    assert torch.equal(other.seed, mask.seed)
    again = masking.draw_mask((4, 6, 6), 0.3, generator=seeded(int(other.seed)))
    assert torch.equal(again[None], kept), "the seed tells the mask"
    assert torch.equal(masking.RandomMask((4, 6, 6), 0.3, generator=seeded(3)).kept, kept)


def test_a_mask_says_all_about_itself():
    plain = masking.RandomMask((4, 6, 6), 0.25, generator=seeded())
    assert repr(plain) == f"RandomMask((4, 6, 6), 36 of 144 values are 0, drop=0.25, kind='element', seed={int(plain.seed)})"
    tiled = repr(masking.RandomMask((4, 6, 6), 0.25, kind="periodic", period=2, generator=seeded()))
    assert "kind='periodic', period=2, seed=" in tiled
    assert "kind='block', block=3, seed=" in repr(masking.RandomMask((4, 6, 6), 0.5, kind="block", block=3))


def test_the_gradient_of_a_masked_network_is_exact():
    torch.manual_seed(0)
    net = masking.masked_resnet(8, 3, 0.5).double().eval()
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(net(x).square().sum(), x)[0]
    for seed in range(5):
        way = torch.randn(x.shape, dtype=x.dtype, generator=seeded(seed))
        with torch.no_grad():
            ahead, behind = (net(x + step * way).square().sum().item() for step in (1e-6, -1e-6))
        assert (ahead - behind) / 2e-6 == pytest.approx(float((gradient * way).sum()), rel=1e-5)


def test_symmetry_is_lost_step_by_step_with_the_period():
    x = torch.randn(8, 64, 16, 16, generator=seeded())
    found = {}
    for period in (1, 2, 4, 16):
        mask = masking.RandomMask((64, 16, 16), 0.5, kind="periodic", period=period, generator=seeded(1))
        found[period] = float(masking.translation_error(mask, x).mean())
    assert found[1] == 0
    assert 0 < found[2] < found[4] < found[16]
    for period, value in found.items():
        assert value == pytest.approx(math.sqrt(1 - 1 / period**2), abs=0.02)
    whole = masking.RandomMask((64, 16, 16), 0.5, kind="channel", generator=seeded(1))
    assert float(masking.translation_error(whole, x, generator=seeded(2)).max()) == 0


def test_what_commutes_with_shifts_and_what_does_not():
    torch.manual_seed(0)
    x = torch.rand(4, 3, 8, 8)
    ring = nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular")
    assert float(masking.translation_error(ring, x, generator=seeded()).max()) < 1e-5
    assert float(masking.translation_error(nn.Conv2d(3, 5, 3, padding=1), x, generator=seeded()).min()) > 0.01
    with pytest.raises(ValueError, match="keep height and width"):
        masking.translation_error(nn.MaxPool2d(2), x)


def masks(net):
    return {name: m for name, m in net.named_modules() if isinstance(m, masking.RandomMask)}


def test_the_papers_network_has_its_masks():
    """Ten masks, as the paper's code generates them: five of 64 x 32 x 32, five of 128 x 16 x 16; "deep" has the rest."""
    found = masks(masking.masked_resnet())
    assert [tuple(m.kept.shape[1:]) for m in found.values()] == 5 * [(64, 32, 32)] + 5 * [(128, 16, 16)]
    for m in found.values():
        assert (zeros(m.kept[0]) == m.kept[0, 0].numel() // 2).all()
    assert len({int(m.seed) for m in found.values()}) == 10
    deep = masks(masking.masked_resnet(stages="deep"))
    assert [tuple(m.kept.shape[1:]) for m in deep.values()] == 5 * [(256, 8, 8)] + 5 * [(512, 4, 4)]
    assert list(found) == list(masks(masking.masked_resnet(stages="shallow")))


def test_masked_networks_are_plain_ones_with_masks():
    torch.manual_seed(0)
    masked = masking.masked_resnet(8, 4, 0.5).train()
    x, places = torch.rand(2, 3, 32, 32), []
    for m in masks(masked).values():
        m.register_forward_hook(lambda m, i, out: places.append((i[0].detach(), out.detach(), m.kept)))
    masked(x)
    assert len(places) == len(masks(masked)) == 1 + 2 + 3
    for before, after, kept in places:
        assert torch.equal(after, torch.where(kept, before, 0.0))
    names = [name for name in dict(masked.named_modules()) if name in masks(masked)]
    for name in names:
        assert isinstance(masked.get_submodule(name[:-1] + "0"), nn.BatchNorm2d), "after batch norm"
    torch.manual_seed(0)
    plain = models.resnet(8, 4)
    none = masking.masked_resnet(8, 4, 0.0)
    none.load_state_dict({**none.state_dict(), **renamed(plain, none)})
    assert torch.equal(none.eval()(x), plain.eval()(x))


def renamed(plain, masked):
    """The weights of a plain network under the names that they have in a masked one."""
    state = {name: v for name, v in masked.state_dict().items() if not name.endswith((".kept", ".seed"))}
    return dict(zip(state, plain.state_dict().values(), strict=True))


def test_shares_for_each_stage_bottlenecks_and_the_narrow_control():
    mixed = masks(masking.masked_resnet(18, 4, {0: 0.25, 1: 0.25, 3: 0.75}))
    shares = {name: zeros(m.kept[0], (0, 1, 2)) / m.kept.numel() for name, m in mixed.items()}
    assert {name.split(".")[0] for name in shares} == {"stem", "stage1", "stage3"}
    assert all(share == (0.75 if name.startswith("stage3") else 0.25) for name, share in shares.items())
    big = masking.masked_resnet(50, 4)
    for name in masks(big):
        assert name == "stem.1.1" or name.endswith("residual.4.1"), "3 x 3 convolutions only"
    assert masking.narrow_resnet(18, 64, 0.5).stem[0].out_channels == 32
    narrow = masking.narrow_resnet(18, 64, 0.9)
    assert (narrow.stem[0].out_channels, narrow.stage2[0].residual[0].out_channels) == (7, 13), "as in the authors' code"
    assert narrow.stage3[0].residual[0].out_channels == 256
    assert narrow(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    with pytest.raises(ValueError, match="below 1"):
        masking.narrow_resnet(drop=1.0)


def test_every_network_takes_the_names_of_stages():
    def widths(stages):
        net = masking.narrow_resnet(18, 4, 0.5, stages)
        return [net.stem[0].out_channels, *(net.get_submodule(f"stage{k}")[0].residual[0].out_channels for k in range(1, 5))]

    assert widths("shallow") == widths([2, 0, 1]) == [2, 2, 4, 16, 32]
    assert widths("deep") == [4, 4, 8, 8, 16]
    for make in (masking.narrow_resnet, masking.masked_resnet, masking.dropout_resnet):
        for stages, message in (("shalow", "'shallow', 'deep' or numbers"), (3, "or numbers"), ((9,), "there is no stage 9")):
            with pytest.raises(ValueError, match=message):
                make(8, 4, stages=stages)


def test_masks_of_the_small_network_come_from_the_generator():
    first, again = (masking.masked_stability_cnn(0.5, generator=seeded(1)) for _ in range(2))
    assert all(torch.equal(a.kept, b.kept) for a, b in zip(masks(first).values(), masks(again).values(), strict=True))
    torch.manual_seed(0)
    plain = models.stability_cnn()
    torch.manual_seed(0)
    assert torch.equal(masking.masked_stability_cnn(0.5)[0][0].weight, plain[0].weight)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masking.masked_resnet(9), "18, 34 or 50"),
        (lambda: masking.masked_resnet(8, 4, stages="middle"), "'shallow'"),
        (lambda: masking.masked_resnet(8, 4, stages=(4,)), "there is no stage 4; the network has 0, the stem, and 1 to 3"),
        (lambda: masking.masked_resnet(8, 4, 1.5), "from 0 to 1"),
        (lambda: masking.insert_masks(models.resnet(8, 4), 0.5, layers=["stem.7"], shape=(3, 32, 32)), "no layer 'stem.7'"),
        (lambda: masking.insert_masks(models.resnet(8, 4), 0.5, layers=["linear"], shape=(3, 32, 32)), r"puts out \(1, 10\)"),
        (lambda: masking.insert_masks(models.stability_cnn(), {"0": 0.5}, layers=["0", "2"], shape=(1, 28, 28)), "layer '2'"),
        (lambda: masking.insert_masks(models.stability_cnn(), 0.5, layers=["0"], shape=(1, 20, 28)), "takes no inputs of the"),
        (lambda: masking.masked_stability_cnn(1.0), "below 1"),
    ],
)
def test_networks_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        return self.layer(self.layer(x))


def test_masks_go_into_any_network_and_leave_the_first_alone():
    torch.manual_seed(0)
    net = models.stability_cnn().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    made = masking.insert_masks(net, {"0": 0.5, "2": 0.25}, layers=["2", "0"], shape=(1, 28, 28), generator=seeded())
    assert list(masks(made)) == ["0.1", "2.1"]
    assert [zeros(m.kept[0])[0] for m in masks(made).values()] == [98, 12]
    assert not masks(net)
    assert net.training
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    x = torch.rand(2, 1, 28, 28)
    hidden = net[:2](x) * made[0][1].kept
    hidden = nn.functional.relu(net[2](hidden) * made[2][1].kept)
    assert torch.allclose(made(x), net[4:](hidden), atol=1e-6)
    with pytest.raises(ValueError, match="called 2 times"):
        masking.insert_masks(Twice(), 0.5, layers=["layer"], shape=(1, 8, 8))


def test_the_verifier_reads_masked_networks():
    """Bridge to chapter 3: masked units are constants, and are counted as such."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(75, 4)).eval()
    net[1].running_mean.uniform_()
    masked = masking.insert_masks(net, 0.4, layers=["1"], shape=(1, 5, 5), generator=seeded())
    x = torch.rand(20, 1, 5, 5)
    form = normal_form(masked, (1, 5, 5))
    assert np.allclose(form(x.double().flatten(1).numpy()), masked.double()(x.double()).detach().numpy(), atol=1e-12)
    counts = stability.count_units(masked, x, 0.1)
    assert counts.constant[0] == 3 * 10
    masked.float()
    y = masked(x).argmax(1)
    statuses = {verification.verify(masked, a, int(b), 0.3).status for a, b in zip(x, y, strict=True)}
    assert statuses <= {"robust", "counterexample"}
    rough = masking.insert_masks(models.stability_cnn(), 0.4, layers=["0", "2"], shape=(1, 28, 28), generator=seeded()).eval()
    image = torch.rand(1, 1, 28, 28)
    (least, most), *_ = stability.interval_bounds(rough, image, 0.1)
    assert ((least == 0) & (most == 0)).sum() == 16 * round(0.4 * 14 * 14)
    moved = (image + 0.1 * (2 * torch.rand(500, 1, 28, 28) - 1)).clamp(0, 1)
    inside = rough[0](moved)
    assert (inside >= least - 1e-5).all()
    assert (inside <= most + 1e-5).all()
