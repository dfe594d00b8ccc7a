"""Embedders: pooling by hand, padding, what a folder says, the language model itself."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from samples.tiny_model import build_model, build_tokenizer, write_embedder
from trec_cli.core.errors import InputError, ModelError, UsageError
from trec_cli.models.embedder import (
    MAX_TOKENS,
    Embedder,
    EmbedderSource,
    middle_layer,
    pool,
    read_pooling,
)
from trec_cli.models.source import ModelSource

TEXTS = ["tea", "a much longer text about kettles, socks and jazz", "日本 🍵", "tea\n"]


def source(folder: Path | str, llm: Path | str = "none") -> EmbedderSource:
    return EmbedderSource(str(folder), ModelSource(str(llm), device="cpu"))


def together(embedder: Embedder) -> list[list[float]]:
    found: list[list[float]] = embedder.embed(TEXTS).tolist()
    return found


def test_pooling_by_hand() -> None:
    hidden = torch.tensor([[[1.0, 8.0], [3.0, 0.0], [99.0, 99.0]]])
    counted = torch.tensor([[True, True, False]])
    assert pool(hidden, counted, "mean").tolist() == [[2.0, 4.0]]
    assert pool(hidden, counted, "max").tolist() == [[3.0, 8.0]]
    assert pool(hidden, counted, "cls").tolist() == [[1.0, 8.0]]


def test_a_vector_is_the_mean_of_the_last_hidden_states(tiny_embedder: Path) -> None:
    vectors = together(source(tiny_embedder).load())
    model = AutoModel.from_pretrained(tiny_embedder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_embedder)
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            expected = model(input_ids=ids).last_hidden_state[0].mean(dim=0)
        assert vector == pytest.approx(expected.tolist(), abs=1e-5)


def test_company_in_a_batch_changes_nothing(tiny_embedder: Path) -> None:
    embedder = source(tiny_embedder).load()
    alone = [embedder.embed([text])[0].tolist() for text in TEXTS]
    assert together(embedder) == [pytest.approx(vector, abs=1e-5) for vector in alone]


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "opt", "gemma3_text"])
def test_the_language_model_gives_the_mean_of_a_middle_layer_without_the_first_token(
    tiny_model: Callable[..., Path], family: str
) -> None:
    folder = tiny_model(family)
    vectors = together(source("llm", folder).load())
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    layer = middle_layer(model.config)
    assert layer == 1
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
        with torch.inference_mode():
            output = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        expected = output.hidden_states[layer][0, 1:].mean(dim=0)
        assert vector == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_language_model_may_be_named_by_its_folder(tiny_model: Callable[..., Path]) -> None:
    folder = tiny_model("llama")
    named = source(folder)
    assert named.is_llm
    assert named.identity() == source("llm", folder).identity()
    assert together(named.load()) == together(source("llm", folder).load())


def test_a_language_model_that_says_how_it_pools_is_an_embedding_model(tmp_path: Path) -> None:
    folder = write_embedder(tmp_path / "one", pooling="cls_token")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "architectures": ["Qwen3ForCausalLM"]})
    )
    assert not source(folder).is_llm
    shutil.rmtree(folder / "1_Pooling")
    assert source(folder).is_llm


def test_several_embedders_are_named_with_commas() -> None:
    found = EmbedderSource.each("one, llm", ModelSource("two"))
    assert [one.model.name for one in found] == ["one", "two"]
    assert EmbedderSource.only("one", ModelSource("two")).name == "one"
    with pytest.raises(UsageError, match="names several embedders"):
        EmbedderSource.only("one,two", ModelSource("two"))
    for names in ("one,one", "", " , "):
        with pytest.raises(UsageError, match="one embedder or several different"):
            EmbedderSource.each(names, ModelSource("two"))


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "opt", "gemma3_text"])
def test_only_the_layers_that_are_heard_are_loaded_and_nothing_changes(
    tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = build_model(family, num_hidden_layers=9)
    whole.save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    capsys.readouterr()
    embedder = source("llm", tmp_path).load()
    assert "lm_head" not in capsys.readouterr().err
    ids = embedder.encode("tea and jazz")
    with torch.inference_mode():
        states = whole(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    assert len(states) == 10
    vector = embedder.embed(["tea and jazz"])[0].tolist()
    assert vector == pytest.approx(states[3][0, 1:].mean(dim=0).tolist(), abs=1e-4)


def test_texts_are_cut_and_batches_bounded(tiny_embedder: Path) -> None:
    embedder = source(tiny_embedder).load()
    assert len(embedder.encode("tea " * 900)) == MAX_TOKENS
    (tiny_embedder / "sentence_bert_config.json").write_text('{"max_seq_length": 7}')
    try:
        assert len(source(tiny_embedder).load().encode("tea " * 900)) == 7
    finally:
        (tiny_embedder / "sentence_bert_config.json").unlink()
    texts = ["tea " * n for n in (1, 9, 3)]
    longest, middle, _ = sorted((len(embedder.encode(text)) for text in texts), reverse=True)
    assert embedder.batches(texts, 3 * longest) == [[1, 2, 0]]
    assert embedder.batches(texts, max(longest, 2 * middle)) == [[1], [2, 0]]
    assert embedder.batches(texts, 1) == [[1], [2], [0]]


def test_a_folder_says_how_it_pools(tmp_path: Path) -> None:
    folder = write_embedder(tmp_path / "cls", pooling="cls_token")
    assert read_pooling(str(folder)) == "cls"
    assert source(folder).identity()["pooling"] == "cls"
    shutil.rmtree(folder / "1_Pooling")
    assert read_pooling(str(folder)) == "mean"


@pytest.mark.parametrize(
    "modes",
    [
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
    ],
)
def test_other_poolings_are_refused(tmp_path: Path, modes: dict[str, bool]) -> None:
    folder = write_embedder(tmp_path / "odd")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    with pytest.raises(ModelError, match="only one of mean, cls and max"):
        source(folder).load()
    (folder / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        source(folder).load()


def test_the_identity_tells_models_layers_and_poolings_apart(
    tmp_path: Path, tiny_embedder: Path, tiny_model: Callable[..., Path]
) -> None:
    other = write_embedder(tmp_path / tiny_embedder.name, seed=3)
    identities = [
        source(tiny_embedder).identity(),
        source(other).identity(),
        source("llm", tiny_model()).identity(),
    ]
    assert len({json.dumps(identity) for identity in identities}) == 3
    assert identities[2]["layer"] == 1


def test_no_such_embedder_is_a_model_error_with_a_way_out() -> None:
    with pytest.raises(ModelError) as caught:
        source("models/none-such").identity()
    assert str(caught.value) == (
        "--embedder models/none-such cannot be used: no model folder models/none-such. Give a "
        "folder: --embedder models/all-MiniLM-L6-v2 (made by `make embedder`)."
    )


def test_an_embedder_that_no_hub_answers_for_is_no_language_model() -> None:
    with pytest.raises(ModelError, match=r"--embedder models/all-MiniLM-L6-v2 ") as caught:
        source("nobody/nothing").identity()
    assert "SmolLM2" not in str(caught.value)


def test_weights_that_are_not_safetensors_are_refused(tmp_path: Path) -> None:
    folder = write_embedder(tmp_path / "pickled")
    weights = AutoModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no safetensors"):
        source(folder).load()


def test_an_incomplete_model_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_embedder(tmp_path / "half")
    weights = load_file(folder / "model.safetensors")
    some = {name: tensor for name, tensor in weights.items() if "layer.1" not in name}
    save_file(some, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="no complete embedding model"):
        source(folder).load()


def test_a_model_that_computes_nan_is_an_error(tiny_embedder: Path) -> None:
    embedder = source(tiny_embedder).load()
    broken = Embedder(
        embedder.encode,
        lambda ids, mask: torch.full((*ids.shape, 4), float("nan")),
        "mean",
        0,
        0,
        embedder.device,
    )
    with pytest.raises(ModelError, match="NaN"):
        broken.embed(["tea"])


@pytest.mark.slow
def test_the_real_embedder_gives_the_published_similarity(real_embedder: Path) -> None:
    """The model card's own example pair and an unrelated sentence."""
    texts = ["That is a happy person", "That is a very happy person", "Today is a sunny day"]
    vectors = source(real_embedder).load().embed(texts)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors[0] @ vectors[1] == pytest.approx(0.943, abs=2e-3)
    assert vectors[0] @ vectors[2] == pytest.approx(0.257, abs=2e-3)
