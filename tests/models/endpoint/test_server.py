"""Asking a server that refuses, hangs, lies, or dies in the middle."""

import gzip
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.models.endpoint.faulty_server import KEY, Fault, FaultyServer, finish, text_for
from trec_cli.core.errors import ModelError, UsageError
from trec_cli.models.endpoint import server as server_module
from trec_cli.models.endpoint.faults import Failure
from trec_cli.models.endpoint.replies import TextReply, Usage, read_chat, read_completion
from trec_cli.models.endpoint.server import Request, Server
from trec_cli.models.endpoint.settings import EndpointSettings, parse_extra

Outcome = TextReply | Failure


def settings(api: FaultyServer, **more: Any) -> EndpointSettings:
    return EndpointSettings(**{"base_url": api.url, "model": "m", "retries": 1, **more})


def chat(question: str, new_tokens: int = 10) -> Request[TextReply]:
    return Request(
        "chat", question, {"max_tokens": new_tokens}, read_chat, len(question.split()), new_tokens
    )


def ask(server: Server, *questions: str) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    with server:
        for some in server.answers([chat(question) for question in questions]):
            assert not outcomes.keys() & some.keys()
            outcomes.update(some)
    return [outcomes[place] for place in range(len(questions))]


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Failure), outcome
    return outcome.reason


def test_every_question_gets_its_own_answer(api: FaultyServer) -> None:
    questions = [f"question {n}" for n in range(30)]
    server = Server(settings(api, concurrency=7))
    outcomes = ask(server, *questions)
    assert [o.text for o in outcomes if isinstance(o, TextReply)] == list(map(text_for, questions))
    assert (server.tally.requests, server.tally.answered) == (30, 30)
    assert (server.tally.prompt_tokens, server.tally.new_tokens) == (60, 90)
    assert set(api.keys) == {f"Bearer {KEY}"}
    assert set(api.paths) == {"/v1/chat/completions"}


@pytest.mark.parametrize(
    ("location", "followed"),
    [
        ("http://elsewhere.example/v1/chat/completions", False),
        ("//elsewhere.example/x", False),
        ("http://127.0.0.1:1/v1/chat/completions", False),
        ("/v1/chat/completions?again", True),
    ],
)
def test_a_redirect_is_followed_on_the_same_server_alone(
    api: FaultyServer, location: str, followed: bool
) -> None:
    moved = Fault(307, headers={"Location": location})
    api.plan = lambda number, _: None if followed and number else moved
    [outcome] = ask(Server(settings(api)), "question")
    if followed:
        assert outcome == TextReply(text_for("question"), True, Usage(1, 3))
    else:
        assert "which is not followed" in reason(outcome)
        assert "elsewhere.example" in reason(outcome) or "127.0.0.1:1" in reason(outcome)


def test_no_more_is_read_than_an_answer_can_be(
    api: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MOST_BYTES", 1 << 20)
    api.plan = lambda *_: Fault(body=b'"' + b"x" * (1 << 20) + b'"')
    [outcome] = ask(Server(settings(api)), "question")
    assert reason(outcome) == "the answer is longer than 1 MiB"


def test_a_compressed_answer_is_not_unpacked(api: FaultyServer) -> None:
    packed = gzip.compress(b" " * 1000)
    api.plan = lambda *_: Fault(headers={"Content-Encoding": "gzip"}, body=packed)
    [outcome] = ask(Server(settings(api)), "question")
    assert "compressed" in reason(outcome)


def test_a_server_that_counts_impossible_tokens_is_a_bad_reply(api: FaultyServer) -> None:
    def change(answer: dict[str, Any]) -> None:
        answer["usage"]["completion_tokens"] = 10**30

    api.plan = lambda *_: Fault(change=change)
    [outcome] = ask(Server(settings(api)), "question")
    assert "a number of tokens that cannot be" in reason(outcome)


def test_an_odd_charset_of_an_error_does_no_harm(api: FaultyServer) -> None:
    api.plan = lambda *_: Fault(400, {"Content-Type": "text/plain; charset=rot13"}, b"no\xff")
    [outcome] = ask(Server(settings(api)), "question")
    assert reason(outcome).startswith("HTTP 400 no")


def test_no_questions_ask_nothing(api: FaultyServer) -> None:
    assert ask(Server(settings(api))) == []
    assert api.bodies == []


def test_so_many_requests_are_in_flight_and_never_more(api: FaultyServer) -> None:
    # Each request waits until three are there: they are sent together.
    api.meet = threading.Barrier(3)
    ask(Server(settings(api, concurrency=3)), *map(str, range(12)))
    assert api.most_at_once == 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500, body=b"oops"),
        Fault(503, body=b"<html>busy</html>"),
        Fault(429, headers={"Retry-After": "1"}, body=b"{}"),
        Fault(way="cut"),
        Fault(way="drop"),
        Fault(body=b"not json"),
        Fault(body=b'{"choices": [{"message": {"content": "half'),
        Fault(body=b"\xff\xfe{}"),
        Fault(body=b'"a text"'),
        Fault(body=b'{"choices": [{"message": {"content": "\xff"}, "finish_reason": "stop"}]}'),
        Fault(body=b'{"choices": [{"message": {"content": "\\ud800"}, "finish_reason": "stop"}]}'),
        Fault(body=b'{"more": ' + b"[" * 100_000),
        Fault(body=b'{"choices": [' + b'{"message": ' * 50_000),
        Fault(body=b""),
        Fault(body=b'{"choices": []}'),
        Fault(body=b'{"object": "chat.completion"}'),
        Fault(body=b'{"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]}'),
        finish("stop", "", new_tokens=0),
        finish(None),
        finish("abort"),
    ],
)
def test_a_passing_fault_is_overcome(api: FaultyServer, fault: Fault) -> None:
    api.plan = lambda number, _: fault if number == 0 else None
    (outcome,) = ask(Server(settings(api)), "a")
    assert isinstance(outcome, TextReply), outcome
    assert outcome.text == text_for("a")
    assert len(api.bodies) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(500, body=b'{"error": {"message": "oops"}}'), "HTTP 500"),
        (Fault(429, body=b"slow down"), "HTTP 429 slow down"),
        (Fault(way="cut"), "connection failed: "),
        (Fault(way="drop"), "connection failed: "),
        (Fault(body=b"not json"), "not what the protocol says"),
        (Fault(body=b'{"choices": []}'), "no choices"),
        (finish("stop", "", new_tokens=0), "an empty answer"),
        (finish(None), "half an answer"),
        (finish("length", ""), "no text within --max-new-tokens"),
        (Fault(body=b'{"choices": [{"text": "for the wrong endpoint"}]}'), "message"),
    ],
)
def test_a_fault_that_stays_fails_its_own_request_only(
    api: FaultyServer, fault: Fault, words: str
) -> None:
    api.plan = lambda _, question: fault if question == "b" else None
    outcomes = ask(Server(settings(api, concurrency=1)), "a", "b", "c")
    assert words in reason(outcomes[1])
    assert [isinstance(o, TextReply) for o in outcomes] == [True, False, True]


@pytest.mark.parametrize("way", ["hang", "trickle"])
def test_a_server_that_hangs_is_not_waited_for(api: FaultyServer, way: str) -> None:
    api.plan = lambda _, question: Fault(way=way) if question == "b" else None
    # Long enough for the other answer, however busy the machine is.
    outcomes = ask(Server(settings(api, timeout=4, retries=0)), "a", "b")
    assert isinstance(outcomes[0], TextReply)
    assert "within 4 s" in reason(outcomes[1])


def test_retry_after_is_obeyed(api: FaultyServer, pauses: list[float]) -> None:
    limit = Fault(429, headers={"Retry-After": "17"}, body=b"{}")
    api.plan = lambda number, _: limit if number < 2 else None
    server = Server(settings(api, retries=2))
    (outcome,) = ask(server, "a")
    assert isinstance(outcome, TextReply)
    assert pauses == [17, 17]
    assert server.tally.retries == 2


def test_pauses_grow(api: FaultyServer, pauses: list[float]) -> None:
    api.plan = lambda number, _: Fault(500) if number < 3 else None
    ask(Server(settings(api, retries=3)), "a")
    # Half a second, doubled, less a quarter at most, drawn at random (the client's own).
    for pause, most in zip(pauses, [0.5, 1.0, 2.0], strict=True):
        assert 0.75 * most <= pause <= most


def test_a_dead_server_is_not_asked_for_ever(api: FaultyServer) -> None:
    api.plan = lambda *_: Fault(500)
    server = Server(settings(api, concurrency=2, retries=0))
    outcomes = ask(server, *map(str, range(50)))
    assert len(api.bodies) <= 6
    assert server.dead
    assert "not asked after 5 failures in a row: HTTP 500" in reason(outcomes[-1])


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "is OPENAI_API_KEY set to a valid key?"), (404, "is 'm' served"), (403, "HTTP 403")],
)
def test_what_no_request_will_overcome_stops_at_once(
    api: FaultyServer, status: int, words: str
) -> None:
    api.plan = lambda *_: Fault(status, body=b"{}")
    outcomes = ask(Server(settings(api, concurrency=1)), *map(str, range(9)))
    assert len(api.bodies) == 1
    assert words in reason(outcomes[0])
    assert all("not asked after: HTTP" in reason(outcome) for outcome in outcomes[1:])


def test_a_prompt_that_is_too_long_does_not_stop_the_others(api: FaultyServer) -> None:
    too_long = Fault(400, body=b'{"error": {"message": "maximum context length is 20"}}')
    api.plan = lambda _, question: None if question == "39" else too_long
    outcomes = ask(Server(settings(api, concurrency=1)), "39", *map(str, range(60)))
    assert "HTTP 400" in reason(outcomes[1])
    assert "maximum context length" in reason(outcomes[1])
    assert isinstance(outcomes[40], TextReply)
    assert len(api.bodies) == 61


def test_a_server_that_refuses_everything_is_left(api: FaultyServer) -> None:
    api.plan = lambda *_: Fault(400, body=b"temperature is not supported")
    outcomes = ask(Server(settings(api, concurrency=1)), *map(str, range(60)))
    assert len(api.bodies) == 20
    assert "temperature is not supported" in reason(outcomes[-1])


def test_nobody_listens(api: FaultyServer) -> None:
    server = Server(settings(api, base_url="http://127.0.0.1:9/v1", price_in=1))
    (outcome,) = ask(server, "a")
    assert "connection failed" in reason(outcome)
    assert server.tally.cost == 0


def test_no_such_host(api: FaultyServer) -> None:
    (outcome,) = ask(Server(settings(api, base_url="http://no-such-host.invalid/v1")), "a")
    assert "connection failed" in reason(outcome)


def test_the_length_limit_and_refusals_are_answers(api: FaultyServer) -> None:
    faults = {"a": finish("length"), "b": finish("content_filter", ""), "c": finish("stop", "", 1)}
    api.plan = lambda _, question: faults[question]
    outcomes = ask(Server(settings(api, retries=0)), "a", "b", "c")
    replies = [outcome for outcome in outcomes if isinstance(outcome, TextReply)]
    assert [(r.text, r.stopped) for r in replies] == [
        (text_for("a"), False),
        ("", True),
        ("", True),
    ]


def test_the_cost_limit_is_never_passed(api: FaultyServer) -> None:
    # A question may cost 2 * 1 + 10 * 3 = 32 millionths and costs 2 * 1 + 3 * 3 = 11.
    prices = {"price_in": 1, "price_out": 3, "max_cost": 60e-6}
    server = Server(settings(api, concurrency=4, **prices))
    outcomes = ask(server, *[f"question {n}" for n in range(10)])
    # After three, 33 are spent, and 27 are less than a fourth might cost.
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert len(failures) == 7
    assert server.tally.cost == pytest.approx(33e-6)
    words = "not asked: it could cost more than is left of --max-cost 6e-05"
    assert {(failure.reason, failure.asked) for failure in failures} == {(words, False)}
    assert len(api.bodies) == 3


def test_an_unanswered_request_counts_at_full_length(api: FaultyServer) -> None:
    api.plan = lambda *_: Fault(way="cut")
    server = Server(settings(api, price_in=1, price_out=3, retries=0))
    ask(server, "a b")
    assert server.tally.cost == pytest.approx(32e-6)
    api.plan = lambda *_: Fault(429)
    refused = Server(settings(api, price_in=1, price_out=3, retries=0))
    ask(refused, "a b")
    assert refused.tally.cost == 0


def test_a_server_that_counts_no_tokens_is_counted_for(api: FaultyServer) -> None:
    api.plan = lambda *_: Fault(change=lambda answer: answer.pop("usage"))
    server = Server(settings(api, price_in=1, price_out=1))
    ask(server, "a b")
    assert (server.tally.prompt_tokens, server.tally.new_tokens) == (2, 10)


def test_extra_fields_go_into_the_body_and_null_takes_one_out(api: FaultyServer) -> None:
    extra = parse_extra('{"max_tokens": null, "max_completion_tokens": 7, "top_k": 1}')
    ask(Server(settings(api, extra=extra)), "a")
    assert api.bodies[0] == {
        "messages": [{"role": "user", "content": "a"}],
        "model": "m",
        "max_completion_tokens": 7,
        "top_k": 1,
    }


def ids_request(*ids: int) -> Request[TextReply]:
    return Request("completions", list(ids), {"max_tokens": 3}, read_completion, len(ids), 3)


def test_token_ids_are_sent_as_they_are(api: FaultyServer) -> None:
    with Server(settings(api)) as server:
        (outcomes,) = list(server.answers([ids_request(5, 6)]))
    assert api.bodies[0]["prompt"] == [5, 6]
    assert api.paths == ["/v1/completions"]
    assert outcomes[0] == TextReply(text_for([5, 6]), True, outcomes[0].usage)  # type: ignore[union-attr]


def test_a_server_that_adds_tokens_to_a_prompt_is_found_out(api: FaultyServer) -> None:
    def add_one(answer: dict[str, Any]) -> None:
        answer["usage"]["prompt_tokens"] += 1

    api.plan = lambda *_: Fault(change=add_one)
    with (
        pytest.raises(ModelError, match="2 token ids were sent and the server read 3"),
        Server(settings(api)) as server,
    ):
        list(server.answers([ids_request(5, 6)]))


def test_what_came_with_a_fault_is_given_before_it(api: FaultyServer) -> None:
    server = Server(settings(api, concurrency=1))

    async def at_once(request: Request[TextReply]) -> TextReply:
        if request.question == "lie":
            raise ModelError("other tokens were read")
        return TextReply(str(request.question), True, None)

    server._ask = at_once  # type: ignore[method-assign, assignment]
    with server:
        answers = server.answers([chat(question) for question in ("a", "b", "lie", "c")])
        given = next(answers).values()
        assert [reply.text for reply in given if isinstance(reply, TextReply)] == ["a", "b", "c"]
        with pytest.raises(ModelError, match="other tokens"):
            next(answers)


Echo = Callable[[], Fault]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(401, body=f"Incorrect API key provided: {KEY}".encode()),
        Fault(500, body=json.dumps({"error": {"message": f"bad Bearer {KEY}"}}).encode()),
        Fault(body=KEY.encode()),
        finish(KEY),
    ],
)
def test_a_key_that_the_server_repeats_is_in_no_message(api: FaultyServer, fault: Fault) -> None:
    api.plan = lambda *_: fault
    (outcome,) = ask(Server(settings(api)), "a")
    assert KEY not in repr(outcome)


def test_a_key_that_the_server_repeats_is_in_no_text(api: FaultyServer) -> None:
    api.plan = lambda *_: finish("stop", f"Your key is {KEY}.")
    (outcome,) = ask(Server(settings(api)), "a")
    assert isinstance(outcome, TextReply)
    assert outcome.text == "Your key is ***."


@pytest.mark.parametrize("key", ["sk/secret/0123", 'sk"secret\\0123', "sk-secret-0123"])
def test_a_key_that_the_server_writes_with_escapes_is_in_no_text(
    api: FaultyServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    escaped = "".join(f"\\u{ord(character):04x}" for character in key)
    for written in (json.dumps(key)[1:-1].replace("/", "\\/"), escaped):
        answer = {
            "choices": [{"message": {"content": "Your key is KEY."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 3},
        }
        body = json.dumps(answer).replace("KEY", written).encode()
        api.plan = lambda *_, body=body: Fault(body=body)
        (outcome,) = ask(Server(settings(api)), "a")
        assert isinstance(outcome, TextReply)
        assert outcome.text == "Your key is ***."


@pytest.mark.parametrize(
    "key", ["sk-secret\n0123456789", "sk-secret 0123456789", "sk-é-0123456789"]
)
def test_a_key_that_no_header_takes_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UsageError, match="characters that no key has") as raised:
        EndpointSettings("http://127.0.0.1:8000/v1", "m").key()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_url": "localhost:8000"}, "is no address"),
        ({"base_url": "http://[half"}, "is no address"),
        ({"base_url": "http://u:pw@host/v1"}, "no user, password or query"),
        ({"base_url": "http://host/v1?key=s3cret"}, "no user, password or query"),
        ({"max_cost": 1.0}, "needs prices"),
        ({"extra": {"stream": True}}, "stream is trec's own"),
        ({"api_key_env": "sk-this-is-a-key"}, "takes the name of an environment variable"),
        ({"api_key_env": "NOT_SET_ANYWHERE"}, "is not set"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, Any], words: str) -> None:
    given = {"base_url": "http://127.0.0.1:8000/v1", "model": "m", **change}
    with pytest.raises(UsageError, match=words) as raised:
        EndpointSettings(**given).check()
    assert not any(secret in str(raised.value) for secret in ("pw", "s3cret", "sk-this"))


@pytest.mark.parametrize("text", ["[1]", "{", '"a"', "3"])
def test_an_extra_body_is_a_json_object(text: str) -> None:
    with pytest.raises(UsageError, match="--extra-body is no JSON object"):
        parse_extra(text)


def test_a_server_without_keys_needs_none(
    api: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    (outcome,) = ask(Server(settings(api)), "a none b")
    assert isinstance(outcome, TextReply)
    assert api.keys == ["Bearer none"]
