"""The squeezers against NumPy, SciPy and OpenCV bit for bit, and the gradients that an attacker may ask for."""

import functools
import inspect
import pickle

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn.functional import pad

from advlab import data, squeezing
from advlab.squeezing import JOINT, SQUEEZERS, denoising, median_filter, medians, non_local_means, reduce_bit_depth
from advlab.squeezing.denoising import bgr_of_lab, lab_of_bgr, smooth_denoise

FLOATS = [torch.float16, torch.float32, torch.float64]
SMALL = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def photos():
    """Sixty real photographs."""
    return data.cifar10("test", 60, full=False)[0]


def noise(shape, dtype, seed=0, levels=256):
    """Random images; few ``levels`` make many ties."""
    grid = torch.randint(levels, shape, generator=torch.Generator().manual_seed(seed)).double() / (levels - 1)
    return (grid * 255).round().to(torch.uint8) if dtype == torch.uint8 else grid.to(dtype)


def gradient(f, x, weights=None):
    at = x.clone().requires_grad_()
    out = f(at)
    return torch.autograd.grad(out, at, torch.ones_like(out) if weights is None else weights)[0]


def same(a, b):
    return a.dtype == b.dtype and torch.equal(a, b)


# ---------------------------------------------------------------------------------------------- bit depth


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_bit_depth_is_numpys(photos, bits, dtype):
    levels = 2**bits - 1
    halves = (torch.arange(2 * levels + 1, dtype=torch.float64) / (2 * levels)).to(dtype)  # every threshold and every value
    for x in (photos.to(dtype), torch.rand(5, 7, generator=torch.Generator().manual_seed(bits)).to(dtype), halves):
        expected = np.rint(x.numpy() * levels) / levels
        assert expected.dtype == x.numpy().dtype
        assert np.array_equal(reduce_bit_depth(x, bits).numpy(), expected)


def test_one_bit_goes_to_the_even_side_of_a_tie_and_switches_after_byte_127():
    assert reduce_bit_depth(torch.tensor([0.5, 0.25]), 1).tolist() == [0.0, 0.0]
    assert reduce_bit_depth(torch.tensor([0.5]), 2).tolist() == [torch.tensor(2 / 3).item()]  # 1.5 goes to 2
    assert reduce_bit_depth(torch.tensor([127, 128]) / 255, 1).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("bits", range(1, 9))
def test_bit_depth_of_bytes_is_that_of_their_floats(bits):
    byte = torch.arange(256).to(torch.uint8)
    got = reduce_bit_depth(byte, bits)
    assert got.dtype == torch.uint8
    expected = np.rint(np.rint(np.arange(256) / 255 * (2**bits - 1)) / (2**bits - 1) * 255)
    assert np.array_equal(got.numpy(), expected)
    assert len(got.unique()) == 2**bits


@SMALL
@given(st.integers(1, 8), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_bit_depth_is_the_nearest_level_and_keeps_levels(bits, values):
    x = torch.tensor(values, dtype=torch.float64)
    out = reduce_bit_depth(x, bits)
    levels = torch.arange(2**bits, dtype=torch.float64) / (2**bits - 1)
    assert torch.allclose((out - x).abs(), (levels[:, None] - x).abs().amin(0), atol=1e-15)
    assert same(reduce_bit_depth(out, bits), out)


@pytest.mark.parametrize("bits", [1, 4])
def test_gradient_of_bit_depth(bits):
    x = torch.linspace(0.013, 0.987, 40, dtype=torch.float64)
    weights = torch.arange(40, dtype=torch.float64) - 7
    assert gradient(functools.partial(reduce_bit_depth, bits=bits), x, weights).eq(0).all()
    assert same(gradient(functools.partial(reduce_bit_depth, bits=bits, gradient="straight-through"), x, weights), weights)
    soft = gradient(functools.partial(reduce_bit_depth, bits=bits, gradient="soft"), x, weights)

    def staircase(x, sharpness=10.0):  # as the docstring has it
        t = x * (2**bits - 1)
        f = t - np.floor(t)
        low, high = (1 / (1 + np.exp(-sharpness * (end - 0.5))) for end in (0, 1))
        return (np.floor(t) + (1 / (1 + np.exp(-sharpness * (f - 0.5))) - low) / (high - low)) / (2**bits - 1)

    slope = (staircase(x.numpy() + 1e-7) - staircase(x.numpy() - 1e-7)) / 2e-7
    assert np.allclose(soft.numpy(), weights.numpy() * slope, rtol=1e-5)


def test_slopes_named_in_the_docstring():
    at = torch.tensor([0.5, 1.0, 0.0], dtype=torch.float64)
    slopes = gradient(functools.partial(reduce_bit_depth, bits=1, gradient="soft"), at)
    assert [round(s, 2) for s in slopes.tolist()] == [2.53, 0.07, 0.07]


# ---------------------------------------------------------------------------------------------- median


def scipys(x, size):
    array = x.float().numpy() if x.dtype == torch.float16 else x.numpy()  # SciPy has no half precision
    return torch.from_numpy(ndimage.median_filter(array, (1, 1, size, size), mode="reflect")).to(x.dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_median_is_scipys_on_real_images(photos, size, dtype):
    photos = photos[:12]
    digits = data.mnist("test", 12)[0]
    for x in (photos, digits, digits[..., 3:20, :11]):
        x = (x * 255).round().to(torch.uint8) if dtype == torch.uint8 else x.to(dtype)
        assert same(median_filter(x, size), scipys(x, size))


@SMALL
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 8),
    st.sampled_from([torch.uint8, *FLOATS]),
    st.integers(2, 256),
    st.integers(0, 99),
)
def test_median_is_scipys_on_any_shape(shape, size, dtype, levels, seed):
    x = noise(shape, dtype, seed, levels)
    before = x.clone()
    assert same(median_filter(x, size), scipys(x, size))
    assert same(x, before)


@SMALL
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(0, 99))
def test_median_by_looking(h, w, size, seed):
    """The window reaches size // 2 up and left; of the sorted values, the one of rank size^2 // 2."""
    x = noise((1, 1, h, w), torch.float64, seed)[0, 0]
    after = (size - 1) // 2
    framed = np.pad(x.numpy(), (size // 2, after), mode="symmetric")
    looked = [[sorted(framed[i : i + size, j : j + size].ravel())[size**2 // 2] for j in range(w)] for i in range(h)]
    assert median_filter(x[None, None], size)[0, 0].tolist() == looked


@SMALL
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.integers(2, 10),
    st.sampled_from([torch.uint8, *FLOATS]),
    st.sampled_from([2, 256]),
    st.integers(0, 99),
)
def test_networks_are_sorting(shape, size, dtype, levels, seed):
    x = noise((1, *shape), dtype, seed, levels)
    plain = torch.empty_like(x[0])
    medians.median_by_sorting(x[0], plain, size)
    assert same(medians.medians(x, size)[0], plain)


@pytest.mark.parametrize("size", range(2, 10))
def test_a_network_finds_the_middle_of_any_zeros_and_ones(size):
    """By the zero-one principle, a network of minima and maxima that does so finds that of any values; thousands are tried."""
    draw = np.random.default_rng(size)
    ones = np.concatenate([np.tri(size**2 + 1, size**2, -1), (draw.random((4000, size**2)) < draw.random((4000, 1)))])
    windows = torch.from_numpy(draw.permuted(ones, axis=1)).float().view(1, -1, 1, size, size)
    middle = windows.flatten().view(-1, size**2).sum(1) > (size**2 - 1) // 2
    assert torch.equal(medians.middle_by_network(windows).flatten(), middle.float())


def test_median_of_many_batches_strided_input_and_none(photos, monkeypatch):
    view = photos.transpose(2, 3)[::2, :, 1:, ::3]
    for size in (2, 3, 4, 10):
        whole = scipys(view.contiguous(), size)
        assert same(median_filter(view, size), whole)
        monkeypatch.setattr("advlab.squeezing.medians._CHUNK", 5000)
        monkeypatch.setattr("advlab.squeezing.medians._WINDOWS", 1000)
        assert same(median_filter(view, size), whole)
        monkeypatch.undo()
        assert median_filter(photos[:0], size).shape == (0, 3, 32, 32)
        assert median_filter(photos[..., :0], size).shape == (60, 3, 32, 0)


def test_median_takes_bounded_memory(monkeypatch):
    seen = []
    sort, middle = torch.Tensor.sort, medians.middle_by_network
    monkeypatch.setattr(torch.Tensor, "sort", lambda t, *a: seen.append(t.numel()) or sort(t, *a))
    monkeypatch.setattr(medians, "middle_by_network", lambda t: seen.append(t.numel()) or middle(t))
    for size in (9, 11):
        seen.clear()
        median_filter(noise((60, 3, 32, 32), torch.float32), size)
        assert len(seen) > 1
        assert sum(seen) == 60 * 3 * 32 * 32 * size**2
        assert max(seen) <= 2**22


def first_equal(x, size, weights):
    """The rule of the exact gradient, spelled out: (h, w) arrays."""
    h, w = x.shape
    result = np.zeros_like(x)
    source = np.pad(np.arange(h * w).reshape(h, w), (size // 2, (size - 1) // 2), mode="symmetric")
    for i in range(h):
        for j in range(w):
            window = source[i : i + size, j : j + size].ravel()
            values = x.ravel()[window]
            result.ravel()[window[np.argmax(values == np.sort(values)[size**2 // 2])]] += weights[i, j]
    return result


@SMALL
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.sampled_from([3, 256]), st.integers(0, 99))
def test_exact_gradient_goes_to_the_first_equal_pixel(h, w, size, levels, seed):
    x, weights = (noise((2, 2, h, w), torch.float64, seed + i, levels) for i in (0, 1))
    got = gradient(functools.partial(median_filter, size=size), x, weights)
    for image, weight, found in zip(x.flatten(0, 1), weights.flatten(0, 1), got.flatten(0, 1), strict=True):
        assert np.allclose(found.numpy(), first_equal(image.numpy(), size, weight.numpy()), atol=1e-12)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("dtype", FLOATS)
def test_exact_gradient_is_autograds_through_sorting(size, dtype):
    """Without ties, on several chunks; the frame by torch's own padding, which at one pixel's width is the same."""
    n = 400
    order = torch.randperm(n * 25, generator=torch.Generator().manual_seed(1)).view(n, 1, 5, 5)
    x, few = order / (n * 25.0), (order % 2048)[:40] / 2048.0  # all different, and exact in half precision
    x, few = x.double(), few.double()
    weights = torch.arange(25.0, dtype=torch.float64).view(1, 1, 5, 5).expand_as(x)

    def sorting(x):
        framed = pad(x, (1, size - 2, 1, size - 2), mode="replicate")
        return framed.unfold(2, size, 1).unfold(3, size, 1).flatten(4).sort(4).values[..., size**2 // 2]

    got = gradient(functools.partial(median_filter, size=size), few.to(dtype), weights[:40].to(dtype))
    assert got.dtype == dtype
    assert same(got.double(), gradient(sorting, few, weights[:40]))
    assert same(gradient(functools.partial(median_filter, size=size), x, weights), gradient(sorting, x, weights))


def test_exact_gradient_by_finite_differences():
    x = (torch.randperm(36, generator=torch.Generator().manual_seed(2)).view(1, 1, 6, 6).double() + 1) / 40
    x.requires_grad_()
    for size in (2, 3, 4):
        assert torch.autograd.gradcheck(functools.partial(median_filter, size=size), x, eps=1e-3)


def test_straight_through_median(photos):
    weights = torch.randn(photos.shape, generator=torch.Generator().manual_seed(0))
    assert same(gradient(functools.partial(median_filter, size=3, gradient="straight-through"), photos, weights), weights)


# ---------------------------------------------------------------------------------------------- non-local means


def opencvs(x, search, patch, strength, swap=False):
    """(n, c, h, w) bytes through OpenCV, image by image."""
    images = x.permute(0, 2, 3, 1).numpy()
    if x.shape[1] == 1:
        found = [cv2.fastNlMeansDenoising(np.ascontiguousarray(i), None, strength, patch, search)[..., None] for i in images]
    else:
        images = images[..., ::-1] if swap else images
        run = cv2.fastNlMeansDenoisingColored
        found = [run(np.ascontiguousarray(i), None, strength, strength, patch, search) for i in images]
        found = [i[..., ::-1] for i in found] if swap else found
    return torch.from_numpy(np.stack(found).copy()).permute(0, 3, 1, 2)


def to_bytes(x):
    return (x * 255).round().to(torch.uint8)


@pytest.mark.parametrize(("search", "strength"), [(11, 2.0), (11, 4.0), (13, 2.0), (13, 4.0)])
def test_non_local_means_is_opencvs_on_photographs(photos, search, strength):
    x = photos[:30] if search == 13 else photos
    expected = opencvs(to_bytes(x), search, 3, strength)
    assert same(non_local_means(x, search, 3, strength), expected / 255)
    assert not same(expected, to_bytes(x))


def test_non_local_means_in_the_true_colour_order(photos):
    x = to_bytes(photos[:15])
    true, papers = (non_local_means(x, order=order) for order in ("rgb", "bgr"))
    assert same(true, opencvs(x, 11, 3, 4.0, swap=True))
    assert same(papers, opencvs(x, 11, 3, 4.0))
    assert not same(true, papers)


def test_non_local_means_in_grey_is_opencvs():
    digits = data.mnist("test", 20)[0]
    assert same(to_bytes(non_local_means(digits, 11, 3, 30.0)), opencvs(to_bytes(digits), 11, 3, 30.0))


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 14), st.integers(1, 14)),
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([0.1, 2.0, 3.3, 10.7, 60.0, 1e4]),
    st.sampled_from([2, 5, 30, 256]),
    st.integers(0, 99),
)
def test_non_local_means_is_opencvs_on_any_shape(shape, search, patch, strength, levels, seed):
    x = noise(shape, torch.uint8, seed, levels)
    before = x.clone()
    assert same(non_local_means(x, search, patch, strength), opencvs(x, search, patch, strength))
    assert same(x, before)


@SMALL
@given(
    st.tuples(st.sampled_from([1, 2]), st.integers(1, 2), st.integers(1, 8), st.integers(1, 8)),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([2.0, 10.0, 40.0]),
    st.sampled_from([4, 256]),
    st.integers(0, 99),
)
def test_the_fast_means_are_the_plain_ones(shape, search, patch, strength, levels, seed):
    planes = noise(shape, torch.uint8, seed, levels)
    plain = denoising.denoise_plainly(planes, search, patch, strength)
    assert same(denoising.denoise(planes, search, patch, strength), plain.to(torch.uint8))


def test_non_local_means_of_black_and_white_does_not_overflow():
    x = torch.stack([torch.zeros(3, 9, 9), torch.ones(3, 9, 9), torch.rand(3, 9, 9).round()])
    assert same(to_bytes(non_local_means(x, 21, 3, 1e4)), opencvs(to_bytes(x), 21, 3, 1e4))


def test_weights_are_in_opencvs_precision():
    """OpenCV squares the strength in single precision. In double, some weights differ by one in 800,000, and one pixel here."""
    x = noise((1, 1, 1000, 1000), torch.uint8)
    assert same(non_local_means(x, 3, 1, 30.47), opencvs(x, 3, 1, 30.47))


def test_lab_is_opencvs():
    """Every 5th value of each byte, ends included: 52^3 colours each way. bench/squeezers.py goes through all 2^24."""
    axis = torch.arange(0, 256, 5, dtype=torch.uint8)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).flatten(1)
    picture = np.ascontiguousarray(grid.T.numpy()[None])
    for ours, code in ((lab_of_bgr, cv2.COLOR_LBGR2LAB), (bgr_of_lab, cv2.COLOR_LAB2LBGR)):
        assert np.array_equal(ours(grid).T.numpy()[None], cv2.cvtColor(picture, code))


def test_non_local_means_rounds_its_input_to_bytes(photos):
    x = (photos[:4] + 0.3 / 255 * torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))).clamp(max=1)
    assert same(non_local_means(x), non_local_means(to_bytes(x) / 255))
    assert not same(x, to_bytes(x) / 255)
    for dtype in FLOATS:
        out = non_local_means((to_bytes(x) / 255).to(dtype))
        assert same(out, (opencvs(to_bytes(x), 11, 3, 4.0).to(dtype) / 255))


def test_non_local_means_of_many_batches_strided_input_and_none(photos, monkeypatch):
    view = to_bytes(photos).transpose(2, 3)[::3, :, 1:, ::2]
    whole = opencvs(view, 5, 3, 4.0)
    assert same(non_local_means(view, 5), whole)
    monkeypatch.setattr("advlab.squeezing.denoising._CHUNK", 20000)
    assert same(non_local_means(view, 5), whole)
    assert non_local_means(photos[:0]).shape == (0, 3, 32, 32)


def test_gradient_of_non_local_means(photos):
    x = photos[:3]
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert not non_local_means(x.clone().requires_grad_()).requires_grad
    assert same(gradient(functools.partial(non_local_means, gradient="straight-through"), x, weights), weights)
    soft = gradient(functools.partial(non_local_means, search=5, strength=6.0, gradient="soft"), x, weights)
    assert same(soft, gradient(lambda x: smooth_denoise(x, 5, 3, 6 / 255), x, weights))


def test_the_soft_surrogate_is_the_mean_that_it_says():
    """By a loop over pixels; and its gradient by finite differences."""
    x = noise((1, 2, 4, 5), torch.float64, seed=4)
    framed = np.pad(x[0].numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    for i in range(4):
        for j in range(5):
            total, weights = np.zeros(2), 0.0
            for a in range(i + 1, i + 4):
                for b in range(j + 1, j + 4):
                    here, there = framed[:, i + 1 : i + 4, j + 1 : j + 4], framed[:, a - 1 : a + 2, b - 1 : b + 2]
                    weight = np.exp(-((here - there) ** 2).sum() / 9 / (0.3**2 * 2))
                    total, weights = total + weight * framed[:, a, b], weights + weight
            assert np.allclose(smooth_denoise(x, 3, 3, 0.3)[0, :, i, j].numpy(), total / weights)
    assert torch.autograd.gradcheck(lambda x: smooth_denoise(x, 3, 3, 0.3), x.requires_grad_())


def test_the_soft_surrogate_is_near_opencvs_in_grey(photos):
    grey = to_bytes(photos[:10].mean(1, keepdim=True))
    smooth = smooth_denoise(grey / 255, 11, 3, 4 / 255) * 255
    assert (smooth - opencvs(grey, 11, 3, 4.0)).abs().max() < 1


# ---------------------------------------------------------------------------------------------- all of them

MODES = [
    (functools.partial(reduce_bit_depth, bits=3), "straight-through"),
    (functools.partial(reduce_bit_depth, bits=3), "soft"),
    (functools.partial(median_filter, size=2), "straight-through"),
    (functools.partial(median_filter, size=3), "exact"),
    (functools.partial(non_local_means, search=5), "straight-through"),
    (functools.partial(non_local_means, search=5), "soft"),
]


@pytest.mark.parametrize(("squeezer", "mode"), MODES)
def test_gradients_leave_values_alone(squeezer, mode, photos):
    x = photos[:5]
    value = squeezer(x)
    assert not value.requires_grad
    assert same(squeezer(x, gradient=mode), value)
    with torch.no_grad():
        assert same(squeezer(x.clone().requires_grad_(), gradient=mode), value)
    out = squeezer(x.clone().requires_grad_(), gradient=mode)
    assert out.requires_grad
    assert same(out.detach(), value)
    assert not same(value, x)
    assert same(squeezer(to_bytes(x), gradient=mode), squeezer(to_bytes(x)))


def test_the_papers_rows():
    bits, medians = [f"{i}-bit" for i in range(1, 8)], ["median 2x2", "median 3x3"]
    assert list(SQUEEZERS) == [*bits, *medians, "nlm 11-3-2", "nlm 11-3-4", "nlm 13-3-2", "nlm 13-3-4"]
    assert all(name in SQUEEZERS for names in JOINT.values() for name in names)


def test_each_row_is_the_function_of_its_name(photos):
    x = photos[:3]
    expected = {f"{bits}-bit": reduce_bit_depth(x, bits) for bits in range(1, 8)}
    expected |= {f"median {size}x{size}": median_filter(x, size) for size in (2, 3)}
    for search in (11, 13):
        expected |= {f"nlm {search}-3-{c}": opencvs(to_bytes(x), search, 3, c) / 255 for c in (2, 4)}
    for name, squeezer in SQUEEZERS.items():
        assert same(squeezer(x), expected[name])
        assert same(pickle.loads(pickle.dumps(squeezer))(x), expected[name])
    assert len({tuple(v.flatten().tolist()) for v in expected.values()}) == len(SQUEEZERS)


def every_squeezer():
    """The rows of the table, and every public function of the package that makes images of images, with the least it needs."""
    yield from SQUEEZERS.items()
    for name in squeezing.__all__:
        function = getattr(squeezing, name)
        if inspect.isfunction(function) and next(iter(inspect.signature(function).parameters)) == "x":
            needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty][1:]
            yield name, functools.partial(function, **{p.name: 2 for p in needed})


EVERY = dict(every_squeezer())


def with_one(value):
    """Images in [0, 1] but for one pixel."""

    def change(x):
        x = x.clone()
        x[1, 0, 2, 3] = value
        return x

    return change


def test_every_squeezer_is_among_them():
    assert {"binary_filter", "median_filter", "non_local_means", "reduce_bit_depth", *SQUEEZERS} == set(EVERY)


@pytest.mark.parametrize("squeezer", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x * 255, ValueError, r"ranges from 0 to 255; it must lie in \[0, 1\]"),
        (lambda x: x - 0.5, ValueError, r"ranges from -0.5 to 0.5"),
        (with_one(1 + 1e-6), ValueError, r"it must lie in \[0, 1\]"),
        (with_one(-1e-30), ValueError, r"it must lie in \[0, 1\]"),
        (with_one(np.nan), ValueError, r"x is nan at \(1, 0, 2, 3\)"),
        (with_one(np.inf), ValueError, r"x is inf at \(1, 0, 2, 3\)"),
        (with_one(-np.inf), ValueError, r"x is -inf at \(1, 0, 2, 3\)"),
        (lambda x: x.bfloat16(), TypeError, "bfloat16; it must be float16, 32 or 64"),
        (lambda x: x.round().long(), TypeError, "int64; it must be float16, 32 or 64"),
        (lambda x: x > 0.5, TypeError, "bool; it must be"),
        (lambda x: x.to(torch.complex64), TypeError, "complex64; it must be"),
        (lambda x: x.numpy(), TypeError, "ndarray; it must be a torch tensor"),
        (lambda x: x.tolist(), TypeError, "list; it must be a torch tensor"),
    ],
)
def test_what_is_no_image_is_refused_by_every_squeezer(squeezer, change, error, message):
    x = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    x[0, 0, 0, 0], x[1, 2, 5, 5] = 0, 1
    with pytest.raises(error, match=message):
        squeezer(change(x))


@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS])
@pytest.mark.parametrize("name", EVERY)
def test_what_is_an_image_is_taken_by_every_squeezer(name, dtype):
    if (name, dtype) == ("binary_filter", torch.uint8):
        with pytest.raises(TypeError, match="x / 255"):
            EVERY[name](noise((2, 3, 6, 6), dtype))
        return
    x = noise((2, 3, 6, 6), dtype, levels=3)
    if dtype != torch.uint8:
        x[0, 0, 0, 0] = -0.0
    before = x.clone()
    out = EVERY[name](x)
    assert (out.dtype, out.shape, out.device) == (x.dtype, x.shape, x.device)
    assert same(x, before)
    assert out.min() >= 0
    assert out.max() <= (255 if dtype == torch.uint8 else 1)
    assert EVERY[name](x[:0]).shape == (0, 3, 6, 6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: reduce_bit_depth(x, 0), ValueError, "1 to 8"),
        (lambda x: reduce_bit_depth(x, 9), ValueError, "1 to 8"),
        (lambda x: squeezing.binary_filter(x, 1.0), ValueError, "between 0 and 1"),
        (lambda x: squeezing.binary_filter(x, gradient="exact"), ValueError, "'soft'"),
        (lambda x: reduce_bit_depth(x, 1, gradient="exact"), ValueError, "'soft'"),
        (lambda x: reduce_bit_depth(x, 1, sharpness=0), ValueError, "positive"),
        (lambda x: median_filter(x, 0), ValueError, "from 1 up"),
        (lambda x: median_filter(x, 2.5), ValueError, "whole number"),
        (lambda x: median_filter(x[0], 2), ValueError, r"\(n, c, h, w\)"),
        (lambda x: median_filter(x, 2, gradient="soft"), ValueError, "'exact'"),
        (lambda x: non_local_means(x[:, :2]), ValueError, r"\(n, 3, h, w\)"),
        (lambda x: non_local_means(x[0]), ValueError, r"\(n, 3, h, w\)"),
        (lambda x: non_local_means(x, 10), ValueError, "search is 10; it must be an odd number"),
        (lambda x: non_local_means(x, 11, 2), ValueError, "patch is 2; it must be an odd number"),
        (lambda x: non_local_means(x, strength=0), ValueError, "positive"),
        (lambda x: non_local_means(x, strength=float("nan")), ValueError, "positive"),
        (lambda x: non_local_means(x, order="gbr"), ValueError, "'rgb'"),
        (lambda x: non_local_means(x, gradient="exact"), ValueError, "'straight-through'"),
    ],
)
def test_errors_say_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call(torch.rand(2, 3, 6, 6))
