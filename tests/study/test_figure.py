"""The figure is one well-formed picture that says what the numbers say."""

from xml.etree import ElementTree

from trec_cli.study.figure import Mark, draw

SPACE = "{http://www.w3.org/2000/svg}"


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def test_every_text_is_escaped() -> None:
    marks = [Mark("<script>", "<script>alert(1)</script>", None, 0.5, 0.4, 0.6)]
    text = draw("a & b", "mrr@10", None, marks, 0.2)
    assert "<script" not in text
    titles = [node.text for node in parse(text).iter(f"{SPACE}title")]
    assert titles == ["a & b", "<script>alert(1)</script>: 0.500 [0.400, 0.600]"]


def test_a_numeric_setting_gives_a_line_per_group_at_its_places() -> None:
    marks = [
        Mark("hier", "hier-recent-4", 4, 0.5, 0.4, 0.6),
        Mark("hier", "hier-recent-0", 0, 0.0, 0.0, 0.1),
        Mark("none", "none-recent-0", 0, 0.1, 0.1, 0.2),
        Mark("none", "none-recent-4", 4, 0.2, 0.1, 0.3),
        Mark("bm25", "bm25", None, 0.3, 0.2, 0.4),
    ]
    root = parse(draw("t", "mrr@10", "prompt.recent", marks, None))
    lines = [node.get("points") for node in root.iter(f"{SPACE}polyline")]
    # The axis runs from 0 (y = 348) to 0.7, the next tenth above the highest end (y = 48).
    # The groups stand 3 to the left and to the right of 84 and 500.
    assert lines == ["81.0,348.0 497.0,133.7", "87.0,305.1 503.0,262.3"]
    assert "bm25" in [node.text for node in root.iter(f"{SPACE}text")]


def test_names_give_a_row_each() -> None:
    marks = [Mark(name, name, name, 0.5, 0.5, 0.5) for name in ("Small", "Large")]
    root = parse(draw("t", "mrr@10", "train.model", marks, 0.1))
    assert len(list(root.iter(f"{SPACE}circle"))) == 2
    assert not list(root.iter(f"{SPACE}polyline"))
