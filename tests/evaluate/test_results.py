"""What stands in `metrics.json` and `per_user.jsonl`."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.evaluate.folder import Line, line, make_run, write
from trec_cli.evaluate.results import (
    Evaluation,
    differs,
    evaluate_systems,
    per_user_lines,
    summarise,
    too_few_permutations,
)
from trec_cli.evaluate.scores import ScoresFile, align, read_system
from trec_cli.evaluate.settings import Options
from trec_cli.evaluate.tables import notes_of


def evaluation_of(folder: Path, systems: dict[str, list[Line]]) -> Evaluation:
    files = [
        ScoresFile(name, write(folder / f"scores-{name}.jsonl", lines))
        for name, lines in systems.items()
    ]
    return evaluate_systems(align([read_system(file, "test") for file in files]), (1, 2))


def test_values_are_means_over_examples_with_intervals_around_them(tmp_path: Path) -> None:
    lines = [line("a", [2, 1, 0]), line("b", [0, 1, 2]), line("c", [1, 2, 0])]
    summary = summarise(evaluation_of(tmp_path, {"x": lines}), Options(ks=(1, 2)))
    entry = summary["systems"]["x"]
    assert entry["examples"] == 3
    assert entry["tie_rate"] == 0
    assert entry["recall@1"]["value"] == pytest.approx(1 / 3)
    assert entry["recall@2"]["value"] == pytest.approx(2 / 3)
    assert entry["mrr@2"]["value"] == pytest.approx((1 + 0.5) / 3)
    assert entry["auc"]["value"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert entry["recall@1"]["low"] <= 1 / 3 <= entry["recall@1"]["high"]
    assert summary["chance"]["recall@1"] == pytest.approx(1 / 3)
    assert summary["chance"]["auc"] == pytest.approx(0.5)
    assert summary["comparisons"] == []


def test_a_constant_scorer_has_a_tie_rate_of_one_and_the_value_of_chance(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    files = [ScoresFile("blind", folder / "scores-blind.jsonl")]
    evaluation = evaluate_systems([read_system(file, "test") for file in files])
    summary = summarise(evaluation, Options())
    entry = summary["systems"]["blind"]
    assert entry["tie_rate"] == 1
    for name, value in summary["chance"].items():
        assert entry[name]["value"] == pytest.approx(value, abs=1e-12)


def test_comparisons_are_paired_against_the_reference(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    weak = [line(f"u{n}", random.normal(size=9).tolist()) for n in range(60)]
    strong = [entry | {"scores": [9.0, *entry["scores"][1:]]} for entry in weak]
    evaluation = evaluation_of(tmp_path, {"weak": weak, "strong": strong})
    (first, *rest) = summarise(evaluation, Options((1, 2), permutations=999))["comparisons"]
    assert (first["system"], first["reference"], first["metric"]) == ("strong", "weak", "recall@1")
    gain = 1 - evaluation.values[0, :, 0].mean()
    assert first["difference"] == pytest.approx(gain)
    assert first["low"] < gain < first["high"]
    assert first["p"] == pytest.approx(1 / 1000)
    assert first["p_holm"] == pytest.approx((len(rest) + 1) / 1000)
    assert first["effect_size"] > 1
    turned = summarise(evaluation, Options((1, 2), permutations=999, reference="strong"))
    assert turned["comparisons"][0]["difference"] == pytest.approx(-gain)


def test_without_permutations_differences_stay_and_nothing_is_tested(tmp_path: Path) -> None:
    lines = [line(f"u{n}", [n % 3, 1, 0]) for n in range(12)]
    other = [line(f"u{n}", [2, 1, 0]) for n in range(12)]
    summary = summarise(
        evaluation_of(tmp_path, {"x": lines, "y": other}), Options((1, 2), permutations=0)
    )
    first = summary["comparisons"][0]
    assert first["difference"] == pytest.approx(1 - (4 + 4 / 2) / 12)
    assert first["low"] < first["difference"] < first["high"]
    assert (first["p"], first["p_holm"]) == (None, None)
    assert not differs(first)
    assert "differs from" not in " ".join(notes_of(summary))


def test_too_few_permutations_for_a_star_are_told(tmp_path: Path) -> None:
    lines = [line(f"u{n}", [2, 1, 0]) for n in range(4)]
    evaluation = evaluation_of(tmp_path, {"x": lines, "y": lines})
    summary = summarise(evaluation, Options((1, 2), permutations=50))
    tests = len(summary["comparisons"])
    assert tests == 7
    assert "none of 7 tests" in (too_few_permutations(summary, 50) or "")
    assert too_few_permutations(summary, 138) is not None  # 7 / 139 = 0.0504
    assert too_few_permutations(summary, 140) is None  # 7 / 141 = 0.0496
    assert too_few_permutations(summary, 0) is None


def test_the_effect_size_has_the_sign_of_the_difference(tmp_path: Path) -> None:
    """One user with many examples decides the mean over examples."""
    one = [line(f"m{n}", [0, 1], user="many") for n in range(40)]
    one += [line(f"s{n}", [2, 1]) for n in range(9)]
    two = [line(f"m{n}", [2, 1], user="many") for n in range(40)]
    two += [line(f"s{n}", [0, 1]) for n in range(9)]
    summary = summarise(evaluation_of(tmp_path, {"one": one, "two": two}), Options((1, 2)))
    first = summary["comparisons"][0]
    assert first["difference"] == pytest.approx((40 - 9) / 49)
    # Sums over a user's examples: 40 once and -1 nine times.
    sums = np.array([40, *[-1] * 9])
    assert first["effect_size"] == pytest.approx(sums.mean() / sums.std(ddof=1))


def test_no_order_of_lines_changes_a_number(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    lines = [
        [line(f"u{n}", random.normal(size=5).tolist(), user=f"v{n // 2}") for n in range(40)]
        for _ in range(2)
    ]
    turned = [random.permutation(np.array(of_one, dtype=object)).tolist() for of_one in lines]
    names = ("x", "y")
    one = summarise(evaluation_of(tmp_path / "a", dict(zip(names, lines, strict=True))), Options())
    two = summarise(evaluation_of(tmp_path / "b", dict(zip(names, turned, strict=True))), Options())
    for system in names:
        for metric, numbers in one["systems"][system].items():
            assert two["systems"][system][metric] == pytest.approx(numbers, abs=1e-12)
    for here, there in zip(one["comparisons"], two["comparisons"], strict=True):
        assert there["p"] == here["p"]


def test_a_metric_that_few_users_have_keeps_its_interval(tmp_path: Path) -> None:
    lines = [line(f"u{n}", [1, 2] if n == 1 else [2, 1]) for n in range(3)]
    lines += [line(f"w{n}", [1]) for n in range(57)]  # a candidate alone: no AUC
    entry = summarise(evaluation_of(tmp_path, {"x": lines}), Options((1, 2)))["systems"]["x"]
    assert entry["auc"]["value"] == pytest.approx(2 / 3)
    assert (entry["auc"]["low"], entry["auc"]["high"]) == (0, 1)


def test_one_user_has_no_interval_but_a_value(tmp_path: Path) -> None:
    lines = [line("a", [2, 1], user="u"), line("b", [2, 1], user="u")]
    entry = summarise(evaluation_of(tmp_path, {"x": lines}), Options((1, 2)))["systems"]["x"]
    assert entry["recall@1"] == {"value": 1.0, "low": None, "high": None}


def test_what_is_undefined_is_none(tmp_path: Path) -> None:
    lines = [line("a", [2, 1], [0, 1]), line("b", [1], [0])]
    summary = summarise(evaluation_of(tmp_path, {"x": lines, "y": lines}), Options((1, 2)))
    assert summary["systems"]["x"]["auc"] == {"value": None, "low": None, "high": None}
    assert summary["chance"]["auc"] is None
    msgspec.json.encode(summary)


def test_per_user_lines_tell_ranks_and_metrics(tmp_path: Path) -> None:
    lines = [line("a", [1, 1, 0], [0]), line("b", [1, 3, 2], [0, 1], user="v"), line("c", [1])]
    evaluation = evaluation_of(tmp_path, {"x": lines, "y": lines[::-1]})
    rows = [msgspec.json.decode(row) for row in per_user_lines(evaluation)]
    assert [(row["system"], row["example_id"]) for row in rows] == [
        (system, example) for system in "xy" for example in "abc"
    ]
    assert [row["ranks"] for row in rows] == [[1.5], [3, 1], [1]] * 2
    assert rows[0]["recall@1"] == 0.5
    assert rows[1] == rows[4] | {"system": "x"}
    assert (rows[1]["user_id"], rows[1]["candidates"]) == ("v", 3)
    assert rows[2]["auc"] is None


def test_per_user_lines_are_the_same_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line(f"u{n}", [1, 2, 3], [n % 3, (n + 1) % 3]) for n in range(7)]
    evaluation = evaluation_of(tmp_path, {"x": lines})
    whole = list(per_user_lines(evaluation))
    monkeypatch.setattr("trec_cli.evaluate.results._LINES", 3)
    assert list(per_user_lines(evaluation)) == whole


@pytest.mark.parametrize("many", [3, 1000])
def test_numbers_in_files_and_in_parts_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """Several questions of a user, lists without negatives, two seeds, other orders of lines."""
    random = np.random.default_rng(0)
    questions = [(f"q{n}", f"u{n % 31}", 2 + n % 3, n % 4 == 0) for n in range(50)]

    def lines() -> list[Line]:
        order = random.permutation(len(questions)).tolist()
        return [
            line(
                name, random.integers(4, size=width).tolist(), range(width if alone else 1), user=u
            )
            for name, u, width, alone in (questions[place] for place in order)
        ]

    systems = {"a": lines(), "b@1": lines(), "b@2": lines(), "a-nouser": lines()}
    monkeypatch.setattr("trec_cli.evaluate.statistics._MANY", many)

    def results() -> tuple[object, list[bytes]]:
        found = evaluation_of(tmp_path, systems)
        return summarise(found, Options(ks=(1, 2), replicates=20, permutations=20)), list(
            per_user_lines(found)
        )

    whole = results()
    small = {"arrays._IN_MEMORY": 100, "arrays._ROWS": 7, "spool._WRITTEN": 100, "names._CHUNK": 4}
    for name, size in small.items():
        monkeypatch.setattr(f"trec_cli.core.{name}", size)
    monkeypatch.setattr("trec_cli.evaluate.scores._PART", 11)
    assert results() == whole


def test_users_without_negatives_do_not_dilute_the_effect_size_of_auc(tmp_path: Path) -> None:
    """AUC gains of a, b, c are 1, 1/2 and 1/2: mean 2/3, standard deviation sqrt(1/12)."""
    alone = [line(f"x{n}", [1.0]) for n in range(5)]
    weak = [line("a", [0, 1, 1]), line("b", [0, 1, 1]), line("c", [1, 2, 0]), *alone]
    strong = [line("a", [2, 1, 1]), line("b", [1, 2, 0]), line("c", [2, 1, 0]), *alone]
    evaluation = evaluation_of(tmp_path, {"weak": weak, "strong": strong})
    (auc,) = [
        entry
        for entry in summarise(evaluation, Options((1, 2), 10, 10))["comparisons"]
        if entry["metric"] == "auc"
    ]
    assert auc["difference"] == pytest.approx(2 / 3)
    assert auc["effect_size"] == pytest.approx((2 / 3) / np.sqrt(1 / 12))


def test_the_blend_is_the_usual_reference(tmp_path: Path) -> None:
    lines = [line(f"u{n}", [2, 1]) for n in range(3)]
    evaluation = evaluation_of(tmp_path, {"a": lines, "blend": lines, "c": lines})
    compared = summarise(evaluation, Options((1,), 5, 5))["comparisons"]
    assert {entry["reference"] for entry in compared} == {"blend"}
    assert {entry["system"] for entry in compared} == {"a", "c"}
    chosen = summarise(evaluation, Options((1,), 5, 5, reference="c"))["comparisons"]
    assert {entry["reference"] for entry in chosen} == {"c"}
