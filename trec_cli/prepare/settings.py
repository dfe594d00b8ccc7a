"""Options of ``trec prepare``, each declared once, and the settings that come of them."""

from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from trec_cli.core.errors import UsageError
from trec_cli.core.files import BEHAVIOUR, Seed
from trec_cli.core.options import Option
from trec_cli.core.records import ANSWERED, Split
from trec_cli.prepare.collection import READING, Defaults, Long, ReadOptions
from trec_cli.prepare.space import Engine
from trec_cli.retrieve.settings import PREFIX, RetrieveSettings, parse_count, parse_search

FormatName = Literal["auto", "mind", "amazon-m2", "amazon-reviews", "jsonl", "clicks"]
Unknown = Literal["drop", "keep", "fail"]
SplitKind = Literal["auto", "users", "fixed", "parts", "leave-last-out", "time"]
Negatives = Literal["auto", "uniform", "popularity", "impression", "fixed"]
Population = Literal["auto", "seen", "shown", "catalogue"]
Targets = Literal["last", "all"]
Repeats = Literal["keep", "drop"]
Written = Literal["used", "all"]

KEEPING, ASKING = "What is kept", "Splits and negatives"
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


_ENOUGH_TO_TEST = ((12_000, Fraction(1, 12)), (8_000, Fraction(1, 8)), (0, Fraction(1, 4)))
"""From so many users on, this share tests: 1,000 users and more from 4,000 users on."""
_VALIDATE = Fraction(1, 12)
_USUAL_TESTS = "; ".join(
    f"{share} from {least:,} users on" if least else f"{share}"
    for least, share in reversed(_ENOUGH_TO_TEST)
)


def usual_sizes(users: int) -> Sizes:
    """Return the sizes of the splits where the user names none.

    Below 12,000 users the paper's twelfth is too few to show a difference, so more test.
    """
    test = next(share for least, share in _ENOUGH_TO_TEST if users >= least)
    return Sizes(train=1 - test - _VALIDATE, valid=_VALIDATE, test=test)


def moment(text: str) -> float:
    """Read a date, a time or seconds since 1970; without a zone UTC is meant.

    Raises:
        UsageError: it is none of these.
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no date: write 2019-11-14, or seconds since 1970") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


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


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The choices that are the same for every format."""

    unknown: Annotated[
        Unknown,
        Option("Items without text: leave out, keep as they are, or stop.", panel=KEEPING),
    ] = "drop"
    max_users: Annotated[
        int | None, Option("Keep so many users, picked by seed.", panel=KEEPING, minimum=1)
    ] = None
    since: Annotated[
        str | None,
        Option("Keep events from this date on (2019-11-14, UTC).", panel=KEEPING),
    ] = None
    until: Annotated[str | None, Option("Keep events before this date.", panel=KEEPING)] = None
    min_rating: Annotated[
        float | None, Option("Keep events rated so or better.", panel=KEEPING)
    ] = None
    k_core: Annotated[
        int,
        Option(
            "Keep users and items with so many events, until all that are left have them.",
            panel=KEEPING,
            minimum=1,
        ),
    ] = 1
    repeats: Annotated[
        Repeats,
        Option(
            "Right answers that stand in the history: keep, or drop (a negative never does).",
            panel=KEEPING,
        ),
    ] = "keep"
    split: Annotated[
        SplitKind,
        Option(
            "By users; by time (one cut for all); the last item of each user; the parts that the "
            "source is published in. auto is fixed where some users have candidates fixed by the "
            "source (these test), parts where these are named, else users.",
            panel=ASKING,
        ),
    ] = "auto"
    valid_from: Annotated[
        str | None,
        Option("--split time: validate from this date on.", panel=ASKING, default_text="by shares"),
    ] = None
    test_from: Annotated[
        str | None,
        Option("--split time: test from this date on.", panel=ASKING, default_text="by shares"),
    ] = None
    window: Annotated[
        str | None,
        Option(
            "--split time: the I-th of N rolling windows, 1/4 to 4/4. Each tests the period after "
            "that of the one before; the last ends with the data.",
            panel=ASKING,
            metavar="I/N",
            default_text="the last",
        ),
    ] = None
    targets: Annotated[
        Targets,
        Option(
            "--split time: ask for the last event of a user in each period, or for all; "
            "--split leave-last-out: all earlier items train, too.",
            panel=ASKING,
        ),
    ] = "last"
    negatives: Annotated[
        Negatives,
        Option(
            "auto is fixed or impression where the source has them, else uniform.", panel=ASKING
        ),
    ] = "auto"
    population: Annotated[
        Population,
        Option(
            "What negatives are drawn from: items that somebody took by then (seen), items shown "
            "in impressions that day (shown), or every item with text (catalogue, as in the "
            "paper); auto is shown with --target impression, else seen.",
            panel=ASKING,
        ),
    ] = "auto"
    number: Annotated[
        int | None,
        Option(
            "Negatives of an example.",
            panel=ASKING,
            names=("--num-negatives",),
            minimum=1,
            default_text="20 drawn, or all of the source's",
        ),
    ] = None
    candidates: Annotated[
        str | None,
        Option(
            "Candidates of your own (JSONL: user_id or example_id, candidates), or retrieve:200 "
            "for the best 200 of the whole catalogue.",
            panel=ASKING,
            metavar="FILE|retrieve:N",
            default_text="right answers and negatives",
        ),
    ] = None
    predict: Annotated[
        bool,
        Option(
            "Ask of every user what comes next, after the whole history (split predict).",
            panel=ASKING,
            names=("--predict",),
        ),
    ] = False
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Every option of ``trec prepare``."""

    source: Annotated[
        Path,
        Option(
            "Folder, file or .zip as downloaded; hf:NAME for a data set; - for a log on stdin.",
            argument=True,
        ),
    ]
    out: Annotated[Path, Option("Run folder to write into.", names=("--out", "-o"))]
    format: Annotated[FormatName, Option("Format of the source.", panel=READING)] = "auto"
    read: ReadOptions = field(default_factory=ReadOptions)
    min_history: Annotated[
        int | None,
        Option(
            "Fewest items before the target.",
            panel=KEEPING,
            minimum=0,
            default_text="MIND, M2: 10; else 1",
        ),
    ] = None
    max_history: Annotated[
        int | None,
        Option(
            "Most items before the target.",
            panel=KEEPING,
            minimum=1,
            default_text="MIND, M2: 25; else 50",
        ),
    ] = None
    long: Annotated[
        Long | None,
        Option(
            "What is longer keeps its last items, or is dropped.",
            panel=KEEPING,
            default_text="MIND, M2: drop; else keep-last",
        ),
    ] = None
    catalogue: Annotated[
        Written | None,
        Option(
            "Write the items of the examples, or all with text.",
            panel=KEEPING,
            default_text="used; all with --predict or a retrieval",
        ),
    ] = None
    train_users: Annotated[
        str | None,
        Option(
            "Share (0.8, 10/12) or number (10000) of users that train; all three sizes or none.",
            panel=ASKING,
            default_text="the rest",
        ),
    ] = None
    valid_users: Annotated[
        str | None,
        Option(
            "Share or number of users that validate.", panel=ASKING, default_text=f"{_VALIDATE}"
        ),
    ] = None
    test_users: Annotated[
        str | None,
        Option("Share or number of users that test.", panel=ASKING, default_text=_USUAL_TESTS),
    ] = None
    engine: Annotated[
        Engine,
        Option(
            "Work in memory, or on disk (DuckDB, in bounded memory); the output is the same.",
            panel=BEHAVIOUR,
            default_text="disk from 256 MiB of input on",
        ),
    ] = "auto"
    choices: Choices = field(default_factory=Choices)

    def settings(self, defaults: Defaults) -> "PrepareSettings":
        """Fill in what the format decides.

        Raises:
            UsageError: the options contradict each other.
        """
        chosen = self.read.attributes
        return PrepareSettings(
            read=replace(self.read, attributes=defaults.attributes if chosen is None else chosen),
            min_history=defaults.min_history if self.min_history is None else self.min_history,
            max_history=self.max_history or defaults.max_history,
            long=self.long or defaults.long,
            sizes=self._sizes(),
            written=self.catalogue or self._written(),
            **{each.name: getattr(self.choices, each.name) for each in fields(Choices)},
        )

    def _written(self) -> Written:
        """Write all items where any may be recommended."""
        retrieved = is_retrieval(self.choices.candidates)
        return "all" if self.choices.predict or retrieved else "used"

    def _sizes(self) -> Sizes | None:
        texts = (self.train_users, self.valid_users, self.test_users)
        if texts == (None, None, None):
            return None
        return parse_sizes(*texts, predict=self.choices.predict)


def is_retrieval(candidates: str | None) -> bool:
    """Tell ``retrieve:200`` from the name of a file."""
    return candidates is not None and candidates.partition(":")[0] == PREFIX


_SINCE_THE_START = frozenset(
    {
        "read",
        "min_history",
        "max_history",
        "long",
        "unknown",
        "split",
        "sizes",
        "max_users",
        "negatives",
        "number",
        "written",
        "seed",
        "attributes",
        "target",
        "per_impression",
        "locale",
    }
)
"""The settings that every manifest has; any other is written where it is not its default."""


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(Choices):
    """Everything besides the input that decides the bytes of the output.

    Attributes:
        min_history, max_history: items before the target; ``long`` says whether a longer
            history loses its oldest items (keep-last) or the example is dropped.
        sizes: of the splits; None is :func:`usual_sizes`.
        number: negatives of an example; None is 20 drawn ones, or all that the source gives.
        written: items of the examples alone (used), or the whole catalogue.
    """

    read: ReadOptions
    min_history: int
    max_history: int
    long: Long
    sizes: Sizes | None = None
    written: Written = "used"

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
        if self.population == "shown" and self.read.target == "history":
            raise UsageError("--population shown needs --target impression")
        if self.split == "leave-last-out" and self.read.target == "impression":
            raise UsageError("--split leave-last-out needs --target history")
        if self.split in ("leave-last-out", "parts") and self.sizes and self.sizes.total:
            raise UsageError(f"--split {self.split} has no sizes: leave out {_NAMES}")
        if self.candidates is not None and (
            self.negatives != "auto" or self.population != "auto" or self.number
        ):
            raise UsageError(
                "--candidates takes the place of --negatives, --population and --num-negatives"
            )
        self._check_times()

    def _check_times(self) -> None:
        """Check the dates, and the options that go with them."""
        if (self.valid_from is None) != (self.test_from is None):
            raise UsageError("give --valid-from and --test-from together, or none of them")
        if self.valid_from_time is not None and self.test_from_time is not None:
            if self.split != "time" or self.sizes:
                raise UsageError(
                    f"--valid-from and --test-from need --split time, without {_NAMES}"
                )
            if self.valid_from_time > self.test_from_time:
                raise UsageError("--valid-from is later than --test-from")
        if self.window is not None and (self.split != "time" or self.valid_from is not None):
            raise UsageError("--window needs --split time, cut by shares")
        if self.windows_back < 0:
            raise UsageError(f"--window {self.window}: there is no such window")
        since, until = self.since_time, self.until_time
        if since is not None and until is not None and since >= until:
            raise UsageError("--since is not before --until")
        if self.targets == "all" and self.split not in ("time", "leave-last-out"):
            raise UsageError("--targets all needs --split time or leave-last-out")
        if self.read.target == "impression" and (self.k_core > 1 or self.targets == "all"):
            raise UsageError("--k-core and --targets all need --target history")

    @property
    def retrieved(self) -> RetrieveSettings | None:
        """How to retrieve candidates, or None."""
        if not is_retrieval(self.candidates):
            return None
        named = self.candidates or ""
        return RetrieveSettings(
            count=parse_count(named), search=parse_search(named), seed=self.seed
        )

    @property
    def candidates_file(self) -> Path | None:
        """The file of candidates, or None."""
        if self.candidates is None or is_retrieval(self.candidates):
            return None
        return Path(self.candidates)

    @property
    def windows_back(self) -> int:
        """How many windows follow the chosen one.

        Raises:
            UsageError: --window is not two numbers.
        """
        index, _, number = (self.window or "1/1").partition("/")
        if not (index.isdecimal() and number.isdecimal() and int(index)):
            raise UsageError(f"--window {self.window}: write I/N, for example 1/4")
        return int(number) - int(index)

    @property
    def since_time(self) -> float | None:
        """Seconds of --since."""
        return None if self.since is None else moment(self.since)

    @property
    def until_time(self) -> float | None:
        """Seconds of --until."""
        return None if self.until is None else moment(self.until)

    @property
    def valid_from_time(self) -> float | None:
        """Seconds of --valid-from."""
        return None if self.valid_from is None else moment(self.valid_from)

    @property
    def test_from_time(self) -> float | None:
        """Seconds of --test-from."""
        return None if self.test_from is None else moment(self.test_from)

    @property
    def asks_with_answer(self) -> bool:
        """Whether any question with an answer is made."""
        return self.sizes is None or bool(self.sizes.total) or not self.predict

    def as_dict(self) -> dict[str, Any]:
        """Return the settings for a manifest."""
        read = _recorded(self.read)
        read.pop("items", None)  # its hash is among those of the inputs
        recorded = {**_recorded(self), "read": read, "sizes": self._recorded_sizes()}
        if self.candidates_file is not None:
            recorded["candidates"] = "file"  # its hash is among those of the inputs
        if self.split == "time":
            recorded["periods"] = True  # it once asked for a user's last event alone
        if self.draws and self.drawn_from != "catalogue":
            if self.negatives == "popularity":
                recorded["popularity"] = "by fold in train"  # it once counted all of train
            return {**recorded, "population": self.drawn_from}
        return {name: value for name, value in recorded.items() if name != "population"}

    def _recorded_sizes(self) -> str:
        without = self.split in ("leave-last-out", "parts") or self.valid_from is not None
        return str(self.sizes or (Sizes() if without else "usual"))

    @property
    def draws(self) -> bool:
        """Whether any negative may be drawn: impressions bring all of theirs."""
        impressions = self.read.target == "impression"
        return (
            self.candidates is None
            and self.negatives != "fixed"
            and not (impressions and self.negatives in ("auto", "impression"))
        )

    @property
    def drawn_from(self) -> Population:
        """The population of negatives, decided where the user leaves it open."""
        if self.population != "auto":
            return self.population
        return "shown" if self.read.target == "impression" else "seen"


def _recorded(settings: "PrepareSettings | ReadOptions") -> dict[str, Any]:
    """Leave out what was added later and has its default, so that old outputs stay valid."""
    values = asdict(settings)
    return {
        each.name: values[each.name]
        for each in fields(settings)
        if each.name in _SINCE_THE_START or getattr(settings, each.name) != each.default
    }
