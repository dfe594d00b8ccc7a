"""The report shows what real users are recommended, beside what they took."""

import json
from pathlib import Path

from trec_cli.core.jsonl import encode, encode_all
from trec_cli.core.outputs import write_lines
from trec_cli.core.records import Example, Item, Split
from trec_cli.core.runs import RunFolder
from trec_cli.evaluate.recommended import USERS, recommended
from trec_cli.evaluate.sources import Sources

LENGTHS: dict[Split, int] = {"test": 9, "predict": 10}


def _run(folder: Path, users: int = 2) -> Sources:
    run = RunFolder(folder)
    items = [Item(f"i{n}", {"title": f"Thing <{n}>" if n else ""}) for n in range(12)]
    write_lines(run.items, encode_all(items))
    examples = [
        Example(
            example_id=f"u{n}-{split}",
            user_id=f"u{n}",
            split=split,
            history=[f"i{k}" for k in range(1, length + 1)] if n else [],
            candidates=[] if split == "predict" else ["i1", "i2"],
            positives=[] if split == "predict" else ["i1"],
        )
        for n in range(users)
        for split, length in LENGTHS.items()
    ]
    write_lines(run.examples, encode_all(examples))
    lines = [
        {
            "user_id": f"u{n}",
            "items": [
                {"item_id": "i0", "rank": 2, "score": 0.5},
                {
                    "item_id": "i11",
                    "rank": 1,
                    "score": 1.5,
                    "because": {"signal": "bm25", "history_item": "i3"},
                },
                {"item_id": "gone", "rank": 3, "score": 0.1},
            ],
        }
        for n in range(users)
    ]
    write_lines(run.recommendations("catalogue"), map(encode, lines))
    return Sources.find(folder, None, None, [])


def test_a_list_is_shown_by_rank_beside_the_newest_history(tmp_path: Path) -> None:
    by_user = {one.user_id: one for one in recommended(_run(tmp_path), seed=0)}
    shown = by_user["u1"]
    assert (shown.system, shown.earlier) == ("catalogue", 2)
    assert shown.history == [f"Thing <{n}>" for n in range(3, 11)]
    assert [offer.title for offer in shown.offers] == ["Thing <11>", "i0", "gone"]
    assert [offer.because for offer in shown.offers] == ["Thing <3>", "", ""]
    assert by_user["u0"].history == []


def test_a_few_users_are_drawn_by_hash_those_with_history_first(tmp_path: Path) -> None:
    sources = _run(tmp_path, users=40)
    users = [one.user_id for one in recommended(sources, seed=0)]
    assert len(users) == USERS
    assert "u0" not in users
    path = sources.recommendations["catalogue"]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(reversed(lines)))
    assert [one.user_id for one in recommended(sources, seed=0)] == users
    assert [one.user_id for one in recommended(sources, seed=1)] != users


def test_without_recommendations_there_is_nothing_to_show(tmp_path: Path) -> None:
    sources = _run(tmp_path)
    sources.recommendations.clear()
    assert recommended(sources, seed=0) == []


def test_recommendations_are_an_input_of_the_report(tmp_path: Path) -> None:
    sources = _run(tmp_path)
    assert tmp_path / "recommendations-catalogue.jsonl" in sources.files()
    assert json.loads((tmp_path / "recommendations-catalogue.jsonl").read_text().splitlines()[0])
