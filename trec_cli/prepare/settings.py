"""What the user may choose about preparing, checked."""

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

from trec_cli.core.errors import UsageError
from trec_cli.core.records import ANSWERED, Split
from trec_cli.prepare.collection import Long, ReadOptions

FormatName = Literal["auto", "mind", "amazon-m2", "amazon-reviews", "jsonl"]
Unknown = Literal["drop", "keep", "fail"]
SplitKind = Literal["auto", "users", "fixed", "leave-last-out", "time"]
Negatives = Literal["auto", "uniform", "popularity", "impression", "fixed"]
Written = Literal["used", "all"]

_NAMES = "--train-users, --valid-users and --test-users"
_ROUNDING = 0.001


@dataclass(frozen=True)
class Sizes:
    """Sizes of the splits: numbers of users, or shares of all users.

    The default is the paper's 10,000 / 1,000 / 1,000 as shares.
    """

    train: Fraction = Fraction(10, 12)
    valid: Fraction = Fraction(1, 12)
    test: Fraction = Fraction(1, 12)
    absolute: bool = False

    @property
    def total(self) -> int:
        """The number of users asked for, where sizes are numbers."""
        return int(self.train + self.valid + self.test)

    @property
    def zero(self) -> frozenset[Split]:
        """The splits that are to hold nothing."""
        return frozenset(split for split in ANSWERED if not getattr(self, split))

    def __str__(self) -> str:
        """Write the sizes as the option takes them."""
        return f"{self.train}, {self.valid}, {self.test}"


def parse_sizes(
    train: str | None, valid: str | None, test: str | None, *, predict: bool = False
) -> Sizes:
    """Read ``0.8``, ``10/12`` (shares) or ``10000`` (users); all three or none.

    All may be 0 where questions of split ``predict`` are made besides.

    Raises:
        UsageError: one is missing or no number, shares and numbers are mixed, or shares
            do not add up to one.
    """
    if train is None and valid is None and test is None:
        return Sizes()
    if train is None or valid is None or test is None:
        raise UsageError(f"give {_NAMES} together, or none of them")
    texts = (train, valid, test)
    absolute = all(text.isdigit() for text in texts)
    sizes = Sizes(_size(train), _size(valid), _size(test), absolute=absolute)
    if not absolute and any(text.isdigit() and int(text) for text in texts):
        raise UsageError(f"{_NAMES} are either all shares or all numbers")
    total = sizes.train + sizes.valid + sizes.test
    if not absolute and abs(float(total) - 1) > _ROUNDING:
        raise UsageError(f"shares of {_NAMES} must add up to 1, not {float(total):g}")
    if not total and not predict:
        raise UsageError(f"{_NAMES} are all 0; only --predict can do without them")
    return sizes


def _size(text: str) -> Fraction:
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"{text!r} is no size of a split: write a share like 0.8 or 10/12, or a number"
        ) from None
    if value < 0:
        raise UsageError(f"the size {text} of a split is negative")
    return value


@dataclass(frozen=True)
class PrepareSettings:
    """Everything besides the input that decides the bytes of the output.

    Attributes:
        min_history, max_history: items before the target; ``long`` says whether a longer
            history loses its oldest items (keep-last) or the example is dropped.
        unknown: what happens to items without text.
        max_users: so many users, picked by hash, or None for all.
        number: negatives of an example; None is 20 drawn ones, or all that the source gives.
        written: items of the examples alone (used), or the whole catalogue.
        predict: make one question about the future per user besides.
    """

    read: ReadOptions
    min_history: int
    max_history: int
    long: Long
    unknown: Unknown = "drop"
    split: SplitKind = "auto"
    sizes: Sizes = Sizes()
    max_users: int | None = None
    negatives: Negatives = "auto"
    number: int | None = None
    written: Written = "used"
    seed: int = 0
    predict: bool = False

    def __post_init__(self) -> None:
        """Check what contradicts itself."""
        if self.min_history > self.max_history:
            raise UsageError(
                f"--min-history {self.min_history} is more than --max-history {self.max_history}"
            )
        if self.read.per_impression and self.read.target == "history":
            raise UsageError(
                "--per-impression needs --target impression: the history is the same in all of them"
            )
        if self.negatives == "impression" and self.read.target == "history":
            raise UsageError("--negatives impression needs --target impression")
        if self.split == "leave-last-out" and self.read.target == "impression":
            raise UsageError("--split leave-last-out needs --target history")
        if self.split == "leave-last-out" and self.sizes != Sizes():
            raise UsageError(f"--split leave-last-out has no sizes: leave out {_NAMES}")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings for a manifest; what was added later is left out at its default."""
        settings = {**asdict(self), "sizes": str(self.sizes)}
        if not self.predict:
            del settings["predict"]
        return settings
