from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core.errors import InputError
from trec_cli.prepare.sources.clock import Clock, UnknownDate, UnsetTime, guess_form, read_date

DAY = 1_675_900_800  # date -u -d 2023-02-09 +%s


@pytest.mark.parametrize(
    ("written", "seconds", "unit"),
    [
        (1_588_687_728, 1_588_687_728, "seconds"),
        ("1588687728", 1_588_687_728, "seconds"),
        ("1588687728.5", 1_588_687_728.5, "seconds"),
        (1_588_687_728_923, 1_588_687_728.923, "milliseconds"),
        ("1588687728923.0", 1_588_687_728.923, "milliseconds"),
        (1_588_687_728_000_000, 1_588_687_728, "microseconds"),
        (1_588_687_728_000_000_000, 1_588_687_728, "nanoseconds"),
        ("20230209", DAY, "dates like 20230209"),
        ("2023-02-09", DAY, None),
        ("2023-02-09T00:00:00Z", DAY, None),
        ("2023-02-09 01:00:00+01:00", DAY, None),
        ("2023-02-09 00:00:00 UTC", DAY, None),
        (date(2023, 2, 9), DAY, None),
        (datetime(2023, 2, 9, tzinfo=UTC), DAY, None),
        (datetime(2023, 2, 9), DAY, None),
        (3, 3, None),
        (-1, -1, None),
    ],
)
def test_times_become_seconds(written: Any, seconds: float, unit: str | None) -> None:
    clock = Clock()
    assert clock.seconds(written) == seconds
    assert clock.unit == unit


@pytest.mark.parametrize(
    "written",
    [None, "", True, [1], "nan", float("nan"), "inf", 10**400, 9_223_372_036_854_776, "9999-01-01"],
)
def test_what_is_no_time_is_said(written: Any) -> None:
    with pytest.raises(ValueError, match="time"):
        Clock().seconds(written)


@pytest.mark.parametrize("written", ["yesterday", "2/9/23", "1_000", "0x10", "12:30"])
def test_other_texts_may_be_dates_in_another_form(written: str) -> None:
    with pytest.raises(UnknownDate):
        Clock().seconds(written)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1_588_687_728, 1_588_687_728_923),
        (1_588_687_728_923, 1_588_687_728),
        (5, 1_588_687_728_923),
    ],
)
def test_two_units_in_one_file_are_refused(first: float, second: float) -> None:
    clock = Clock()
    clock.seconds(first)
    with pytest.raises(ValueError, match="earlier times are"):
        clock.seconds(second)


@pytest.mark.parametrize(
    "written", [-62_135_596_800_000, -62_135_596_800, "-62135596800000", "0001-01-01T00:00:00Z"]
)
def test_a_time_that_was_never_set_is_told_from_others(written: Any) -> None:
    with pytest.raises(UnsetTime, match="no time was set"):
        Clock().seconds(written)


def test_a_missing_time_written_as_0_fits_every_unit() -> None:
    clock = Clock()
    assert [clock.seconds(n) for n in (0, 1_588_687_728_923, 0)] == [0, 1_588_687_728.923, 0]


def test_ranks_beyond_19_million_are_no_dates() -> None:
    clock = Clock()
    assert [clock.seconds(n) for n in (1, 20_230_209)] == [1, 20_230_209]


@given(st.lists(st.integers(10**8, 7 * 10**9), min_size=1), st.sampled_from([1, 10**3, 10**6]))
def test_every_unit_gives_the_same_seconds(moments: list[int], per_second: int) -> None:
    clock = Clock()
    assert [clock.seconds(str(m * per_second)) for m in moments] == moments


def test_the_named_form_is_used_for_all() -> None:
    clock = Clock("%d.%m.%Y")
    assert clock.seconds("9.2.2023") == DAY
    assert Clock("%Y%m%d%H").seconds(2023020900) == DAY
    with pytest.raises(ValueError, match="is not a time like"):
        clock.seconds("2023-02-09")


@given(st.datetimes(datetime(1801, 1, 1), datetime(2199, 1, 1)))
def test_iso_dates_are_read_as_python_writes_them(moment: datetime) -> None:
    expected = moment.replace(tzinfo=UTC).timestamp()
    assert Clock().seconds(moment.isoformat()) == expected
    assert Clock().seconds(moment.isoformat(" ")) == expected


def test_the_form_of_dates_is_found_from_all_of_them() -> None:
    assert guess_form(["2/9/23", "2/13/23"], "f") == "%m/%d/%y"
    assert guess_form(["9/2/2023", "13/2/2023"], "f") == "%d/%m/%Y"
    assert guess_form(["9.2.2023 10:30"], "f") == "%d.%m.%Y %H:%M"
    assert guess_form(["2/2/2023"], "f") == "%m/%d/%Y"  # the same day in both forms


def test_dates_that_may_be_either_are_refused() -> None:
    with pytest.raises(InputError, match=r"'2/3/23' may be %m/%d/%y or %d/%m/%y .*--time-format"):
        guess_form(["2/3/23", "4/5/23"], "f")
    with pytest.raises(InputError, match="'soon' is no time in a known form"):
        guess_form(["soon"], "f")
    with pytest.raises(InputError, match="'soon' is no time in a known form"):
        guess_form(["2/13/23", "soon"], "f")


def test_days_that_do_not_exist_run_on_into_the_next_month() -> None:
    texts = ["2/13/23", "2/28/23", "2/29/23", "2/38/23"]
    form = guess_form(texts, "f")
    days = [read_date(text, form) or 0 for text in texts]
    assert [(day - days[0]) / 86_400 for day in days] == [0, 15, 16, 25]
