"""The same command on a log that has grown: examples are made again, and no user is lost."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trec_cli.core.errors import UsersGone
from trec_cli.core.jsonl import read_lines
from trec_cli.core.text import counted


class _Line(msgspec.Struct):
    """What is looked at of an example."""

    user_id: str
    example_id: str


@dataclass(frozen=True)
class Growth:
    """What became of the examples of an output whose inputs have grown."""

    users: int
    kept: int
    changed: int
    added: int
    gone: int

    def __str__(self) -> str:
        """Write it for people."""
        told = [
            counted(self.kept, "example is as before", "examples are as before"),
            counted(self.changed, "has changed", "have changed"),
            counted(self.added, "is new", "are new"),
            *([counted(self.gone, "is gone", "are gone")] if self.gone else []),
        ]
        return f"the inputs have grown: {', '.join(told)}"


def compare(before: Path, now: Path) -> Growth:
    """Compare the examples that are there with those that take their place.

    Raises:
        UsersGone: a user is gone, whom no log loses that has only grown.
    """
    old_users, old = _examples(before)
    new_users, new = _examples(now)
    if gone := old_users - new_users:
        raise UsersGone(before, gone, len(old_users))
    return Growth(
        users=len(new_users),
        kept=sum(new.get(name) == line for name, line in old.items()),
        changed=sum(name in new and new[name] != line for name, line in old.items()),
        added=len(new.keys() - old.keys()),
        gone=len(old.keys() - new.keys()),
    )


def _examples(path: Path) -> tuple[set[str], dict[str, bytes]]:
    """Return the users of a file of examples, and a hash of each line by ``example_id``."""
    users: set[str] = set()
    hashes: dict[str, bytes] = {}
    decode = msgspec.json.Decoder(_Line).decode
    for _, (record, digest) in read_lines(path, lambda line: (decode(line), _digest(line))):
        users.add(record.user_id)
        hashes[record.example_id] = digest
    return users, hashes


def _digest(line: str) -> bytes:
    return hashlib.blake2b(line.strip().encode(), digest_size=8).digest()
