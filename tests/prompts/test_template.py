"""Prompt templates: slots are checked when loaded and filled without surprises."""

from pathlib import Path

import pytest

from trec_cli.core.errors import InputError
from trec_cli.prompts.template import Template, load_template


def test_filling_leaves_braces_and_newlines_of_values_alone() -> None:
    template = Template("t", "Likes {items}\nJSON: {} {Not} {items}")
    assert template.slots == {"items"}
    assert template.fill(items="{summary} \\1 é\n") == (
        "Likes {summary} \\1 é\n\nJSON: {} {Not} {summary} \\1 é\n"
    )


def test_parts_alternate_between_text_and_slot_names() -> None:
    assert Template("t", "{a}x{b}").parts == ["", "a", "x", "b", ""]
    assert Template("t", "plain").parts == ["plain"]


@pytest.mark.parametrize(
    "content",
    [b"Mine: {items}\n", b"\xef\xbb\xbfMine: {items}", b"Mine: {items}\r\n\r\n"],
    ids=["plain", "byte order mark", "CRLF"],
)
def test_a_file_of_the_users_folder_replaces_the_built_in(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "summarize_block.txt").write_bytes(content)
    assert load_template("summarize_block", ["items"], tmp_path).text == "Mine: {items}"


def test_what_the_users_folder_lacks_is_the_built_in(tmp_path: Path) -> None:
    slots = load_slots("recommend")
    assert load_template("recommend", slots, tmp_path) == load_template("recommend", slots)


def load_slots(name: str) -> set[str]:
    """Give the slots that the built-in template holds."""
    with pytest.raises(InputError) as caught:
        load_template(name, ())
    return set(str(caught.value).split("slots are wrong: ")[1].split(" (")[0].split(", "))


@pytest.mark.parametrize(
    ("text", "named"),
    [("no slot", "items"), ("{items} {mood}", "mood"), ("{item}", "item, items")],
)
def test_wrong_slots_are_named_with_those_that_must_be(
    tmp_path: Path, text: str, named: str
) -> None:
    (tmp_path / "summarize_block.txt").write_text(text)
    with pytest.raises(InputError) as caught:
        load_template("summarize_block", ["items"], tmp_path)
    assert f"slots are wrong: {named} (it must hold exactly {{items}})" in str(caught.value)


def test_a_slot_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Its text would be counted once against the budget and stand in the prompt twice."""
    (tmp_path / "summarize_block.txt").write_text("{items} and again {items}")
    with pytest.raises(InputError, match=r"holds \{items\} more than once"):
        load_template("summarize_block", ["items"], tmp_path, "news")


def test_a_text_for_one_domain_comes_before_the_one_for_all(tmp_path: Path) -> None:
    (tmp_path / "news").mkdir()
    (tmp_path / "news" / "summarize_block.txt").write_text("News: {items}")
    (tmp_path / "summarize_block.txt").write_text("All: {items}")
    texts = [
        load_template("summarize_block", ["items"], tmp_path, domain).text
        for domain in ("news", "products")
    ]
    assert texts == ["News: {items}", "All: {items}"]


@pytest.mark.parametrize(
    "place", ["newz/summarize_block.txt", "news/summarise_block.txt", "news/recommend.txt"]
)
def test_a_text_in_a_folder_where_nobody_looks_is_not_passed_over(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / place).parent.mkdir()
    (tmp_path / place).write_text("{items}")
    with pytest.raises(InputError, match=r"is no prompt of trec .*folder named general, news"):
        load_template("summarize_block", ["items"], tmp_path, "news")


def test_a_template_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "summarize_block.txt").write_bytes("é {items}".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load_template("summarize_block", ["items"], tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_template("recommend", ["items"], tmp_path / "none")


def test_a_text_with_a_mistyped_name_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "recomend.txt").write_text("…")
    with pytest.raises(InputError, match=r"recomend\.txt: is no prompt of trec .*recommend\.txt"):
        load_template("recommend", ["items"], tmp_path)
