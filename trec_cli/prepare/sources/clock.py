"""Times as sources write them: numbers of seconds or smaller units, ISO dates, other dates.

All become seconds since 1970.  Where a source names no time zone, UTC is meant.
"""

import math
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from itertools import product

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.errors import InputError
from trec_cli.core.progress import Progress

_UNITS = (("seconds", 1e11, 1), ("milliseconds", 1e14, 10**3), ("microseconds", 1e17, 10**6))
_SMALLEST = ("nanoseconds", math.inf, 10**9)
"""Names of units, the number from which a smaller unit is meant, and units in a second.

1e11 seconds are the year 5138, 1e11 milliseconds are 1973.
"""
_ANY_UNIT = 1e8
"""Numbers below are early in every unit: 1973 in seconds, a missing 0, or mere ranks."""
_UNSET = -62_135_596_800
_LATEST = 7_258_118_400.0
"""The year 2200: what is later is no time at which somebody chose something."""
_EARLIEST = -5_364_662_400.0
"""The year 1800."""
_HUGE = 1e20
_MOST_DIGITS = 30
_COMPACT = range(19_000_101, 21_001_232)
_DATES = (
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%d.%m.%y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%m %d, %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %b %Y",
    "%a %b %d %Y",
)
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_WORDS = ("%a", "%b", "%B", "%p")
"""What stands for letters in a form."""
_DAY = 86_400
_FIX = "name its form with --time-format, for example %d.%m.%Y"


class UnknownDate(ValueError):  # noqa: N818 - it may be known once all dates were seen
    """A text that is neither a number nor an ISO date."""


class UnsetTime(ValueError):  # noqa: N818
    """The first day of the year 1, which programs write where no time was set."""


class Clock:
    """Reads the times of one file; the first number decides the unit of all.

    Attributes:
        form: how dates are written, as for ``strptime``; None for ISO.
        unit: name of the unit of numbers, None before the first that tells it.
    """

    def __init__(self, form: str | None = None, *, usual_unit: str = "seconds") -> None:
        """Prepare for the first time.

        Args:
            form: of dates, where the user names it.
            usual_unit: of numbers so small that they could be of any unit.
        """
        self.form = form
        self.unit: str | None = None
        self._usual_unit = usual_unit
        self._per_second = {name: per for name, _, per in (*_UNITS, _SMALLEST)}[usual_unit]
        self._undecided = 0.0
        self._usual = (math.inf, -math.inf)
        """Numbers between these are surely of the unit; most are, and take the short way."""

    def seconds(self, value: object) -> float:
        """Return seconds since 1970, whole ones as an integer.

        Raises:
            UnknownDate: a text in a form that is not known (yet).
            UnsetTime: a text or number that says that no time was set.
            ValueError: it is no time, saying why.
        """
        if isinstance(value, str):
            return self._of_text(value.strip())
        if isinstance(value, bool) or value is None:
            raise ValueError("the time is missing")
        if self.form is not None and isinstance(value, int):
            return self._of_text(str(value))
        if isinstance(value, int | float):
            return self._of_number(value)
        if isinstance(value, datetime):
            return _whole(check_time(_timestamp(value), value))
        if isinstance(value, date):
            return _whole(check_time(_timestamp(datetime.combine(value, time())), value))
        raise ValueError(f"the time is {type(value).__name__}, not a number or a date")

    def of_numbers(self, numbers: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Return seconds of many numbers at once; None where one is not surely of the unit."""
        if len(numbers):
            self.seconds(int(numbers[0]))
        low, high = self._usual
        if not ((numbers >= low) & (numbers <= high)).all():
            return None
        return numbers / self._per_second

    def report(self, progress: Progress) -> None:
        """Report how times were read, where it is neither the usual unit nor ISO dates."""
        read_as = self.form or self.unit
        if read_as not in (None, self._usual_unit):
            progress.info(f"times are read as {read_as}")

    def _of_text(self, text: str) -> float:
        if not text:
            raise ValueError("the time is missing")
        if self.form is not None:
            return _whole(check_time(_parsed(text, self.form), text))
        number = _number(text)
        if number is not None:
            return self._of_number(number)
        try:
            moment = datetime.fromisoformat(text.removesuffix(" UTC"))
        except ValueError:
            raise UnknownDate(f"{text[:40]!r} is not a time") from None
        return _whole(check_time(_timestamp(moment), text))

    def _of_number(self, number: float) -> float:
        low, high = self._usual
        if low <= number <= high:
            return _whole(number / self._per_second)
        if not abs(number) < _HUGE:
            raise ValueError(f"{str(number)[:40]} is no time")
        size = abs(number)
        if size < _ANY_UNIT and (number not in _COMPACT or self._undecided):
            self._undecided = max(self._undecided, size) if self.unit is None else 0.0
        else:
            self._decide(number, size)
        if self._per_second == 0:
            return _whole(_parsed(str(int(number)), "%Y%m%d"))
        seconds = number / self._per_second if self._per_second > 1 else number
        return _whole(check_time(seconds, number))

    def _decide(self, number: float, size: float) -> None:
        """Check that the number is of the unit of those before it."""
        name, per_second = _unit(size, number)
        if per_second:
            check_time(number / per_second, number)
        if self.unit is None:
            if self._undecided and per_second != self._per_second:
                raise ValueError(f"{number:.0f} is in {name}, earlier times are not")
            self.unit, self._per_second = name, per_second
            if per_second:
                self._usual = _ANY_UNIT * per_second, _LATEST * per_second
        elif name != self.unit:
            raise ValueError(f"{number:.0f} is in {name}, earlier times are in {self.unit}")


def _unit(size: float, number: float) -> tuple[str, int]:
    if number in _COMPACT:
        return "dates like 20230209", 0
    return next((name, per) for name, end, per in (*_UNITS, _SMALLEST) if size < end)


def _number(text: str) -> float | None:
    """Read a number exactly; Python's own separators ``_`` are none."""
    if text.isdecimal():
        return int(text) if len(text) < _MOST_DIGITS else math.inf
    if "_" in text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None


def _timestamp(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _parsed(text: str, form: str) -> float:
    try:
        return _timestamp(datetime.strptime(text, form))
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time like {form}") from None


def check_time(seconds: float, written: object) -> float:
    """Return seconds that can be a time.

    Raises:
        UnsetTime: they say that no time was set.
        ValueError: they lie too far in the past or the future.
    """
    if seconds == _UNSET:
        raise UnsetTime(f"{str(written)[:40]} says that no time was set")
    if not _EARLIEST <= seconds <= _LATEST:
        raise ValueError(f"{str(written)[:40]} is no time between the years 1800 and 2200")
    return seconds


def _whole(seconds: float) -> float:
    """Return whole seconds as an integer, so that they are written without ``.0``."""
    return int(seconds) if seconds == int(seconds) else seconds


def guess_form(texts: Iterable[str], file: str) -> str:
    """Find the one form in which all of the dates are written.

    Where each form meets a day that does not exist (2/30/23), it is the one with the fewest.

    Raises:
        InputError: there is none, or several that mean different days.
    """
    distinct = sorted(set(texts))
    forms = [day + clock for day, clock in product(_DATES, _TIMES)]
    fitting = {form: sum(is_date(text, form) for text in distinct) for form in forms}
    best = max(fitting.values())
    forms = [form for form, number in fitting.items() if number == best]
    for text in distinct:
        readings = {read_date(text, form) for form in forms}
        if None in readings:
            raise InputError.of(file, f"{text[:40]!r} is no time in a known form", _FIX)
        if len(readings) > 1:
            named = " or ".join(forms)
            raise InputError.of(file, f"dates like {text!r} may be {named}", _FIX)
    return forms[0]


def is_date(text: str, form: str) -> bool:
    """Check whether a text is a day that exists, written in this form."""
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def read_date(text: str, form: str) -> float | None:
    """Return the seconds of a date; a day that does not exist runs on into the next month.

    None where the text is not of the form.
    """
    if is_date(text, form):
        return _parsed(text, form)
    numbers = list(re.finditer(r"\d+", text))
    directives = re.findall(r"%[a-zA-Z]", form)
    index = [d for d in directives if d not in _WORDS].index("%d")
    if len(numbers) <= index or len(numbers[index][0]) > 2:
        return None
    start, end = numbers[index].span()
    first = f"{text[:start]}01{text[end:]}"
    if not is_date(first, form):
        return None
    return _parsed(first, form) + (int(text[start:end]) - 1) * _DAY
