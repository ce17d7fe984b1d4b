"""Images of a reader's own: every kind of file right or refused by name, and no class guessed."""

import numpy as np
import pytest
import torch
from PIL import Image

from advlab import folders


def noise(*shape, seed=0, top=256, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, top, shape, dtype=dtype)


def saved(path, pixels, mode=None, **options):
    picture = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    picture.save(path, **options)
    return path


def array(read):
    return read.permute(1, 2, 0).numpy()


# ---------------------------------------------------------------------------------------------- pixels


def test_sixteen_bits_become_the_nearest_eight(tmp_path):
    deep = noise(16, 16, top=65536, dtype=np.uint16)
    deep[0, :3] = 0, 32768, 65535
    got = array(folders.read(saved(tmp_path / "deep.png", deep), 16))
    assert np.array_equal(got, np.repeat(np.rint(deep / 257)[..., None], 3, 2))
    tiff = saved(tmp_path / "deep.tif", deep)
    assert np.array_equal(array(folders.read(tiff, 16)), got)
    assert np.array_equal(array(folders.read(tiff, 16, channels=1)), got[..., :1])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_put_on_white(tmp_path, mode):
    pixels = noise(16, 16, 4)
    pixels[0, 0] = 200, 0, 0, 0  # hidden red
    if mode == "P":
        path = tmp_path / "x.gif"
        Image.fromarray(np.uint8(np.arange(256).reshape(16, 16) % 2)).save(path, transparency=0)
        assert array(folders.read(path, 16))[0, 0].tolist() == [255, 255, 255]
        return
    picture = Image.fromarray(pixels).convert(mode)
    picture.save(tmp_path / "x.png")
    straight = np.asarray(picture.convert("RGBA")).astype(float)
    alpha = straight[..., 3:] / 255
    expected = alpha * straight[..., :3] + (1 - alpha) * 255
    got = array(folders.read(tmp_path / "x.png", 16))
    assert np.abs(got - expected).max() <= 1
    assert got[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_says_where_up_is(tmp_path, orientation):
    pixels = np.kron(noise(2, 2, 3), np.ones((8, 8, 1), np.uint8))
    turned = {  # what the tag says has been done to the picture, undone, in NumPy
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "x.png", pixels, exif=exif)
    assert np.array_equal(array(folders.read(path, 16)), turned(pixels))


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".PNG"])
def test_the_first_picture_of_every_kind_of_file(tmp_path, suffix):
    first, second = (Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (255, 0))
    several = {"save_all": True, "append_images": [second]} if suffix in (".gif", ".tif", ".tiff", ".webp") else {}
    first.save(tmp_path / f"x{suffix}", **several)
    assert folders.images(tmp_path) == ([tmp_path / f"x{suffix}"], {})
    assert folders.read(tmp_path / f"x{suffix}", 16).eq(255).all()


def test_what_cannot_be_read_is_named_with_the_reason(tmp_path, monkeypatch):
    whole = saved(tmp_path / "whole.png", noise(64, 64, 3)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "._a.jpg").write_bytes(b"\0\5\26\7")
    (tmp_path / "empty.jpg").touch()
    Image.fromarray(noise(8, 8).astype(np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(noise(8, 8).astype(np.int32)).save(tmp_path / "int.tif")
    for name, reason in (("cut.png", "truncated"), ("._a.jpg", "identify"), ("empty.jpg", "identify"), ("float.tif", "mode F")):
        with pytest.raises(ValueError, match=f"{name} cannot be read as an image .*{reason}"):
            folders.read(tmp_path / name, 16)
    with pytest.raises(ValueError, match=r"int.tif .* mode I, with a range"):
        folders.read(tmp_path / "int.tif", 16)
    for limit in (3000, 1000):  # below the pixels, and below half of them
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(
            ValueError, match=r"whole.png cannot be read as an image \(Image size \(4096 pixels\) exceeds limit"
        ):
            folders.read(tmp_path / "whole.png", 16)


def test_size_and_cut(tmp_path):
    """At size already: as it is. At 8/7 of it: the middle. Else as the whole picture scaled and cut, which Pillow does here."""
    at_size, larger = noise(14, 14, 3), noise(16, 16, 3)
    assert np.array_equal(array(folders.read(saved(tmp_path / "a.png", at_size), 14)), at_size)
    assert np.array_equal(array(folders.read(saved(tmp_path / "b.png", larger), 14)), larger[1:15, 1:15])
    for k, shape in enumerate([(40, 31), (25, 90), (14, 20), (7, 5), (100, 100)]):
        pixels = noise(*shape, 3, seed=k)
        scale = 16 / min(shape)
        whole = [max(14, round(side * scale)) for side in shape[::-1]]
        left, top = ((side - 14) // 2 for side in whole)
        expected = Image.fromarray(pixels).resize(whole, Image.Resampling.BILINEAR).crop((left, top, left + 14, top + 14))
        got = array(folders.read(saved(tmp_path / "c.png", pixels), 14))
        assert np.abs(got.astype(int) - np.asarray(expected)).max() <= 1, shape


def test_a_strip_is_never_made_large(tmp_path, monkeypatch):
    path, made = saved(tmp_path / "strip.png", noise(2, 3000, 3)), []
    for name in ("resize", "crop"):
        function = getattr(Image.Image, name)

        def watched(*args, function=function, **options):
            result = function(*args, **options)
            made.append(result.size)
            return result

        monkeypatch.setattr(Image.Image, name, watched)
    assert folders.read(path, 224).shape == (3, 224, 224)
    assert made
    assert max(w * h for w, h in made) <= 224 * 224


def test_grey_networks_get_grey(tmp_path):
    pixels = noise(16, 16)
    read = folders.read(saved(tmp_path / "x.png", pixels), 16, channels=1)
    assert read.shape == (1, 16, 16)
    assert read.dtype == torch.uint8
    assert np.array_equal(read[0].numpy(), pixels)


# ---------------------------------------------------------------------------------------------- files and classes


@pytest.fixture
def tree(tmp_path):
    """Three classes of four images, and what does not count."""
    root = tmp_path / "photos"
    for name in ("n01440764", "n01443537", "n02085620"):
        (root / name / "deeper").mkdir(parents=True)
        for k in range(4):
            saved(root / name / ("deeper" if k else "") / f"{name}_{k}.png", noise(4, 4))
    for name in (".ipynb_checkpoints", "__MACOSX", "n01440764/.thumbnails"):
        (root / name).mkdir()
        saved(root / name / "x.png", noise(4, 4))
    (root / ".DS_Store").touch()
    (root / "n01440764" / "notes.txt").touch()
    (root / "n01440764" / "photo.heic").touch()
    return root


def told(tree, *args, **options):
    """Class by subfolder, if all images of one have the same."""
    paths, _ = folders.images(tree)
    found = {
        (path.relative_to(tree).parts[0], label)
        for path, label in zip(paths, folders.labels(tree, paths, *args, **options), strict=True)
    }
    assert len(found) == len(dict(found))
    return dict(found)


def test_files_are_found_in_a_mixed_order_that_stays(tree):
    paths, others = folders.images(tree)
    assert len(paths) == 12
    assert others == {".txt": 1, ".heic": 1}
    assert paths != sorted(paths)
    assert folders.images(tree)[0] == paths
    for nowhere in (tree / "nowhere", tree / "n01440764" / "notes.txt"):
        with pytest.raises(ValueError, match="holds no images"):
            folders.images(nowhere)


def test_classes_come_from_names_and_never_from_a_guess(tree, tmp_path):
    assert told(tree, 3) == {"n01440764": 0, "n01443537": 1, "n02085620": 2}
    for count in (1000, 2, 4):
        with pytest.raises(ValueError, match=f"has 3 subfolders, the network {count} classes: give a file of class names"):
            told(tree, count)
    names = tmp_path / "names.txt"
    names.write_text("n02085620\nn99999999\nn01443537\nn01440764\n")
    assert told(tree, 4, names) == {"n01440764": 3, "n01443537": 2, "n02085620": 0}
    names.write_text("\ufeffn02085620 Chihuahua\nn01443537 goldfish, Carassius auratus\nn01440764 tench\n", encoding="utf-8")
    assert told(tree, 3, names) == {"n01440764": 2, "n01443537": 1, "n02085620": 0}
    assert told(tree, 3, ("n02085620 Chihuahua", "n01443537", "n01440764 tench")) == told(tree, 3, names)
    with pytest.raises(ValueError, match="the list names 1 classes; the network has 3"):
        told(tree, 3, ["n02085620"])
    for text, count, says in (
        ("a\nb\nc", 3, "'n0[0-9]*' names 0 of the network's 3 classes, which are a, b, c"),
        ("n01440764\nn01440764\nn01443537\nn02085620", 4, "'n01440764' names 2 of the network's 4 classes"),
        ("n01440764\nn01443537\nn02085620", 1001, "names 3 classes; the network has 1001"),
    ):
        names.write_text(text)
        with pytest.raises(ValueError, match=says):
            told(tree, count, names)


def test_numbers_in_another_order_than_as_text_are_refused(tmp_path):
    for count in (10, 11):
        for k in range(count):
            (tmp_path / str(k)).mkdir(exist_ok=True)
            saved(tmp_path / str(k) / "x.png", noise(4, 4))
        if count == 10:
            assert told(tmp_path, 10) == {str(k): k for k in range(10)}
    with pytest.raises(ValueError, match="numbers in another order than as text"):
        told(tmp_path, 11)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(str(k) for k in range(11)))
    assert told(tmp_path, 11, names) == {str(k): k for k in range(11)}


def test_labels_from_a_table(tmp_path):
    flat = tmp_path / "val"
    flat.mkdir()
    for k in range(5):
        saved(flat / f"{k}.JPEG", noise(4, 4), format="png")
    paths, _ = folders.images(flat)
    assert folders.labels(flat, paths, 3) is None, "no subfolders: no labels"
    table, names = tmp_path / "labels.csv", tmp_path / "names.txt"

    def by_table(rows, *args):
        table.write_text("\n".join(rows))
        return dict(zip([path.stem for path in paths], folders.labels(flat, paths, 3, *args, table=table), strict=True))

    expected = {str(k): k % 3 for k in range(5)}
    assert by_table(["name,label", *(f"{k}.JPEG, {k % 3}" for k in range(9))]) == expected, "a head, and lines of other images"
    assert by_table([f"{k},{k % 3},more" for k in range(5)]) == expected
    names.write_text("cat\ndog\nn02085620 Chihuahua")
    said = ("cat", "dog", "n02085620 151 109 276 310")
    assert by_table([f"{k},{said[k % 3]}" for k in range(5)], names) == expected
    for rows, args, says in (
        ([f"{k},{k}" for k in range(5)], (), "'[34]' names 0 of the network's 3 classes, which are 0, 1, 2"),
        ([f"{k},-1" for k in range(5)], (), "'-1' names 0"),
        ([f"{k},cat" for k in range(5)], (), "'cat' names 0"),
        ([f"{k},0" for k in range(4)], (), "has no line for 1 images, such as  4.JPEG,0"),
        (["0,1", *(f"{k},0" for k in range(5))], (), "gives 0 two labels"),
    ):
        with pytest.raises(ValueError, match=says):
            by_table(rows, *args)


def test_one_line_for_two_images_is_refused(tmp_path):
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        saved(tmp_path / name, noise(4, 4))
    paths, table = sorted(folders.images(tmp_path)[0]), tmp_path / "labels.csv"
    for line in ("1.png,0", "1,0"):
        table.write_text(f"{line}\n2.png,1\n")
        with pytest.raises(ValueError, match=r"has one line 1(\.png)? for a/1.png and b/1.png: call each by its path"):
            folders.labels(tmp_path, paths, 2, table=table)
    table.write_text("a/1.png,0\nb/1.png,1\n2,1\n")
    assert folders.labels(tmp_path, paths, 2, table=table) == [0, 1, 1]


def test_a_file_in_another_encoding_is_named(tmp_path):
    saved(tmp_path / "1.png", noise(4, 4))
    latin = tmp_path / "latin.txt"
    latin.write_bytes("t\u00eate,0\n".encode("latin-1"))
    for options in ({"table": latin}, {"classes": latin, "table": tmp_path / "1.csv"}):
        (tmp_path / "1.csv").write_text("1.png,0\n")
        with pytest.raises(ValueError, match=r"latin.txt is not in UTF-8 .* at byte 1\): save it as UTF-8"):
            folders.labels(tmp_path, [tmp_path / "1.png"], 1, **options)


def test_an_image_beside_the_classes_is_not_given_one(tree):
    saved(tree / "cover.png", noise(4, 4))
    with pytest.raises(ValueError, match=r"cover.png stands beside the subfolders"):
        told(tree, 3)
