"""Chapter 3's numbers: stored verdicts are replayed, and the plain way to verify agrees with the cascade."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from advlab import evaluate, verification
from labbook import results
from labbook.relu_stability import claims, paper, plain_claims, tables, trainings

ROWS = pytest.mark.parametrize("row", claims.ROWS.values(), ids=list(claims.ROWS))


@ROWS
def test_every_stored_witness_is_misclassified_and_inside_the_ball(row):
    """The verdicts that ship are read by their keys: an altered network, image or budget would not find them."""
    stored = verification.verify_dataset(
        claims.network(row.network),
        *row.data(row.images),
        row.eps,
        store=claims.packed(row.network, row.eps),
        time_limit=row.limit,
        progress=False,
    )
    assert len(stored) == row.images
    x, y = row.data(row.images)
    net = claims.network(row.network)
    wrong = (evaluate.predict(net, x) != y).nonzero()[:, 0].tolist()
    assert wrong == [k for k, v in enumerate(stored.verdicts) if v.stage == "prediction"]
    broken = [k for k, v in enumerate(stored.verdicts) if v.witness is not None]
    searched = [v for v in stored.verdicts if v.status == "counterexample" and v.stage not in ("prediction", "pgd")]
    assert len(searched) == len(broken)
    for v in stored.verdicts:
        assert (v.status == "robust") == (v.bound is not None and v.bound > 0 and v.witness is None)
    assert broken or row.images < 1000
    if not broken:
        return
    witness = torch.stack([stored.verdicts[k].witness.double() for k in broken])
    try:
        guess = net.double()(witness).argmax(1)
    finally:
        net.float()
    assert (guess != y[broken]).all()
    assert float((witness - x[broken].double()).abs().max()) <= row.eps + 1e-12
    assert witness.min() >= 0
    assert witness.max() <= 1


@ROWS
def test_stored_verdicts_are_found_again_where_that_is_quick_and_never_contradicted(row):
    x, y = row.data(row.images)
    stored = claims.verdicts(row)
    again = torch.randperm(row.images, generator=torch.Generator().manual_seed(0))[:6].tolist()
    for k in again:
        found = verification.verify(claims.network(row.network), x[k], int(y[k]), row.eps, time_limit=3)
        assert {found.status, stored.verdicts[k].status} != {"robust", "counterexample"}
        if stored.verdicts[k].stage in ("prediction", "crown", "pgd"):
            assert (found.status, found.stage) == (stored.verdicts[k].status, stored.verdicts[k].stage)


def test_the_plain_way_agrees_with_the_cascade():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    for layer in net[::2]:
        nn.init.normal_(layer.weight)
    seen = set()
    for k, x in enumerate(torch.rand(30, 8)):
        y, eps = int(net(x[None]).argmax()), 0.01 * k
        status, seconds = plain_claims.plain(net, x, y, eps, time_limit=20)
        assert status == verification.verify(net, x, y, eps).status
        assert 0 < seconds <= 20
        seen.add(status)
    assert seen == {"robust", "counterexample"}
    assert plain_claims.plain(net, torch.rand(8), 0, 0.5, time_limit=0.0)[0] == "unknown"


def test_rows_that_are_not_measured_are_shown_as_such():
    text = repr(tables.accuracy_table())
    for key, printed in paper.ABLATION.items():
        line = next(line for line in text.splitlines() if line.startswith(printed.label + " "))
        assert ("not run" in line) == (key not in claims.ROWS)
        assert f"{100 * printed.provable:.2f}" in line
    assert repr(tables.times_table()).count("not run") == len(paper.ABLATION.keys() - claims.ROWS.keys())
    lines = repr(tables.trained_table()).splitlines()[1:]
    for row, line in zip(trainings.ROWS.values(), lines, strict=True):
        assert line.startswith(f"{row.place}, {row.paper.label}")
        assert ("not run" in line) == (not row.records())
        assert row.paper.provable is None or f"({100 * row.paper.provable:.{1 if row.records() else 2}f}" in line
    with pytest.raises(KeyError):
        tables.accuracy_table(("nosuch",))


def test_times_and_shares_hang_together():
    for key, row in claims.ROWS.items():
        proof = results.get(f"relu_stability.{key}_provable")
        counted = sum(sum(proof.series[status]) for status in ("robust", "counterexample", "unknown"))
        assert counted == proof.n == row.images
        assert proof.value == pytest.approx(sum(proof.series["robust"]) / proof.n)
        seconds = results.get(f"relu_stability.{key}_seconds")
        column = seconds.series["seconds"]
        assert column == sorted(column)
        assert seconds.n == proof.n - proof.series["counterexample"][verification.verifier.STAGES.index("prediction")]
        unknown = sum(proof.series["unknown"])
        assert math.isinf(column[-1]) == (unknown > 0)


def test_rows_take_the_papers_label():
    row = claims.ROWS["rs"]
    assert dataclasses.replace(row, images=5).label == row.label == paper.ABLATION["rs"].label
