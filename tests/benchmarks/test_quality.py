"""Research on rankings: what is known at a cut, how gains are counted, how weights are fitted."""

import math

import numpy as np
import pytest

from benchmarks.quality import blend
from benchmarks.quality.published import Published, Question, earliest, gains, interval
from benchmarks.quality.q4 import dequantised, llama_name, permuted_back


def test_gains_by_hand_and_ties_at_their_expected_value() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    ndcg, hits = gains(scores, [1, 0, 0], k=2)
    second = 1 / math.log2(3)
    assert ndcg == pytest.approx([second, (1 + second) / 2, 0.0])
    assert hits == pytest.approx([1.0, 1.0, 0.0])


def test_a_constant_score_has_the_gain_of_chance() -> None:
    _, hits = gains(np.zeros((1, 40)), [7], k=10)
    assert hits == pytest.approx([10 / 40])


def test_a_cut_knows_what_came_before_it_and_no_answer_behind_it() -> None:
    valid = [Question("a", (1,), 2), Question("b", (3, 4), 5), Question("a", (1, 2), 6)]
    valid.append(Question("b", (3, 4, 5), 7))
    data = Published([{}] * 10, valid, [Question("c", (8,), 9), Question("c", (8, 9), 1)])
    fit = data.at("fit")
    assert fit.histories == {"a": (1, 2), "b": (3, 4, 5)}
    assert [question.target for question in fit.questions] == [6, 7]
    test = data.at("test", more=True)
    assert test.histories == {"a": (1, 2, 6), "b": (3, 4, 5, 7), "c": (8,)}
    assert test.events == (2, 5, 6, 7)


def test_the_earliest_history_is_that_of_the_first_question() -> None:
    assert earliest([Question("a", (1,), 2), Question("a", (1, 2), 3)]) == {"a": (1,)}


def test_the_interval_is_over_users() -> None:
    values = np.array([0.0, 0.0, 1.0, 1.0])
    mean, low, high = interval(values, ["a", "a", "b", "b"])
    assert (mean, low, high) == (0.5, 0.0, 1.0)


def test_the_blend_finds_the_weights_that_made_the_choices() -> None:
    random = np.random.default_rng(0)
    signals = {n: random.normal(size=(3000, 40)).astype(np.float32) for n in ("one", "two")}
    utility = 1.5 * signals["one"] - 0.5 * signals["two"] + random.gumbel(size=(3000, 40))
    targets = utility.argmax(axis=1).tolist()
    sample = blend.sample(signals, targets, signals["one"], best=20, others=10)
    found = blend.fit(sample, ridge=0.0)
    assert found.weights == pytest.approx([1.5, -0.5], abs=0.1)


def test_a_question_is_never_scored_by_weights_fitted_on_its_user() -> None:
    random = np.random.default_rng(1)
    signals = {"one": random.normal(size=(40, 30)).astype(np.float32)}
    users = [f"user {n // 2}" for n in range(40)]
    sample = blend.sample(signals, [0] * 40, signals["one"], best=10, others=5)
    scores = blend.crossfit(signals, sample, users)
    weights = scores[:, 0] / signals["one"][:, 0]
    assert weights[::2] == pytest.approx(weights[1::2], rel=1e-4)
    assert len(set(np.round(weights, 4))) == 4


def test_a_block_of_q4_by_hand() -> None:
    scale, least = np.float16(0.5), np.float16(-1.0)
    nibbles = np.arange(16, dtype=np.uint8) | (np.arange(16, dtype=np.uint8)[::-1] << 4)
    raw = np.concatenate([np.array([scale, least]).view(np.uint8), nibbles])[None]
    expected = [0.5 * n - 1 for n in range(16)] + [0.5 * n - 1 for n in reversed(range(16))]
    assert dequantised(raw)[0].tolist() == expected


def test_rotary_halves_go_back_to_their_places() -> None:
    config = {"num_attention_heads": 2, "num_key_value_heads": 1}
    straight = np.arange(8, dtype=np.float32)[:, None]
    woven = straight.reshape(2, 2, 2, 1).swapaxes(1, 2).reshape(8, 1)
    assert (permuted_back("layers.0.self_attn.q_proj.weight", woven, config) == straight).all()
    assert (permuted_back("layers.0.self_attn.v_proj.weight", woven, config) == woven).all()


def test_names_of_a_gguf_file() -> None:
    assert llama_name("blk.3.attn_output.weight") == "model.layers.3.self_attn.o_proj.weight"
    assert llama_name("output_norm.weight") == "model.norm.weight"
    assert llama_name("rope_freqs.weight") is None
