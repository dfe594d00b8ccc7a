from pathlib import Path

import pytest

from benchmarks.big_inputs import WRITERS
from trec_cli import api
from trec_cli.prepare.settings import PrepareOptions


@pytest.mark.parametrize(("kind", "share"), [("mind", 0.0003), ("amazon", 0.0001)])
def test_a_big_collection_is_read_as_what_it_imitates(
    kind: str, share: float, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        WRITERS[kind](tmp_path / name, share, 3)
    files = [path for path in sorted((tmp_path / "one").rglob("*")) if path.is_file()]
    for path in files:
        again = tmp_path / "other" / path.relative_to(tmp_path / "one")
        assert again.read_bytes() == path.read_bytes()
    items, examples = api.prepare(PrepareOptions(source=tmp_path / "one", out=tmp_path / "run"))
    assert items
    assert {example.split for example in examples} == {"train", "valid", "test"}
