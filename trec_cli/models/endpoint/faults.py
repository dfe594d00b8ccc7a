"""Failures of requests: what is said of them, and whether asking on makes sense."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trec_cli.core.errors import ModelError, PartialError, TrecError

_NAMED = 20
_LEAST_IN_A_ROW = 5
_REFUSED_AT_FIRST = 20
_SHOWN = 200


@dataclass(frozen=True)
class Failure:
    """A request without an answer.

    Attributes:
        reason: what the server did, in a few words; holds no key.
        asked: False where the request was never sent.
    """

    reason: str
    asked: bool = True


class Failed(Exception):  # noqa: N818 - reads as a statement
    """One request failed for good.

    Attributes:
        refused: the server is well and does not want this request.
        hopeless: it will probably not want any other either (no such model, wrong key).
        free: the provider cannot charge for it.
    """

    def __init__(
        self, reason: str, *, refused: bool = False, hopeless: bool = False, free: bool = False
    ) -> None:
        """Describe in a few words what the server did; they hold no key."""
        super().__init__(reason)
        self.refused, self.hopeless, self.free = refused, hopeless, free


class Breaker:
    """Decides when to stop asking: a dead server must not cost hours of retries.

    Attributes:
        reason: why no more requests are sent; empty while they are.
    """

    def __init__(self, concurrency: int) -> None:
        """Take how many requests are in flight at most: they fail together."""
        self._limit = max(concurrency, _LEAST_IN_A_ROW)
        self._in_a_row = self._refused = 0
        self._answered = False
        self.reason = ""

    def good(self) -> None:
        """Count an answer."""
        self._in_a_row, self._answered = 0, True

    def bad(self, failed: Failed) -> None:
        """Count a failure; requests refused one by one matter only while none is answered."""
        if failed.refused and not failed.hopeless:
            self._refused += 1
        else:
            self._in_a_row += 1
        if failed.hopeless and not self._answered:
            self.reason = f"not asked after: {failed}"
        elif self._in_a_row >= self._limit:
            self.reason = f"not asked after {self._in_a_row} failures in a row: {failed}"
        elif not self._answered and self._refused >= _REFUSED_AT_FIRST:
            self.reason = f"not asked after {self._refused} refusals: {failed}"


def shorten(text: str, limit: int = _SHOWN) -> str:
    """Put a text on one line, at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def missing_error(
    what: str,
    missing: Sequence[tuple[str, Failure]],
    total: int,
    *,
    server: str,
    dead: bool,
    advice: str = "",
) -> TrecError:
    """Build the error for answers that are missing.

    Args:
        what: the answers' name in the plural.
        missing: name and failure of each, in order.
        total: how many were asked for this time.
        server: its address.
        dead: whether this run has had no answer at all.
        advice: a sentence about what to do.

    Returns:
        A PartialError (exit code 5), or a ModelError (4) where nothing works.
    """
    reasons = Counter(failure.reason for _, failure in missing)
    said = "\n".join(f"  {count} x {reason}" for reason, count in reasons.most_common(_NAMED))
    names = "\n".join(f"  {name}" for name, _ in missing[:_NAMED])
    rest = f"\n  … and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    head = (
        f"the server {server} gave no answer at all. "
        if dead
        else f"{len(missing)} of {total} {what} are missing. "
    )
    message = (
        f"{head}What was answered is kept; the same command asks only for the rest.\n"
        f"{server}:\n{said}\nMissing:\n{names}{rest}" + (f"\n{advice}" if advice else "")
    )
    return ModelError(message) if dead else PartialError(message)
