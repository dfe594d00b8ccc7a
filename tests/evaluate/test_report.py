"""The report page: what it holds, that texts stay texts, that a browser draws it."""

import base64
import gzip
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects
import pytest

from tests.evaluate.folder import line, make_run, write
from trec_cli.core.manifest import Provenance, manifest_path
from trec_cli.core.records import FLAGS
from trec_cli.evaluate.cases import PER_KIND, choose
from trec_cli.evaluate.figures import (
    all_figures,
    colours,
    label,
    leading,
    rank_shares,
    slice_figures,
    training_figure,
)
from trec_cli.evaluate.metrics import Pools, rank
from trec_cli.evaluate.outputs import Plan, find_files, load
from trec_cli.evaluate.outputs import write as write_outputs
from trec_cli.evaluate.report import (
    account,
    accounts,
    charts_library,
    origins,
    packed,
    quality_table,
    shortened,
    versions,
)
from trec_cli.evaluate.results import evaluate_systems, summarise
from trec_cli.evaluate.settings import Options
from trec_cli.evaluate.slices import length_slices, slice_entries
from trec_cli.evaluate.sources import Sources
from trec_cli.evaluate.words import FLAG_WORDS, in_words

LIBRARY = "/* the charts' library */"
CHARTS_LIBRARY = charts_library
HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture(autouse=True)
def small_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave plotly out, except for the browser."""
    if "slow" not in request.keywords:
        small = gzip.compress(LIBRARY.encode())
        monkeypatch.setattr("trec_cli.evaluate.report.charts_library", lambda: small)


def report(run: Path) -> str:
    files = find_files(run, [])
    sources = Sources.find(run, None, None, [file.path for file in files])
    options = Options(replicates=50, permutations=50)
    plan = Plan(files, options=options, folder=run, sources=sources, report=True)
    write_outputs(plan, load(plan), Provenance("eval", plan.settings(), plan.inputs()))
    return (run / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Collects tags, the text outside scripts, and the scripts."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._within = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts.append(data)
        else:
            self.text += data


def test_the_page_shows_results_users_and_provenance(tmp_path: Path) -> None:
    page = Page(report(make_run(tmp_path)))
    for part in (
        "good",
        "blind",
        "chance",
        "recall@3",
        "Differences from blind",
        "best",
        "worst",
        "random",
        "Likes <i>tea</i>.",
        "Zoë’s “lamp”",
        "scores-good.jsonl",
        "Metric by history length",
    ):
        assert part in page.text, part


def test_hostile_titles_stay_text(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "scores-good.jsonl").rename(run / "scores-<img src=x onerror=alert(1)>.jsonl")
    page = Page(report(run))
    assert HOSTILE in page.text
    assert "Tea & <b>cake</b>" in page.text
    data = base64.b85decode(page.scripts[1].replace(",", "<"))
    size = next(int(a["data-size"] or 0) for _, a in page.tags if a.get("id") == "library")
    assert gzip.decompress(data[:size]).decode() == LIBRARY
    assert not any(tag in ("b", "i", "img") for tag, _ in page.tags)
    figures = json.loads(page.scripts[0])
    assert figures[0]["choices"][0]["data"][0]["name"].startswith("&lt;img")


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    page = Page(report(make_run(tmp_path)))
    named = [
        value
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key in ("src", "href", "action") and value
    ]
    assert all(value.startswith("#") for value in named)
    assert any("default-src 'none'" in str(attributes) for _, attributes in page.tags)


def test_the_same_evaluation_makes_the_same_page(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert report(run) == report(run)


def test_a_folder_of_scores_alone_still_makes_a_page(tmp_path: Path) -> None:
    write(tmp_path / "scores-x.jsonl", [line("a", [1, 2]), line("b", [1, 2])])
    page = Page(report(tmp_path))
    assert "Differences" not in page.text
    assert "i1" in page.text


@pytest.mark.parametrize("entry", [line("a", [1.0]), line("a", [1, 1], [0, 1])])
def test_a_single_odd_example_makes_a_page(tmp_path: Path, entry: dict[str, Any]) -> None:
    write(tmp_path / "scores-x.jsonl", [entry])
    assert "–" in Page(report(tmp_path)).text


def test_the_charts_library_is_the_bundle_that_draws_them() -> None:
    script = gzip.decompress(CHARTS_LIBRARY())
    assert script.startswith(b"/**\n* plotly.js (basic - minified) v4.")
    assert b"Licensed under the MIT license" in script[:200]
    assert len(packed(CHARTS_LIBRARY()).text) < 500_000


def test_every_chart_is_valid_plotly(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    options = Options(replicates=20, permutations=20)
    evaluation = evaluate_systems(load(Plan(find_files(run, []))))
    summary = summarise(evaluation, options)
    sources = Sources.find(run, None, None, [])
    lengths = np.arange(len(evaluation.examples)) % 5
    summary["slices"] = slice_entries(evaluation, length_slices(lengths), options)
    figures = all_figures(evaluation, summary, sources.training()) + slice_figures(summary)
    assert [figure.key for figure in figures] == ["metrics", "ranks", "training", "slices-0"]
    for figure in figures:
        for choice in figure.choices:
            plotly.graph_objects.Figure(choice.data, choice.layout)
            # The basic bundle draws these.
            assert {trace["type"] for trace in choice.data} <= {"scatter", "bar"}


def test_long_names_take_several_lines_in_charts() -> None:
    assert label("hier") == "hier"
    assert label("a-name-of-many-parts <i>") == "a-name-of-many-parts<br>&lt;i&gt;"
    assert label("x" * 45) == f"{'x' * 20}<br>{'x' * 20}<br>xxxxx"


def test_training_curves_hold_only_numbers() -> None:
    logs: dict[str, list[dict[str, Any]]] = {
        "hier": [
            {"step": 1, "grad_norm": 3.0, "loss": 2.0, "note": "x", "epoch": 0.1},
            {"step": 2, "valid_mrr@10": 1},
        ]
    }
    figure = training_figure(logs)
    assert [choice.label for choice in figure.choices] == ["loss", "valid_mrr@10", "grad_norm"]
    assert figure.choices[0].data[0]["x"] == [1]


def test_rank_shares_spread_ties_over_their_group() -> None:
    pools = Pools.of([[2, 1, 1, 0], [1, 2, 3, 4]], [[0, 1, 0, 0], [1, 0, 0, 0]])
    assert rank_shares(rank(pools), 4).tolist() == pytest.approx([0, 0.25, 0.25, 0.5])
    assert rank_shares(rank(pools), 2).tolist() == pytest.approx([0.25, 0.75])


def test_shown_users_are_chosen_without_repeats(tmp_path: Path) -> None:
    evaluation = evaluate_systems(load(Plan(find_files(make_run(tmp_path), []))))
    chosen = choose(evaluation, seed=0)
    kinds = list(chosen.values())
    assert [kinds.count(kind) for kind in ("best", "worst", "random")] == [PER_KIND] * 3
    assert chosen == choose(evaluation, seed=0)


def test_accounts_flatten_what_a_manifest_counts() -> None:
    manifest = {"sha256": "x", "tokens": {"prompt": 12345, "cut": {"summary": 3}}, "seconds": 1.5}
    assert account(manifest) == {
        "tokens: prompt": "12,345",
        "tokens: cut: summary": "3",
        "seconds in all": "1.5",
    }


def test_figures_of_manifests_have_plain_names_and_nothing_that_is_zero() -> None:
    assert in_words("phrases_in_one_item") == "phrases found whole in one item"
    assert in_words("flags.empty") == "texts: empty"
    assert in_words("quality.flags.new_flag") == "texts: new flag"
    assert in_words("counts.splits.test.mean_history") == "test: mean history"
    found = account({"counts": {"splits": {"test": {"examples": 3, "positives_missed": 0}}}})
    assert found == {"test: examples": "3"}
    trials = [{"settings": {"b": 0.5}, "valid_mrr": 0.25}]
    assert account({"trials": trials}) == {"trials": "settings: b 0.5, valid mrr 0.25"}


def test_what_one_command_counted_of_two_outputs_stands_once() -> None:
    counted = {"counts": {"users": 3}}
    manifests = {"items": {**counted, "seconds": 1}, "examples": {**counted, "seconds": 2}}
    assert list(accounts(manifests)) == ["items, examples"]


def test_every_flag_of_a_summary_has_plain_words() -> None:
    assert set(FLAG_WORDS) == set(FLAGS)


def test_of_many_systems_charts_show_the_best_and_the_reference(tmp_path: Path) -> None:
    for n in range(12):
        scores = [line(f"e{k}", [float(k < 3 * n), 0.5]) for k in range(40)]
        write(tmp_path / f"scores-s{n:02}.jsonl", scores)
    options = Options(replicates=9, permutations=9)
    evaluation = evaluate_systems(load(Plan(find_files(tmp_path, []))))
    summary = summarise(evaluation, options)
    assert leading(summary) == ["s00", "s07", "s08", "s09", "s10", "s11"]
    tints = colours(summary)
    assert len({tints[name] for name in leading(summary)}) == 6
    by_metric, ranks = all_figures(evaluation, summary, {})
    assert len(by_metric.choices[by_metric.first].data) == 12
    assert by_metric.choices[by_metric.first].label == "ndcg@10"
    assert [trace["name"] for trace in ranks.choices[0].data] == [*leading(summary), "chance"]
    assert ranks.choices[0].label == "the best systems"
    assert "the 6 best of 12" in ranks.note
    assert [choice.label for choice in ranks.choices[1:]] == evaluation.names
    assert "12 systems" in Page(report(tmp_path)).text


def test_long_titles_are_cut_behind_a_word_or_within_one() -> None:
    assert shortened("short") == "short"
    assert shortened("one two three", 9) == "one two …"
    assert shortened("抹茶抹茶抹茶", 3) == "抹茶抹 …"


def test_figures_of_quality_are_shown_by_file(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    told = {"command": "summarize", "quality": {"words": 12.5, "copied": {"share": 0.25}}}
    (run / "summaries-hier.jsonl.manifest.json").write_text(json.dumps(told))
    page = Page(report(run))
    for part in ("Quality of the summaries", "copied: share", "25.0 %", "12.5"):
        assert part in page.text


def test_attention_weights_are_a_heat_map_of_candidates_and_history(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    keys = [{"start": 0, "end": 1}, {"start": 1, "end": 4}]
    weights = [[[1, 0.75], [0, 0.25]], *[[[1, 1.0]]] * 7]
    attention = {"query": "candidate", "keys": keys, "weights": [0.5, 0.5], "candidates": weights}
    path = run / "summaries-hier.jsonl"
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    write(path, [entry | {"attention": attention} for entry in lines])
    content = report(run)
    for part in ("2–4", "0.75", "background: rgb(0 114 178 / 0.525)"):
        assert part in content
    page = Page(content)
    assert HOSTILE in page.text
    for part in ("history items", "candidate", "blank parts"):
        assert part in page.text
    right = [
        attributes
        for tag, attributes in page.tags
        if tag == "tr" and "right" in attributes.values()
    ]
    assert len(right) == 3 * PER_KIND, "one right candidate for each shown user"


def test_quality_is_a_table_of_all_figures_and_files() -> None:
    manifests: dict[str, dict[str, Any]] = {
        "a": {"quality": {"x": 1}},
        "b": {"quality": {"y": 2}},
        "c": {"seconds": 3},
    }
    assert quality_table(manifests) == {"x": {"a": "1", "b": "–"}, "y": {"a": "–", "b": "2"}}


def test_a_command_and_its_versions_are_told_once() -> None:
    made: dict[str, Any] = {"arguments": ["prepare", "my data"], "versions": {"trec": "1"}}
    manifests = {"items.jsonl": made, "examples.jsonl": made, "s": {"arguments": ["score"]}}
    assert [(o.command, o.names) for o in origins(manifests)] == [
        ("trec prepare 'my data'", ["items.jsonl", "examples.jsonl"]),
        ("trec score", ["s"]),
    ]
    assert versions(manifests) == {"items.jsonl, examples.jsonl": "trec 1"}


def test_scores_files_of_one_name_keep_their_manifests_apart(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "scores-x.jsonl" for folder in ("one", "two")]
    for path in paths:
        write(path, [line("a", [1, 2])])
        told = {"arguments": ["score", path.parent.name]}
        path.with_name(f"{path.name}.manifest.json").write_text(json.dumps(told))
    assert [(o.command, o.names) for o in origins(Sources(explained=paths).manifests())] == [
        ("trec score one", ["one/scores-x.jsonl"]),
        ("trec score two", ["two/scores-x.jsonl"]),
    ]


def test_seeds_and_slices_have_their_place_on_the_page(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for seed in (1, 2):
        (run / f"scores-x@{seed}.jsonl").write_bytes((run / "scores-good.jsonl").read_bytes())
    page = Page(report(run))
    for part in ("x (2 seeds)", "±0.000", "Slices", "fewer than 30 users", "x@1"):
        assert part in page.text, part


def test_a_hostile_attribute_value_stays_text_in_slices(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    files = find_files(run, [])
    sources = Sources.find(run, None, None, [])
    options = Options(replicates=9, permutations=9, slice_by=("title",))
    plan = Plan(files, options=options, folder=run, sources=sources, report=True)
    write_outputs(plan, load(plan), Provenance("eval", plan.settings(), plan.inputs()))
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert len(page.scripts) == 3
    figure = json.loads(page.scripts[0])[-1]
    assert figure["choices"][0]["data"][0]["y"][0].startswith("&lt;/script&gt;")


def test_without_a_run_folder_manifests_lead_to_summaries_and_training(tmp_path: Path) -> None:
    """As in a study, where every arm's work lies in folders of its own."""

    def made(name: str, command: str, *inputs: Path) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        about = {"command": command, "inputs": {str(file): "0" for file in inputs}}
        manifest_path(path).write_text(json.dumps(about), encoding="utf-8")
        return path

    log = made("work/model-hier/training-log.jsonl", "train")
    adapter = log.with_name("adapter_config.json")
    texts = made("summarize/summaries-hier.jsonl", "summarize")
    items = made("items.jsonl", "prepare")
    gone = tmp_path / "summaries-gone.jsonl"
    scores = [
        made("a/scores-one.jsonl", "score", items, texts, adapter, gone),
        made("b/scores-two.jsonl", "score", items, texts),
        made("c/scores-bm25.jsonl", "score", items),
    ]
    sources = Sources.find(None, items, None, scores)
    assert sources.summaries == {"one": texts}
    assert sources.logs == {"one": log}
    assert sources.explained == [texts, log.parent, *scores]


@pytest.mark.slow
def test_a_browser_draws_every_chart_and_runs_no_title(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium")
    report(make_run(tmp_path))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=10000",
    ]
    done = subprocess.run(
        [browser, *options, "--dump-dom", (tmp_path / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    page = Page(done.stdout)
    charts = [a for tag, a in page.tags if tag == "div" and "js-plotly-plot" in str(a.get("class"))]
    assert len(charts) == 4, "systems, ranks, training, history length"
    assert HOSTILE in page.text
