import pytest

from trec_cli.prepare.text import plain_field, plain_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("plain", "plain"),
        ("  two\n\n words\t", "two words"),
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


def test_nothing_is_cut_off() -> None:
    assert len(plain_text("word " * 50_000)) == 5 * 50_000 - 1
