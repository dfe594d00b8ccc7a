"""The export for other evaluation tools, read back by one of them."""

from pathlib import Path

import ir_measures
import numpy as np
import pytest

from tests.evaluate.folder import line, write
from trec_cli.evaluate.metrics import reciprocal_rank
from trec_cli.evaluate.outputs import export
from trec_cli.evaluate.scores import ScoresFile, read_system


def test_ir_measures_reads_the_export_and_finds_the_same(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    lines = [line(f"u{n}", random.normal(size=12).tolist(), [n % 12]) for n in range(30)]
    file = ScoresFile("x", write(tmp_path / "scores-x.jsonl", lines))
    run, qrels = export(tmp_path / "out", [file], "test")
    ours = reciprocal_rank(read_system(file, "test").ranks, 10).mean()
    theirs = ir_measures.calc_aggregate(
        [ir_measures.RR @ 10],
        list(ir_measures.read_trec_qrels(str(qrels))),
        list(ir_measures.read_trec_run(str(run))),
    )
    assert ours == pytest.approx(theirs[ir_measures.RR @ 10], abs=1e-12)


def test_blanks_and_slashes_in_names_do_no_harm(tmp_path: Path) -> None:
    lines = [line("a b%", [1.5, 2], prefix="é\t"), line("c", [1, 2], split="valid")]
    file = ScoresFile("run/my name", write(tmp_path / "s.jsonl", lines))
    run, qrels = export(tmp_path / "out", [file], "test")
    assert run.parent == tmp_path / "out"
    assert run.read_text(encoding="utf-8") == (
        "a%20b%25 Q0 é%091 1 2.0 run/my%20name\na%20b%25 Q0 é%090 2 1.5 run/my%20name\n"
    )
    assert qrels.read_text(encoding="utf-8") == "a%20b%25 0 é%090 1\na%20b%25 0 é%091 0\n"
