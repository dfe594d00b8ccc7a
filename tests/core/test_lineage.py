"""Following manifests back, on small chains made by hand."""

import json
import shutil
from pathlib import Path

import pytest

from trec_cli.core.errors import InputError
from trec_cli.core.lineage import Link, check, follow, other_versions
from trec_cli.core.manifest import Provenance


def make(output: Path, command: str, *inputs: Path, model: str = "") -> Path:
    """Write an output with a manifest, as a stage would."""
    settings = {"model": {"name": "m", "revision": model}} if model else {}
    provenance = Provenance(command, settings, inputs)
    if command == "train":
        output.mkdir(exist_ok=True)
        (output / "adapter_model.safetensors").write_bytes(b"weights")
    else:
        output.write_text(f"{command} of {[path.read_text() for path in inputs]}\n")
    provenance.write(output)
    return output


def chain(run: Path) -> Path:
    """Make a RUN from a raw file to metrics."""
    run.mkdir(parents=True, exist_ok=True)
    raw = run.parent / "raw.zip"
    raw.write_text("raw")
    items, examples = (make(run / f"{n}.jsonl", "prepare", raw) for n in ("items", "examples"))
    summaries = make(run / "summaries-hier.jsonl", "summarize", items, examples)
    model = make(run / "model-hier", "train", items, examples, summaries, model="w1")
    weights = model / "adapter_model.safetensors"
    scores = run / "scores-hier.jsonl"
    make(scores, "score", items, examples, summaries, weights, model="w1")
    make(run / "metrics.json", "eval", scores)
    return run


def states(links: list[Link]) -> dict[str, str]:
    return {link.path.name: link.state for link in links}


def problems(run: Path) -> dict[str, list[str]]:
    return {
        link.path.name: [problem.text for problem in link.problems]
        for link in follow(run)
        if link.problems
    }


def test_an_untouched_chain_holds_and_is_told_from_the_raw_input_on(tmp_path: Path) -> None:
    links = follow(chain(tmp_path / "run"))
    names = [link.path.name for link in links]
    assert names == [
        "raw.zip",
        "examples.jsonl",
        "items.jsonl",
        "summaries-hier.jsonl",
        "model-hier",
        "scores-hier.jsonl",
        "metrics.json",
    ]
    assert states(links)["raw.zip"] == "no manifest"
    assert {state for name, state in states(links).items() if name != "raw.zip"} == {"holds"}
    check(tmp_path, links)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Make a RUN whose raw files have the names of the prepared ones, as plain JSONL has."""
    shop, run = tmp_path / "shop", tmp_path / "run"
    shop.mkdir()
    run.mkdir()
    raw = [shop / "items.jsonl", shop / "sequences.jsonl"]
    for path in raw:
        path.write_text(f"raw {path.name}")
    items, examples = (make(run / f"{n}.jsonl", "prepare", *raw) for n in ("items", "examples"))
    make(run / "scores-bm25.jsonl", "score", items, examples)
    return run


def test_prepared_files_are_no_versions_of_raw_files_of_their_name(plain: Path) -> None:
    links = follow(plain)
    assert len(links) == 5
    check(plain, links)


def test_a_prepared_file_does_not_stand_in_for_a_raw_one_that_is_gone(plain: Path) -> None:
    (plain.parent / "shop" / "items.jsonl").unlink()
    for said in problems(plain).values():
        (only,) = said
        assert only.endswith("shop/items.jsonl, which is not there")


def test_a_changed_raw_file_of_the_same_name_is_told(plain: Path) -> None:
    (plain.parent / "shop" / "items.jsonl").write_text("other")
    found = problems(plain)
    assert list(found) == ["examples.jsonl", "items.jsonl"]
    assert "another version of" in found["items.jsonl"][0]


def test_prepared_data_can_be_prepared_again(plain: Path) -> None:
    again = plain.parent / "again"
    again.mkdir()
    source = [plain / "items.jsonl", plain / "examples.jsonl"]
    items, examples = (
        make(again / f"{n}.jsonl", "prepare", *source) for n in ("items", "examples")
    )
    make(again / "scores-bm25.jsonl", "score", items, examples)
    links = follow(again)
    assert len(links) == 7
    check(again, links)


def test_a_changed_output_is_named_and_what_was_made_from_it(tmp_path: Path) -> None:
    run = chain(tmp_path / "run")
    with (run / "summaries-hier.jsonl").open("a") as stream:
        stream.write("more\n")
    found = problems(run)
    assert list(found) == ["summaries-hier.jsonl", "model-hier", "scores-hier.jsonl"]
    assert "has changed since it was made" in found["summaries-hier.jsonl"][0]
    assert "made from another version of" in found["model-hier"][0]
    with pytest.raises(InputError, match=r"summaries-hier\.jsonl: has changed.*make it again"):
        check(run, follow(run))


def test_a_missing_raw_input_is_named(tmp_path: Path) -> None:
    run = chain(tmp_path / "run")
    (tmp_path / "raw.zip").unlink()
    found = problems(run)
    assert set(found) == {"items.jsonl", "examples.jsonl"}
    assert "raw.zip, which is not there" in found["items.jsonl"][0]


def test_another_raw_input_is_named(tmp_path: Path) -> None:
    run = chain(tmp_path / "run")
    (tmp_path / "raw.zip").write_text("another")
    assert "another version of" in problems(run)["items.jsonl"][0]


def test_a_missing_output_is_named_by_its_manifest(tmp_path: Path) -> None:
    run = chain(tmp_path / "run")
    (run / "scores-hier.jsonl").unlink()
    found = problems(run)
    assert found["scores-hier.jsonl"] == ["is not there any more"]
    assert "which is not there" in found["metrics.json"][0]


def test_examples_made_anew_part_summaries_adapter_and_scores(tmp_path: Path) -> None:
    run = chain(tmp_path / "run")
    raw = tmp_path / "raw.zip"
    raw.write_text("second version")
    items, examples = (make(run / f"{n}.jsonl", "prepare", raw) for n in ("items", "examples"))
    scores, summaries = run / "scores-hier.jsonl", run / "summaries-hier.jsonl"
    weights = run / "model-hier" / "adapter_model.safetensors"
    make(scores, "score", items, examples, summaries, weights, model="w1")
    found = problems(run)
    assert set(found) == {
        "summaries-hier.jsonl",
        "model-hier",
        "scores-hier.jsonl",
        "metrics.json",
    }
    said = " ".join(found["scores-hier.jsonl"])
    assert "summaries-hier.jsonl was made from another version of examples.jsonl" in said
    assert "model-hier was trained on another version of examples.jsonl" in said


def test_an_adapter_of_another_run_does_not_belong_to_these_examples(tmp_path: Path) -> None:
    """Each chain holds by itself; only their meeting does not."""
    here = chain(tmp_path / "one" / "run")
    there = tmp_path / "two" / "run"
    there.mkdir(parents=True)
    raw = tmp_path / "two" / "raw.zip"
    raw.write_text("other users")
    items, examples = (make(there / f"{n}.jsonl", "prepare", raw) for n in ("items", "examples"))
    model = make(there / "model-none", "train", items, examples)
    own = (here / "items.jsonl", here / "examples.jsonl")
    make(here / "scores-x.jsonl", "score", *own, model / "adapter_model.safetensors")
    found = problems(here)
    assert list(found) == ["scores-x.jsonl"]
    assert "trained on another version of examples.jsonl" in " ".join(found["scores-x.jsonl"])


def test_an_adapter_on_other_weights_is_named(tmp_path: Path) -> None:
    run = chain(tmp_path / "run")
    own = [run / name for name in ("items.jsonl", "examples.jsonl", "summaries-hier.jsonl")]
    weights = run / "model-hier" / "adapter_model.safetensors"
    make(run / "scores-hier.jsonl", "score", *own, weights, model="w2")
    assert "other weights of the base model" in problems(run)["scores-hier.jsonl"][0]


def test_a_changed_file_in_the_adapter_folder_changes_the_adapter(tmp_path: Path) -> None:
    run = chain(tmp_path / "run")
    (run / "model-hier" / "adapter_model.safetensors").write_bytes(b"tampered")
    found = problems(run)
    assert "has changed" in found["model-hier"][0]
    assert "adapter_model.safetensors" in found["scores-hier.jsonl"][0]


def test_a_run_that_was_moved_still_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chain(Path("runs/demo"))
    shutil.move("runs/demo", "archive")
    assert problems(Path("archive")) == {}
    monkeypatch.chdir(tmp_path / "archive")
    assert set(problems(Path())) == {"items.jsonl", "examples.jsonl"}, "only raw.zip is not found"


def test_scores_of_another_program_have_no_manifest_and_no_fault(tmp_path: Path) -> None:
    run = chain(tmp_path / "run")
    (run / "scores-theirs.jsonl").write_text("{}\n")
    links = follow(run)
    assert states(links)["scores-theirs.jsonl"] == "no manifest"
    check(run, links)


def test_standard_input_cannot_be_followed_and_is_said_so(tmp_path: Path) -> None:
    output = tmp_path / "summaries-hier.jsonl"
    provenance = Provenance("summarize", {}, [Path("-")])
    output.write_text("x")
    provenance.write(output)
    assert states(follow(tmp_path)) == {output.name: "holds (an input was standard input)"}


def test_a_folder_without_manifests_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no manifest"):
        check(tmp_path, follow(tmp_path))


def test_a_manifest_without_inputs_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("x")
    (tmp_path / "x.jsonl.manifest.json").write_text(json.dumps({"command": "score"}))
    assert states(follow(tmp_path)) == {"x.jsonl": "changed"}


def test_other_versions_go_by_file_name() -> None:
    manifest = {"inputs": {"runs/a/items.jsonl": "1", "runs/a/examples.jsonl": "2"}}
    assert other_versions(manifest, {"b/items.jsonl": "1", "b/examples.jsonl": "3"}) == [
        "examples.jsonl"
    ]
    assert other_versions(manifest, {"-": "stream", "other.jsonl": "9"}) == []
    assert other_versions({}, {"items.jsonl": "1"}) == []


ONE, TWO = "runs/one/scores-x.jsonl", "runs/two/scores-x.jsonl"


@pytest.mark.parametrize(
    ("present", "changed"),
    [
        ({ONE: "1", TWO: "2"}, []),
        ({TWO: "2", ONE: "1"}, []),
        ({"/moved/one/scores-x.jsonl": "1", "/moved/two/scores-x.jsonl": "2"}, []),
        ({ONE: "1", TWO: "9"}, [TWO]),
        ({ONE: "9", TWO: "2"}, [ONE]),
        ({ONE: "2", TWO: "1"}, [ONE, TWO]),
        ({ONE: "1"}, []),
        ({TWO: "2"}, []),
        ({TWO: "9"}, ["scores-x.jsonl"]),
        ({"elsewhere/scores-x.jsonl": "2"}, []),
        ({ONE: "1", TWO: "2", "three/scores-x.jsonl": "3"}, []),
    ],
)
def test_namesakes_are_told_apart_by_their_folders(
    present: dict[str, str], changed: list[str]
) -> None:
    assert other_versions({"inputs": {ONE: "1", TWO: "2"}}, present) == changed


def test_one_recorded_file_is_not_two_present_ones() -> None:
    manifest = {"inputs": {"items.jsonl": "1"}}
    assert other_versions(manifest, {"a/items.jsonl": "9", "b/items.jsonl": "1"}) == []


def two_systems(folder: Path) -> Path:
    """Evaluate scores of the same file name of two runs together."""
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        examples = make(folder / name / "examples.jsonl", f"prepare {name}")
        make(folder / name / "scores-x.jsonl", "score", examples)
    out = folder / "one" / "metrics.json"
    return make(out, "eval", *(folder / name / "scores-x.jsonl" for name in ("one", "two"))).parent


def test_inputs_of_one_name_in_two_folders_are_each_followed(tmp_path: Path) -> None:
    run = two_systems(tmp_path)
    links = follow(run)
    assert [str(link.path.relative_to(tmp_path)) for link in links] == [
        "one/examples.jsonl",
        "one/scores-x.jsonl",
        "two/examples.jsonl",
        "two/scores-x.jsonl",
        "one/metrics.json",
    ]
    assert {link.state for link in links} == {"holds"}
    (tmp_path / "two" / "scores-x.jsonl").write_text("another")
    found = problems(run)
    assert list(found) == ["scores-x.jsonl", "metrics.json"]
    assert f"another version of {tmp_path / 'two' / 'scores-x.jsonl'}" in found["metrics.json"][0]


def test_a_missing_input_is_not_its_namesake_beside_the_output(tmp_path: Path) -> None:
    run = two_systems(tmp_path)
    shutil.rmtree(tmp_path / "two")
    found = problems(run)
    assert found == {
        "metrics.json": [f"was made from {tmp_path / 'two' / 'scores-x.jsonl'}, which is not there"]
    }
