"""Yes and no as next tokens, for tokenizers of several kinds."""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from samples.tiny_model import build_tokenizer
from trec_cli.core.errors import ModelError
from trec_cli.models.answers import find_answers

CONTEXT = " Answer Yes or No.\nAnswer:"
CORPUS = ["Answer: Yes", "Answer: No", "Yes No yes no", "[INST] ? [/INST] Yes", "No reply"] * 50
LLAMA2_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }} </s>{% endif %}{% endfor %}"
)


def trained(tokenizer: Tokenizer, **more: Any) -> PreTrainedTokenizerFast:
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", **more
    )


def llama_like() -> PreTrainedTokenizerFast:
    """Make one that puts a blank before every text, as sentencepiece does for Llama 2."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return trained(tokenizer)


def gemma_like() -> PreTrainedTokenizerFast:
    """Make one that writes blanks as ▁ and puts none before a text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Replace("▁", " ")
    return trained(tokenizer)


def gpt_neox_like() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return trained(tokenizer)


def words_only(vocabulary: dict[str, int]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.mark.parametrize(
    ("tokenizer", "yes", "no"),
    [
        (llama_like(), "▁Yes", "▁No"),
        (gemma_like(), "▁Yes", "▁No"),
        (gpt_neox_like(), "ĠYes", "ĠNo"),
    ],
    ids=["llama", "gemma", "gpt_neox"],
)
def test_a_plain_prompt_goes_on_with_a_blank_and_the_answer(
    tokenizer: Any, yes: str, no: str
) -> None:
    found = find_answers(tokenizer, CONTEXT, chat=False)
    assert tokenizer.convert_ids_to_tokens([found.yes, found.no]) == [yes, no]
    context = tokenizer.encode(CONTEXT, add_special_tokens=False)
    together = tokenizer.encode(CONTEXT + " Yes", add_special_tokens=False)
    assert together[: len(context) + 1] == [*context, found.yes]


def test_a_chat_template_decides_what_stands_before_the_answer() -> None:
    tokenizer = gpt_neox_like()
    tokenizer.chat_template = LLAMA2_TEMPLATE
    found = find_answers(tokenizer, "", chat=True)
    assert tokenizer.convert_ids_to_tokens([found.yes, found.no]) == ["ĠYes", "ĠNo"]


def test_a_chat_template_that_ends_with_a_line_break_is_followed_by_the_bare_word() -> None:
    tokenizer = build_tokenizer(chat=True)
    found = find_answers(tokenizer, "", chat=True)
    assert tokenizer.convert_ids_to_tokens([found.yes, found.no]) == ["Yes", "No"]


def test_a_chat_template_without_assistant_messages_falls_back_to_the_bare_word() -> None:
    tokenizer = build_tokenizer(chat=True)
    tokenizer.chat_template = "{{ messages[0].content }}{% if add_generation_prompt %}\n{% endif %}"
    found = find_answers(tokenizer, "", chat=True)
    assert tokenizer.convert_ids_to_tokens([found.yes, found.no]) == ["Yes", "No"]


def test_other_spellings_are_tried_where_the_first_are_unknown() -> None:
    tokenizer = words_only({"<unk>": 0, "Answer": 1, ":": 2, "yes": 3, "no": 4})
    found = find_answers(tokenizer, CONTEXT, chat=False)
    assert (found.yes, found.no) == (3, 4)


def test_first_letters_will_do_where_there_are_no_whole_words() -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    found = find_answers(fast, CONTEXT, chat=False)
    assert fast.convert_ids_to_tokens([found.yes, found.no]) == ["Y", "N"]


@pytest.mark.parametrize(
    "vocabulary",
    [
        {"<unk>": 0, "Answer": 1},  # both unknown
        {"<unk>": 0, "Answer": 1, "Yes": 2, "yes": 2},  # no is unknown
        {"<unk>": 0, "Yes": 1, "No": 1, "yes": 1, "no": 1},  # the same token
    ],
    ids=["unknown", "half-unknown", "collide"],
)
def test_a_tokenizer_that_cannot_tell_yes_from_no_is_refused(vocabulary: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="no distinct next tokens for yes and no") as caught:
        find_answers(words_only(vocabulary), CONTEXT, chat=False)
    assert caught.value.exit_code == 4


def test_special_tokens_are_no_answers() -> None:
    tokenizer = words_only({"<unk>": 0, "Yes": 1, "No": 2})
    tokenizer.add_special_tokens({"eos_token": "Yes"})
    with pytest.raises(ModelError):
        find_answers(tokenizer, CONTEXT, chat=False)
