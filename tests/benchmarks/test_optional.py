"""A benchmark whose package is missing says how to get it, and leaves everything as it was."""

import sys
from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.optional import needed


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    with pytest.raises(SystemExit) as caught:
        needed("no_such_package", "no-such-package>=3")
    assert caught.value.code == (
        "No module named 'no_such_package'; this needs no_such_package: "
        "pip install 'no-such-package>=3'"
    )


def test_a_package_that_is_there_is_imported() -> None:
    assert needed("json", "json").loads("[1]") == [1]


def test_without_matplotlib_the_page_is_not_written_and_one_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    monkeypatch.setattr(sys, "argv", ["page"])
    for name in ("PAGE", "FIGURE"):
        monkeypatch.setattr(page, name, tmp_path / name)
    with pytest.raises(SystemExit, match=r"pip install 'matplotlib>=3\.8'"):
        page.main()
    assert not list(tmp_path.iterdir())
