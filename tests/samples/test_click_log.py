"""The shop of the documentation: the same for the same seed, of the size asked for."""

import csv
import sys
from collections import Counter
from pathlib import Path

import pytest

from samples import click_log


def _make(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> tuple[str, str]:
    size = ["--items", "60", "--users", "20", "--clicks", "300"]
    monkeypatch.setattr(sys, "argv", ["click_log.py", str(folder), *size, *more])
    click_log.main()
    return (folder / "items.csv").read_text(), (folder / "clicks.csv").read_text()


def test_a_log_has_the_size_asked_for_and_every_user_in_order_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, clicks = _make(tmp_path, monkeypatch)
    known = {row["item_id"] for row in csv.DictReader(items.splitlines())}
    rows = list(csv.DictReader(clicks.splitlines()))
    assert len(known) == 60
    assert len(rows) == 300
    assert len(Counter(row["user_id"] for row in rows)) == 20
    assert {row["item_id"] for row in rows} <= known
    for user in ("u0", "u7"):
        times = [int(row["timestamp"]) for row in rows if row["user_id"] == user]
        assert times == sorted(times)


def test_the_same_seed_gives_the_same_bytes_and_tomorrow_only_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _make(tmp_path / "a", monkeypatch)
    assert _make(tmp_path / "b", monkeypatch) == first
    assert _make(tmp_path / "c", monkeypatch, "--seed", "1") != first
    items, clicks = _make(tmp_path / "d", monkeypatch, "--more", "30")
    assert items == first[0]
    assert clicks.startswith(first[1])
    assert len(clicks.splitlines()) == 1 + 300 + 30
