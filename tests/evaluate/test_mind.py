"""Predictions for MIND's leaderboard, ranks worked out by hand."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.mind_predictions import main
from trec_cli.core.errors import InputError
from trec_cli.evaluate.mind import ranks, write_predictions

TIME = "11/22/2019 9:05:58 AM"


def write(folder: Path, scores: dict[str, dict[str, float]]) -> tuple[Path, Path]:
    behaviors, file = folder / "behaviors.tsv", folder / "scores-a.jsonl"
    lines = [f"7\tU1\t{TIME}\tN9\tN1 N2 N3", f"3\tU1\t{TIME}\tN9\tN2 N1", f"5\tU2\t{TIME}\t\tN4"]
    behaviors.write_text("\n".join(lines) + "\n")
    records = [
        {
            "example_id": example,
            "user_id": example.split("-")[0],
            "split": "predict",
            "candidates": list(of),
            "scores": list(of.values()),
            "positives": [],
        }
        for example, of in scores.items()
    ]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return behaviors, file


def test_articles_get_their_ranks_in_the_order_in_which_they_were_shown(tmp_path: Path) -> None:
    scores = {"U1-7": {"N3": 0.5, "N1": -1.0, "N2": 2.0}, "U1-3": {"N1": 1.0, "N2": 0.0}}
    behaviors, file = write(tmp_path, scores)
    out = tmp_path / "prediction.txt"
    assert write_predictions(behaviors, file, out) == (3, 1)
    assert out.read_text() == "7 [3,1,2]\n3 [2,1]\n5 [1]\n"


def test_an_article_without_a_score_comes_last() -> None:
    assert ranks("1", ["a", "b", "c"], {"a": -5.0, "c": -9.0}) == [1, 3, 2]


@given(
    st.lists(st.sampled_from("abcdef"), max_size=8),
    st.dictionaries(st.sampled_from("abcdef"), st.floats(-3, 3)),
)
def test_ranks_are_a_permutation_that_follows_the_scores(
    shown: list[str], scores: dict[str, float]
) -> None:
    got = ranks("1", shown, scores)
    assert sorted(got) == list(range(1, len(shown) + 1))
    for one, rank in zip(shown, got, strict=True):
        for other, second in zip(shown, got, strict=True):
            if scores.get(one, -9) > scores.get(other, -9):
                assert rank < second


def test_neither_ids_nor_the_order_shown_decide_between_equal_scores() -> None:
    firsts = [ranks(str(n), ["a", "b"], {"a": 1.0, "b": 1.0}).index(1) for n in range(400)]
    assert 150 < sum(firsts) < 250
    for n in range(50):
        one, other = ranks(str(n), ["a", "b"], {}), ranks(str(n), ["b", "a"], {})
        assert one == other[::-1]


def test_scores_of_other_impressions_are_refused(tmp_path: Path) -> None:
    behaviors, file = write(tmp_path, {"U9-1": {"N1": 1.0}})
    with pytest.raises(InputError, match="has no scores of the impressions"):
        write_predictions(behaviors, file, tmp_path / "out.txt")
    assert not (tmp_path / "out.txt").exists()


def test_the_script_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    behaviors, file = write(tmp_path, {"U1-7": {"N1": 1.0, "N2": 0.0, "N3": 0.5}})
    assert main([str(behaviors), str(file), str(tmp_path / "p.txt")]) == 0
    assert (tmp_path / "p.txt").read_text().startswith("7 [1,3,2]\n")
    assert "3 impressions; 2 without scores" in capsys.readouterr().err
    assert main([str(tmp_path / "none"), str(file), str(tmp_path / "p.txt")]) == 3
