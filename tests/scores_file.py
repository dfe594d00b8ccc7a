"""Reading a scores file back."""

from pathlib import Path

import msgspec

from trec_cli.core.records import Scores


def scores_in(path: Path) -> list[Scores]:
    return [msgspec.json.decode(line, type=Scores) for line in path.read_bytes().splitlines()]
