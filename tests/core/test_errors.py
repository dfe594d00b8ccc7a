"""Errors carry the documented exit codes and messages that need no traceback."""

from pathlib import Path

import pytest

from trec_cli.core import errors
from trec_cli.core.errors import (
    MAX_FAULTS,
    Fault,
    InputError,
    ModelError,
    OutputFailed,
    OutputLocked,
    PartialError,
    SettingsChanged,
    TrecError,
    UsageError,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(TrecError, 1), (UsageError, 2), (InputError, 3), (ModelError, 4), (PartialError, 5)],
)
def test_exit_codes_are_those_of_the_contract(kind: type[TrecError], code: int) -> None:
    assert kind.exit_code == code


def test_the_docstring_draws_the_whole_tree_with_its_codes() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in kinds:
        if issubclass(kind, TrecError) and kind is not TrecError:
            lines = [line.split() for line in (errors.__doc__ or "").splitlines()]
            assert [kind.__name__, str(kind.exit_code)] in [
                [word for word in line if word[0].isalnum()][:2] for line in lines
            ]


def test_a_fault_names_file_line_problem_and_remedy() -> None:
    assert str(Fault("a.jsonl", 3, "is odd", "mend it")) == "a.jsonl, line 3: is odd (mend it)"
    assert str(Fault("a.jsonl", None, "is empty")) == "a.jsonl: is empty"


def test_all_faults_are_in_the_message_one_a_line() -> None:
    error = InputError([Fault("a", 1, "x"), Fault("a", 2, "y")])
    assert str(error) == "a, line 1: x\na, line 2: y"


def test_the_message_says_where_the_reader_gave_up() -> None:
    error = InputError([Fault("a", line, f"x{line}") for line in range(MAX_FAULTS)])
    assert str(error).splitlines()[-1] == f"… stopped after {MAX_FAULTS} faults"
    assert len(str(error).splitlines()) == MAX_FAULTS + 1


def test_the_same_fault_in_many_lines_is_said_once() -> None:
    faults = [Fault("a", line, "no split", "add it") for line in range(1, 10)]
    error = InputError([*faults[:4], Fault("a", 4, "odd"), *faults[4:], Fault("b", None, "gone")])
    assert str(error).splitlines() == [
        "a, lines 1, 2, 3 and 6 more: no split (add it)",
        "a, line 4: odd",
        "b: gone",
    ]
    assert len(error.faults) == 11


@pytest.mark.parametrize(
    "error",
    [
        SettingsChanged(Path("out"), ["k: 3 before, 5 now"]),
        OutputLocked(Path("out")),
        OutputFailed(Path("out"), OSError(28, "No space left on device")),
    ],
)
def test_messages_about_outputs_name_the_output_and_a_way_out(error: TrecError) -> None:
    assert "out" in str(error)
    assert "--out" in str(error)
