"""The game for a class: known answers, a judge that cannot be talked round, and a clock."""

import re

import pytest
import torch
from browser import ROOT

from advlab import verification
from advlab.__main__ import main
from labbook import game
from labbook.relu_stability.claims import ROWS

pytestmark = pytest.mark.book


def by_the_verifier(net, x, y, eps):
    found = verification.verify(net, x, y, eps, time_limit=30)
    return found.status, found.witness


def test_the_verifier_wins_every_point_and_guessing_loses():
    rounds = list(game.play(by_the_verifier, n=6, seconds=1e6, seed=3))
    assert [r.points for r in rounds] == [game.RIGHT] * 6
    assert {r.why for r in rounds} == {"proved", "broken"}
    assert sum(r.points for r in game.play(lambda *_: ("robust", None), n=6, seed=3)) == 3 * (game.RIGHT + game.WRONG)


def test_instances_are_drawn_by_their_seed_and_balanced():
    assert game.instances(10, 1) == game.instances(10, 1) != game.instances(10, 2)
    assert [answer for _, answer in game.instances(11)].count("robust") == 6
    for n in (0, 10**6):
        with pytest.raises(ValueError, match=f"n is {n}"):
            game.instances(n)


def test_a_witness_must_be_in_the_ball_an_image_and_misread():
    class First(torch.nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0], 1 - x[:, 0]], 1)

    net, x = First().eval(), torch.tensor([0.55])
    said = {0.46: game.RIGHT, 0.52: game.WRONG, 0.4: game.WRONG, float("nan"): game.WRONG}
    for value, points in said.items():
        answer = ("counterexample", torch.tensor([value]))
        assert game.judge(net, x, 0, 0.1, "counterexample", answer)[0] == points, value
    for answer in (("counterexample", None), ("counterexample", torch.zeros(2)), ("yes", None)):
        assert game.judge(net, x, 0, 0.1, "counterexample", answer)[0] == game.WRONG
    assert game.judge(net, x, 0, 0.1, "robust", ("unknown", None))[0] == 0


def test_what_is_no_answer_is_a_wrong_one_and_an_error_is_named():
    for said in (None, "robust", ("robust",), ("robust", None, 1), (None, None)):
        (only,) = game.play(lambda *_, said=said: said, n=1)
        assert only.points == game.WRONG
        assert only.why.startswith("not an answer")
        assert isinstance(only.said, str)
    with pytest.raises(RuntimeError, match=r"solve fails on image \d+ \(KeyError: 'a'\)"):
        next(game.play(lambda *_: {}["a"], n=1))


def test_answers_after_the_clock_count_nothing():
    assert {r.why for r in game.play(lambda *_: ("robust", None), n=3, seconds=0)} == {"time is over"}


def test_the_teachers_file_plays(tmp_path, capsys):
    page = (ROOT / "book" / "teaching.md").read_text()
    team = tmp_path / "team.py"
    team.write_text(re.search(r"```python\n(.*?def solve.*?)```", page, re.S)[1])
    assert main(["game", str(team), "--images", "4", "--seconds", "1000"]) == 0
    out = capsys.readouterr().out
    points = int(re.search(r"(-?\d+) points of 40", out)[1])
    assert 0 <= points <= 20, "an attack alone proves nothing, and makes no mistake"
    empty = tmp_path / "empty.py"
    empty.write_text("")
    assert main(["game", str(empty)]) == 1
    assert ROWS["rs"].eps == 0.1
    empty.write_text("def solve(net, x, y, eps)\n")
    assert main(["game", str(empty)]) == 1
    assert "empty.py cannot be run (SyntaxError" in capsys.readouterr().err
