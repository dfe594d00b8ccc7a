import pytest

from trec_cli.prepare.text import plain_field, plain_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("plain", "plain"),
        ("  two\n\n words\t", "two words"),
        ("Cable <USB> for <Limited Edition>", "Cable <USB> for <Limited Edition>"),
        ("<b>Bold</b> <USB> a<c & d>e", "Bold <USB> a<c & d>e"),
        ("if a <b and c> d", "if a <b and c> d"),
        ("<P CLASS='x'>One<BR/>two</P>", "One two"),
        ("call getTime() of a Date", "call getTime() of a Date"),
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
        ("Tom &amp; Jerry&#39;s &quot;hit&quot;", 'Tom & Jerry\'s "hit"'),
        ("<b>Bold</b> text<br/>next", "Bold text next"),
        ("&lt;p&gt;escaped&lt;/p&gt;", "escaped"),
        ("<p>Fish &amp; chips</p>", "Fish & chips"),
        ("a<!-- hidden -->b", "a b"),
        ("x<script>var a = 1;</script>y<style>p {}</style>", "x y"),
        (".a-box-inner{background-color:#fff}#alohaBuyBoxWidget", ""),
        ("var aPageStart = (new Date()).getTime();", ""),
        ("Größe: 5″ – naïve 日本語", "Größe: 5″ – naïve 日本語"),
    ],
)
def test_markup_and_entities_are_taken_out(text: str, plain: str) -> None:
    assert plain_text(text) == plain


def test_lists_are_joined_by_commas_and_prose_by_blanks() -> None:
    assert plain_field(["Games", ["PC", "Toys"], None, ""]) == "Games, PC, Toys"
    assert plain_field(["First.", "<b>Second.</b>"], prose=True) == "First. Second."
    assert plain_field({"Color": "red", "Empty": None}) == "Color red"
    assert plain_field(12.5) == "12.5"
    assert plain_field(None) == ""


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("None", ""),
        (" nan ", ""),
        ("null", ""),
        ("None of them", "None of them"),
        (["Games", "None", "nan"], "Games"),
        ({"Color": "None", "Form": "Bar"}, "Form Bar"),
        ('{"Item Form": "Bar", "UPC": "1000", "Size": null}', "Item Form Bar, UPC 1000"),
        ('["Games", "PC"]', "Games, PC"),
        ("['Games', \"Kid's\"]", "Games, Kid's"),
        ("{}", ""),
        ("[]", ""),
        ("[1984]", "[1984]"),
        ("[Import] Best of", "[Import] Best of"),
        ("{a} and [b]", "{a} and [b]"),
        ("[Remastered]", "[Remastered]"),
        ("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000),
    ],
)
def test_texts_without_meaning_go_and_packed_ones_are_unpacked(value: object, plain: str) -> None:
    assert plain_field(value) == plain


def test_a_value_nested_without_end_is_a_fault() -> None:
    deep: object = "x"
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        plain_field(deep)


def test_nothing_is_cut_off() -> None:
    assert len(plain_text("word " * 50_000)) == 5 * 50_000 - 1
