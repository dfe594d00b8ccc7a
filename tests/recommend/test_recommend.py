"""``trec recommend``: lists, reasons, filters, and the next night, by the command itself."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from trec_cli.commands.app import app
from trec_cli.core.jsonl import encode, read_examples
from trec_cli.core.records import Example, Item
from trec_cli.signals.blend import Blend, Learner, load_logit
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events
from trec_cli.signals.renewal import past_examples

Lines = list[dict[str, Any]]
SHOP = [
    Item(f"i{n}", {"title": f"{('pot', 'saw')[n % 2]} {n // 4}", "brand": ("Pot", "Saw")[n % 2]})
    for n in range(40)
]


def _asked(user: str, history: Sequence[str], right: Sequence[str] = ()) -> Example:
    return Example(
        example_id=f"{user}-predict",
        user_id=user,
        split="test" if right else "predict",
        history=list(history),
        candidates=list(right),
        positives=list(right),
    )


def _users() -> list[Example]:
    """30 users who go through neighbouring items, and one without history."""
    steps = [[f"i{(n + k) % 12}" for k in range(4)] for n in range(30)]
    return [*(_asked(f"u{n}", history) for n, history in enumerate(steps)), _asked("new", [])]


def _write(run: Path, examples: Sequence[Example], items: Sequence[Item] = SHOP) -> Path:
    run.mkdir(exist_ok=True)
    (run / "items.jsonl").write_bytes(b"".join(map(encode, items)))
    (run / "examples.jsonl").write_bytes(b"".join(map(encode, examples)))
    return run


def _trec(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, ["recommend", *map(str, arguments)], input=stdin)


def _lines(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = _write(tmp_path_factory.mktemp("shop"), _users())
    result = _trec(folder)
    assert result.exit_code == 0, result.stderr
    return folder


def test_every_user_gets_ten_ranked_items_that_are_not_in_the_history(run: Path) -> None:
    lines = _lines(run / "recommendations-catalogue.jsonl")
    assert [line["user_id"] for line in lines] == [e.user_id for e in _users()]
    for line, example in zip(lines, _users(), strict=True):
        items = [entry["item_id"] for entry in line["items"]]
        scores = [entry["score"] for entry in line["items"]]
        assert len(set(items)) == 10
        assert not set(items) & set(example.history)
        assert [entry["rank"] for entry in line["items"]] == list(range(1, 11))
        assert scores == sorted(scores, reverse=True)


def test_what_followed_in_other_histories_is_recommended_and_the_reason_stands_in_the_own(
    run: Path,
) -> None:
    first = _lines(run / "recommendations-catalogue.jsonl")[0]
    assert first["items"][0]["item_id"] == "i4"
    histories = {e.user_id: e.history for e in _users()}
    for line in _lines(run / "recommendations-catalogue.jsonl"):
        for entry in line["items"]:
            if "because" in entry:
                assert entry["because"]["history_item"] in histories[line["user_id"]]
    assert "because" in first["items"][0]


def test_a_user_without_history_gets_a_list_without_reasons(run: Path) -> None:
    last = _lines(run / "recommendations-catalogue.jsonl")[-1]
    assert last["user_id"] == "new"
    assert len(last["items"]) == 10
    assert all("because" not in entry for entry in last["items"])


def test_the_same_command_again_does_nothing(run: Path) -> None:
    before = (run / "recommendations-catalogue.jsonl").read_bytes()
    result = _trec(run)
    assert "is finished already" in result.stderr
    assert (run / "recommendations-catalogue.jsonl").read_bytes() == before


def test_csv_and_parquet_hold_the_same_lists(run: Path, tmp_path: Path) -> None:
    for name in ("out.csv", "out.parquet"):
        assert _trec(run, "--out", tmp_path / name).exit_code == 0
    expected = [
        (line["user_id"], entry["item_id"], entry["rank"], entry["score"])
        for line in _lines(run / "recommendations-catalogue.jsonl")
        for entry in line["items"]
    ]
    with (tmp_path / "out.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["user_id", "item_id", "rank", "score"]
    assert [(u, i, int(r), float(s)) for u, i, r, s in rows[1:]] == expected
    assert pl.read_parquet(tmp_path / "out.parquet").rows() == expected


def test_the_next_night_keeps_the_lists_of_users_with_the_same_history(
    run: Path, tmp_path: Path
) -> None:
    folder = _write(tmp_path / "shop", _users())
    assert _trec(folder).exit_code == 0
    before = {line["user_id"]: line for line in _lines(folder / "recommendations-catalogue.jsonl")}
    grown = [_asked("u0", [*_users()[0].history, "i4"]), *_users()[1:], _asked("fresh", ["i1"])]
    _write(folder, grown)
    result = _trec(folder, "--json")
    assert result.exit_code == 0, result.stderr
    assert "30 of 32 lists kept" in result.stderr
    assert "recent popularity" not in result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["weights_kept"]
    after = {line["user_id"]: line for line in _lines(folder / "recommendations-catalogue.jsonl")}
    assert after["u1"] == before["u1"]
    assert "i4" not in [entry["item_id"] for entry in after["u0"]["items"]]
    assert len(after["fresh"]["items"]) == 10


def test_an_item_that_sold_out_is_gone_from_kept_lists_too(tmp_path: Path) -> None:
    folder = _write(tmp_path / "shop", _users())
    out_of_stock = tmp_path / "out.txt"
    out_of_stock.write_text("i39\n")
    assert _trec(folder, "--exclude", out_of_stock).exit_code == 0
    out_of_stock.write_text("i4\n")
    result = _trec(folder, "--exclude", out_of_stock)
    assert result.exit_code == 0, result.stderr
    lines = _lines(folder / "recommendations-catalogue.jsonl")
    assert "i4" not in {entry["item_id"] for line in lines for entry in line["items"]}


def test_filters_and_other_settings(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "saws.jsonl"
    result = _trec(run, "--only", "brand=saw", "--top", 3, "--no-reasons", "--out", out)
    assert result.exit_code == 0, result.stderr
    items = {entry["item_id"] for line in _lines(out) for entry in line["items"]}
    assert items <= {f"i{n}" for n in range(1, 40, 2)}
    again = _trec(run, "--only", "brand=pot", "--top", 3, "--no-reasons", "--out", out)
    assert again.exit_code == 2
    assert "was made with other settings" in again.stderr


def test_a_shortlist_is_a_file_of_questions_for_another_scorer(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "short.jsonl"
    assert _trec(run, "--shortlist", 12, "--out", out).exit_code == 0
    questions = read_examples(out)
    assert [q.user_id for q in questions] == [e.user_id for e in _users()]
    assert all(len(q.candidates) == 12 and q.split == "predict" for q in questions)
    best = {line["user_id"]: line for line in _lines(run / "recommendations-catalogue.jsonl")}
    for question in questions:
        top = {entry["item_id"] for entry in best[question.user_id]["items"]}
        assert top <= set(question.candidates)


def test_recall_is_stated_where_answers_are_known(tmp_path: Path) -> None:
    train = [
        msgspec.structs.replace(
            e,
            split="train",
            history=e.history[:-1],
            positives=e.history[-1:],
            candidates=e.history[-1:],
        )
        for e in _users()[:-1]
    ]
    asked = [_asked("t", ["i0"], ["i1"]), _asked("far", ["i0"], ["i39"])]
    folder = _write(tmp_path / "shop", [*train, *asked])
    result = _trec(folder, "--split", "test", "--top", 2)
    assert result.exit_code == 0, result.stderr
    assert "1 of 2 right answers found (50.0%) in the first 2" in result.stderr
    assert (folder / "recommendations-catalogue-test.jsonl").exists()


def test_train_users_are_ranked_for_by_signals_that_do_not_know_them(tmp_path: Path) -> None:
    """As ``trec score --scorer blend`` scores their questions, fold by fold."""
    train = [
        msgspec.structs.replace(
            _asked(f"u{n}", [f"i{n % 12}"], [f"i{(n + 1) % 12}"]), split="train"
        )
        for n in range(60)
    ]
    folder = _write(tmp_path / "shop", train)
    result = _trec(folder, "--split", "train", "--top", 3)
    assert result.exit_code == 0, result.stderr
    lines = _lines(folder / "recommendations-catalogue-train.jsonl")
    assert [line["user_id"] for line in lines] == [example.user_id for example in train]
    catalogue = EncodedCatalogue.of({item.item_id: item for item in SHOP})
    learner = Learner(catalogue, Events.of(train, catalogue.rows))
    blend = Blend(learner, load_logit(folder / "model-blend-catalogue.json"))
    listed = [[entry["item_id"] for entry in line["items"]] for line in lines]
    asked = [
        msgspec.structs.replace(example, candidates=items)
        for example, items in zip(train, listed, strict=True)
    ]
    for line, scores in zip(lines, blend.score(asked), strict=True):
        # the whole catalogue is scored up to a constant, in single precision
        own = np.array([entry["score"] for entry in line["items"]])
        np.testing.assert_allclose(own - own[0], np.array(scores) - scores[0], atol=1e-3)


def test_answers_of_valid_weigh_nothing_when_valid_is_recommended_to(tmp_path: Path) -> None:
    train = [
        msgspec.structs.replace(
            _asked(f"u{n}", [f"i{n % 12}"], [f"i{(n + 1) % 12}"]), split="train"
        )
        for n in range(30)
    ]
    found = []
    for step in (1, 5):
        valid = [
            msgspec.structs.replace(
                _asked(f"v{n}", [f"i{n}"], [f"i{(n + step) % 12}"]), split="valid"
            )
            for n in range(12)
        ]
        folder = _write(tmp_path / f"shop{step}", [*train, *valid])
        assert _trec(folder, "--split", "valid").exit_code == 0
        lines = _lines(folder / "recommendations-catalogue-valid.jsonl")
        found.append([line["items"] for line in lines])
    assert found[0] == found[1]


def test_an_item_that_left_the_catalogue_is_gone_from_kept_lists_too(tmp_path: Path) -> None:
    folder = _write(tmp_path / "shop", _users())
    assert _trec(folder).exit_code == 0
    before = _lines(folder / "recommendations-catalogue.jsonl")
    taken = {item for example in _users() for item in example.history}
    listed = [entry["item_id"] for line in before for entry in line["items"]]
    gone = next(item for item in listed if item not in taken)
    _write(folder, _users(), [item for item in SHOP if item.item_id != gone])
    result = _trec(folder)
    assert result.exit_code == 0, result.stderr
    after = _lines(folder / "recommendations-catalogue.jsonl")
    assert gone not in {entry["item_id"] for line in after for entry in line["items"]}


def test_a_user_who_has_taken_everything_gets_an_empty_list(tmp_path: Path) -> None:
    folder = _write(tmp_path / "shop", [_asked("u", ["i0", "i1", "i2"])], SHOP[:3])
    result = _trec(folder)
    assert result.exit_code == 0, result.stderr
    assert _lines(folder / "recommendations-catalogue.jsonl")[0]["items"] == []


def test_three_users_are_shown_with_their_histories(run: Path, tmp_path: Path) -> None:
    result = _trec(run, "--out", tmp_path / "again.jsonl")
    assert result.stderr.count("because of") == 3
    assert result.stderr.count("by the signal") == 3
    bare = _trec(run, "--no-reasons", "--out", tmp_path / "bare.jsonl")
    assert "recommended" in bare.stderr
    assert "because of" not in bare.stderr


def test_the_newest_items_of_a_history_are_shown_and_of_how_many(tmp_path: Path) -> None:
    users = _users()
    users[0] = _asked("u0", [f"i{n}" for n in (0, 4, 8, 12, 16, 20, 24)])
    users[1] = msgspec.structs.replace(users[1], start=1200)
    told = _trec(_write(tmp_path / "shop", users), "--show", 31).stderr
    for line in (
        "u0: history of 7 items, the newest first: pot 6; pot 5; pot 4; pot 3; pot 2; …",
        "u1: history of 1,204 items, the newest first: pot 1; saw 0; pot 0; saw 0; …",
        "u2: history of 4 items, the newest first: saw 1; pot 1; saw 0; pot 0",
        "new: no history",
    ):
        assert f"\n{line}\n" in told


def test_an_item_without_title_is_shown_by_its_id_and_a_text(tmp_path: Path) -> None:
    labelled = [Item(item.item_id, {"label": item.title}) for item in SHOP]
    result = _trec(_write(tmp_path / "shop", _users(), labelled))
    assert result.exit_code == 0, result.stderr
    assert "i0: pot 0" in result.stderr


def test_faults_are_named(run: Path, tmp_path: Path) -> None:
    assert _trec(run, "--shortlist", 5, "--out", tmp_path / "x.csv").exit_code == 2
    assert _trec(run, "--out", tmp_path / "x.txt").exit_code == 2
    assert _trec(run, "--split", "test", "--out", tmp_path / "y.jsonl").exit_code == 3
    for more in ([], ["--dry-run"]):
        wrong = _trec(run, "--only", "colour=red", "--out", tmp_path / "z.jsonl", *more)
        assert wrong.exit_code == 2
        assert "--only colour=…: no item has it" in wrong.stderr
        assert "learnt-blend" not in wrong.stderr
    assert _trec(run, "--dry-run").exit_code == 0
    dry = _trec(run, "--dry-run", "--only", "brand=saw", "--out", tmp_path / "z.jsonl")
    assert "20 of 40 items may be recommended: 20 are not brand=saw" in dry.stderr


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("--shortlist 5 --top 3", "--top is for lists, not for the questions of --shortlist"),
        ("--shortlist 5 --show 0", "--show is for lists, not for the questions of --shortlist"),
        ("--shortlist 5 --keep-lists", "--keep-lists is for lists, not for the questions of"),
        ("--shortlist 5 --no-reasons", "--reasons is for lists, not for the questions of"),
        ("--out x.csv --no-reasons", "--reasons is for JSONL, not for .csv"),
        ("--out - --keep-lists", "--keep-lists is for an output in a file, not for --out -"),
        ("--store x.sqlite", "--store is for the vectors of --embedder"),
    ],
)
def test_an_option_that_changes_nothing_is_refused_where_it_is_typed(
    run: Path, typed: str, told: str
) -> None:
    refused = _trec(run, *typed.split())
    assert refused.exit_code == 2
    assert told in refused.stderr


def test_an_option_of_a_file_for_every_night_may_change_nothing(run: Path, tmp_path: Path) -> None:
    config = tmp_path / "night.toml"
    config.write_text("top = 3\nreasons = false\n")
    out = tmp_path / "short.jsonl"
    result = _trec(run, "--shortlist", 5, "--config", config, "--out", out)
    assert result.exit_code == 0, result.stderr


def test_one_is_one_in_every_message(tmp_path: Path) -> None:
    folder = _write(tmp_path / "shop", [_asked("u", ["i0", "i1", "i2"])], SHOP[:4])
    dry = _trec(folder, "--dry-run").stderr
    assert "dry run: 1 user of split predict, 4 items; would write" in dry
    told = _trec(folder).stderr
    assert "1 list is shorter than --top" in told
    assert "1 user, 1 of 4 items recommended" in told


def test_that_items_of_a_shortened_history_may_come_again_is_said(tmp_path: Path) -> None:
    users = _users()
    users[:2] = [msgspec.structs.replace(one, start=7) for one in users[:2]]
    folder = _write(tmp_path / "shop", users)
    told = " ".join(_trec(folder).stderr.split())
    assert "the histories of 2 users are shortened" in told
    assert "--max-history" in told
    assert "are shortened" not in _trec(folder, "--repeats", "--overwrite").stderr


@pytest.mark.parametrize("search", ["exact", "approximate"])
def test_items_that_a_cap_has_cut_away_are_not_recommended(tmp_path: Path, search: str) -> None:
    folder = _write(tmp_path / "shop", _users())
    assert _trec(folder, "--search", search).exit_code == 0
    name = "recommendations-catalogue.jsonl"
    best = [e["item_id"] for e in _lines(folder / name)[0]["items"]][:3]
    users = _users()
    users[0] = msgspec.structs.replace(users[0], start=3, older=best)
    result = _trec(_write(folder, users), "--search", search, "--json")
    assert "are shortened" not in result.stderr
    first = _lines(folder / name)[0]
    assert len(first["items"]) == 10
    assert not {e["item_id"] for e in first["items"]} & {*best, *users[0].history}
    assert _told(result)["made_because"] == {"the history has changed": 1}


def test_before_a_prediction_the_newest_item_is_the_answer_and_everything_is_past() -> None:
    known = _asked("u", ["i1"], ["i2"])
    past = past_examples([known, _asked("u", ["i1", "i2"]), _asked("v", [])])
    assert [(e.split, e.history, e.positives) for e in past] == [("train", ["i1"], ["i2"])]


def _grown(folder: Path, items: Sequence[Item] = SHOP) -> Result:
    """Make lists, let the first user take one item more, and make them again."""
    _write(folder, _users())
    assert _trec(folder).exit_code == 0
    _write(folder, [_asked("u0", [*_users()[0].history, "i4"]), *_users()[1:]], items)
    return _trec(folder, "--json")


def _told(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_a_new_item_makes_all_lists_again_unless_they_are_to_be_kept(tmp_path: Path) -> None:
    more = [*SHOP, Item("i40", {"title": "pot 10", "brand": "Pot"})]
    made = _grown(tmp_path / "one", more)
    assert "31: the items have changed" in made.stderr
    assert _told(made)["kept"] == 0
    folder = tmp_path / "two"
    _grown(folder)
    before = _lines(folder / "recommendations-catalogue.jsonl")
    _write(folder, _users(), more)
    kept = _trec(folder, "--keep-lists", "--json")
    assert _told(kept)["kept"] == 30
    assert _told(kept)["made_because"] == {"the history has changed": 1}
    assert _lines(folder / "recommendations-catalogue.jsonl")[1:] == before[1:]


def test_weights_that_were_fitted_again_elsewhere_make_all_lists_again(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    _grown(folder)
    assert _trec(folder, "--overwrite", "--out", tmp_path / "out.csv").exit_code == 0
    weights = folder / "model-blend-catalogue.json"
    weights.write_bytes(weights.read_bytes() + b"\n")
    _write(folder, _users())
    result = _trec(folder)
    assert "31: the weights were fitted again" in result.stderr


def test_a_log_grown_by_a_fifth_fits_new_weights_and_makes_all_lists_again(tmp_path: Path) -> None:
    folder = _write(tmp_path / "shop", _users()[:24])
    assert _trec(folder).exit_code == 0
    _write(folder, _users())
    result = _trec(folder, "--json")
    assert "31: the weights were fitted again" in result.stderr
    assert not _told(result)["weights_kept"]


def test_kept_lists_are_counted_with_the_made_ones(tmp_path: Path) -> None:
    result = _told(_grown(tmp_path / "shop"))
    lines = _lines(tmp_path / "shop" / "recommendations-catalogue.jsonl")
    assert result["kept"] == 30
    assert result["made_because"] == {"the history has changed": 1}
    assert result["items_recommended"] == len({e["item_id"] for x in lines for e in x["items"]})


@pytest.mark.parametrize("name", ["tonight.csv", "tonight.parquet"])
def test_the_next_night_of_a_table_keeps_lists_too(tmp_path: Path, name: str) -> None:
    folder = _write(tmp_path / "shop", _users())
    table = tmp_path / name
    assert _trec(folder, "--out", table).exit_code == 0
    before = _table(table)
    _write(folder, [_asked("u0", [*_users()[0].history, "i4"]), *_users()[1:]])
    night = _told(_trec(folder, "--out", table, "--json"))
    assert night["kept"] == 30
    assert night["made_because"] == {"the history has changed": 1}
    assert [row for row in _table(table) if row[0] != "u0"] == [r for r in before if r[0] != "u0"]
    assert _trec(folder).exit_code == 0
    expected = [
        (line["user_id"], entry["item_id"], entry["rank"], entry["score"])
        for line in _lines(folder / "recommendations-catalogue.jsonl")
        for entry in line["items"]
    ]
    assert [row for row in _table(table) if row[0] == "u0"] == [
        row for row in expected if row[0] == "u0"
    ]
    assert "is finished already" in _trec(folder, "--out", table).stderr


@pytest.mark.parametrize(
    ("name", "more"),
    [("out.csv", []), ("out.parquet", []), ("out.jsonl", []), ("out.jsonl", ["--shortlist", "5"])],
)
def test_users_who_are_gone_do_not_lose_their_lists_unsaid(
    tmp_path: Path, name: str, more: list[str]
) -> None:
    folder, out = _write(tmp_path / "shop", _users()), tmp_path / name
    options = ["--out", str(out), *more]
    assert _trec(folder, *options).exit_code == 0
    before = out.read_bytes()
    _write(folder, [*_users()[25:], _asked("fresh", ["i1"])])
    refused = _trec(folder, *options)
    assert refused.exit_code == 2
    told = "has 31 users, of whom 25 are gone from the inputs: u0, u1, u10 and 22 more."
    assert told in refused.stderr
    assert "--overwrite to lose them" in refused.stderr
    assert out.read_bytes() == before
    assert _trec(folder, *options, "--overwrite").exit_code == 0
    assert out.read_bytes() != before


def test_a_log_that_forgets_its_oldest_users_keeps_the_lists_of_the_others(tmp_path: Path) -> None:
    folder = _write(tmp_path / "shop", _users())
    out = tmp_path / "tonight.csv"
    assert _trec(folder, "--out", out).exit_code == 0
    _write(folder, _users()[5:])
    result = _trec(folder, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert (
        f"5 users are gone from the inputs, and from {out}: u0, u1, u2 and 2 more" in result.stderr
    )
    listed = {row.split(",")[0] for row in out.read_text().splitlines()[1:]}
    assert listed.isdisjoint({"u0", "u4"})


def test_users_of_a_table_whose_lists_are_gone_are_still_known(tmp_path: Path) -> None:
    folder = _write(tmp_path / "shop", _users())
    for name in ("tonight.csv", "tonight.parquet"):
        table = tmp_path / name
        assert _trec(folder, "--out", table).exit_code == 0
        (tmp_path / f".{name}.lists").unlink()
    _write(folder, _users()[:1])
    for name in ("tonight.csv", "tonight.parquet"):
        refused = _trec(folder, "--out", tmp_path / name)
        assert refused.exit_code == 2
        assert "has 31 users, of whom 30 are gone from the inputs" in refused.stderr


def test_users_who_are_there_and_not_asked_for_may_lose_their_lists(tmp_path: Path) -> None:
    """By ``--limit`` a new user takes the place of an old one, whom the log still has."""
    folder = _write(tmp_path / "shop", _users())
    assert _trec(folder, "--limit", 3).exit_code == 0
    _write(folder, [_asked("fresh", ["i1"]), *_users()])
    result = _trec(folder, "--limit", 3)
    assert result.exit_code == 0, result.stderr
    lines = _lines(folder / "recommendations-catalogue.jsonl")
    assert [line["user_id"] for line in lines] == ["fresh", "u0", "u1"]


def test_what_comes_through_standard_input_is_known_by_its_content(tmp_path: Path) -> None:
    folder = _write(tmp_path / "shop", _users())
    options = ("--examples", "-", "--out", tmp_path / "out.csv", "--json")
    first = (folder / "examples.jsonl").read_bytes()
    assert _told(_trec(folder, *options, stdin=first))["users"] == 31
    assert "is finished already" in _trec(folder, *options, stdin=first).stderr
    more = first + encode(_asked("fresh", ["i1"]))
    assert _told(_trec(folder, *options, stdin=more))["kept"] == 31
    assert "u0" in _trec(folder, *options, stdin=b"".join(more.splitlines(True)[1:])).stderr
    assert _trec(folder, *options, "--exclude", "-").exit_code == 2


def test_lists_that_are_not_those_of_the_table_are_not_kept(tmp_path: Path) -> None:
    folder = _write(tmp_path / "shop", _users())
    table = tmp_path / "tonight.csv"
    assert _trec(folder, "--out", table).exit_code == 0
    lists = tmp_path / ".tonight.csv.lists"
    lists.write_bytes(lists.read_bytes().replace(b'"rank":1,', b'"rank":9,'))
    _write(folder, [_asked("u0", [*_users()[0].history, "i4"]), *_users()[1:]])
    assert _told(_trec(folder, "--out", table, "--json"))["kept"] == 0
    assert {row[2] for row in _table(table)} == set(range(1, 11))


def test_a_night_that_failed_at_the_table_does_not_cost_last_nights_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _write(tmp_path / "shop", _users())
    table = tmp_path / "tonight.csv"
    assert _trec(folder, "--out", table).exit_code == 0
    before = table.read_bytes()
    _write(folder, [_asked("u0", [*_users()[0].history, "i4"]), *_users()[1:]])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("trec_cli.recommend.run.write_recommendations", killed)
        assert _trec(folder, "--out", table).exit_code != 0
    assert table.read_bytes() == before
    assert _told(_trec(folder, "--out", table, "--json"))["kept"] == 30
    assert not list(tmp_path.glob(".*.tmp"))


def _table(path: Path) -> list[tuple[str, str, int, float]]:
    table = pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)
    return table.rows()


def test_what_a_killed_night_had_noted_does_not_cost_last_nights_lists(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert _grown(whole).exit_code == 0
    _write(stopped, _users())
    assert _trec(stopped).exit_code == 0
    _write(stopped, [_asked("u0", [*_users()[0].history, "i4"]), *_users()[1:]])
    name = "recommendations-catalogue.jsonl"
    note = stopped / f".{name}.writing"
    note.write_text(json.dumps({"split": "predict"}))
    assert _told(_trec(stopped, "--json"))["kept"] == 30
    assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert not note.exists()


def test_approximate_search_ranks_what_it_finds_by_the_blend(tmp_path: Path, run: Path) -> None:
    out = tmp_path / "near.jsonl"
    result = _trec(run, "--search", "approximate", "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    assert "of what exact search finds (31 users compared)" in result.stderr
    assert _told(result)["agreement"] > 0.7  # many of the 40 items have equal scores
    exact = _lines(run / "recommendations-catalogue.jsonl")
    for one, other in zip(exact, _lines(out), strict=True):
        best = [np.array([e["score"] for e in x["items"]]) for x in (one, other)]
        assert np.allclose(best[0] - best[0][0], best[1] - best[1][0], atol=1e-4)


def test_every_filter_is_counted(tmp_path: Path) -> None:
    dated = [
        Item(i.item_id, {**i.attributes, "published": f"2024-05-{n % 28 + 1:02}"})
        for n, i in enumerate(SHOP)
    ]
    folder = _write(tmp_path / "shop", _users(), dated)
    stock = tmp_path / "out.txt"
    stock.write_text("i39\n")
    filters = ("--exclude", stock, "--only", "brand=saw", "--since", "published=2024-05-03")
    result = _trec(folder, *filters, "--json")
    assert result.exit_code == 0, result.stderr
    told = _told(result)
    assert told["items_left_out"] == {
        "are excluded": 1,
        "are not brand=saw": 20,
        "are older (published)": 2,
    }
    assert "17 of 40 items may be recommended" in result.stderr
    assert told["taken_left_out"] == 120
    lines = _lines(folder / "recommendations-catalogue.jsonl")
    assert not {e["item_id"] for x in lines for e in x["items"]} & {"i1", "i29", "i39", "i0"}
    assert "SettingsChanged" not in _trec(folder, *filters).stderr
    assert _trec(folder, "--since", "2024").exit_code == 2


def _kept_models(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "learnt-blend-catalogue").glob("sequence-*"))


def test_sequence_models_are_trained_once_and_kept_until_the_log_has_grown(
    tmp_path: Path, tiny_embedder: Path
) -> None:
    chosen = ["--embedder", tiny_embedder, "--json"]
    folder = _write(tmp_path / "shop", _users()[:24])
    assert _trec(folder, *chosen).exit_code == 0
    first = _kept_models(folder)
    assert len(first) == 3
    # The next night: one click and one item more; neither weights nor models are made again.
    more = [*SHOP, Item("i40", {"title": "pot 10", "brand": "Pot"})]
    grown = [_asked("u0", [*_users()[0].history, "i4"]), *_users()[1:24]]
    night = _trec(_write(folder, grown, more), *chosen)
    assert night.exit_code == 0, night.stderr
    assert _told(night)["weights_kept"] is True
    assert _kept_models(folder) == first
    assert "sequence taken from" in night.stderr
    # A log that has grown by more than a fifth.
    later = _trec(_write(folder, _users(), more), *chosen)
    assert _told(later)["weights_kept"] is False
    assert _kept_models(folder) != first
    assert len(_kept_models(folder)) == 3


def test_weights_of_when_embedders_shared_their_models_are_made_again(
    tmp_path: Path, tiny_embedder: Path, tiny_model: Callable[..., Path]
) -> None:
    both = ["--embedder", f"{tiny_embedder},{tiny_model('llama')}", "--json"]
    folder = _write(tmp_path / "shop", _users()[:24])
    assert _trec(folder, *both).exit_code == 0
    weights = folder / "model-blend-catalogue.json"
    content = json.loads(weights.read_text())
    assert len(content["sequence"]) == 6
    assert {"sequence", "sequence_2"} <= {signal["name"] for signal in content["signals"]}
    content["sequence"] = content["sequence"][:3]
    weights.write_text(json.dumps(content))
    grown = [_asked("u0", [*_users()[0].history, "i4"]), *_users()[1:24]]
    night = _trec(_write(folder, grown), *both)
    assert night.exit_code == 0, night.stderr
    assert _told(night)["weights_kept"] is False
    assert len(json.loads(weights.read_text())["sequence"]) == 6


def test_in_a_split_by_time_older_answers_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trec_cli.signals.renewal.LEAST_ASKED", 5)
    examples = [
        msgspec.structs.replace(
            _asked(f"{split}{n}", [f"i{n % 12}"], [f"i{(n + 1) % 12}"]),
            split=split,
            timestamp=begin + n,
        )
        for split, begin in (("train", 0), ("valid", 100), ("test", 200))
        for n in range(14)
    ]
    folder = _write(tmp_path / "shop", examples)
    result = _trec(folder, "--split", "test")
    assert result.exit_code == 0, result.stderr
    told = " ".join(result.stderr.split())
    assert "14 answers of split valid, all older than the questions" in told
    weights = json.loads((folder / "model-blend-catalogue.json").read_text())
    assert weights["made_with"]["renewed"] == ["valid"]
    assert weights["questions"] == 7
    assert "recent" in {signal["name"] for signal in weights["signals"]}
    again = _trec(folder, "--split", "test", "--out", tmp_path / "again.csv", "--json")
    assert _told(again)["weights_kept"] is True
