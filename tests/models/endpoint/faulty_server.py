"""An OpenAI-compatible server in a thread that fails as it is told to."""

import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-secret-0123456789"


@dataclass
class Fault:
    """What to do instead of answering well.

    Attributes:
        status, headers: of the answer.
        body: in place of the good one.
        change: alters the good answer.
        way: ``hang``, ``trickle`` (a byte now and then), ``cut`` (half of the body), ``drop``
            (no answer at all); empty sends the answer.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    change: Callable[[dict[str, Any]], Any] | None = None
    way: str = ""


def finish(reason: Any, text: str | None = None, new_tokens: int = 3) -> Fault:
    """Answer with another finish_reason, and text."""

    def change(answer: dict[str, Any]) -> None:
        choice = answer["choices"][0]
        choice["finish_reason"] = reason
        if text is not None:
            choice["message"]["content"] = text
            answer["usage"]["completion_tokens"] = new_tokens

    return Fault(change=change)


Plan = Callable[[int, Any], Fault | None]
"""Chooses a fault for the n-th request (from 0) and its question; None answers well."""


def question_of(body: dict[str, Any]) -> Any:
    return body["messages"][0]["content"] if "messages" in body else body["prompt"]


def text_for(question: Any) -> str:
    return f"Likes {hashlib.sha256(str(question).encode()).hexdigest()[:8]}."


def logprob_for(ids: Sequence[int], token: int) -> float:
    digest = hashlib.sha256(f"{list(ids)}{token}".encode()).digest()
    return -1 - digest[0] / 256


class FaultyServer:
    """What the server has seen, and its plan.

    Attributes:
        plan: may be replaced at any time.
        bodies: of all requests, in order of arrival.
        most_at_once: requests in work at the same time, at most.
        named_by: how tokens are named in log-probabilities: ``id`` or ``text``.
        texts: of tokens, for ``text``.
    """

    def __init__(self) -> None:
        self.plan: Plan = lambda _number, _question: None
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str] = []
        self.most_at_once = self._now = 0
        self.named_by = "id"
        self.leave_out: set[int] = set()
        self.logprob: Callable[[Sequence[int], int], float] = logprob_for
        self.texts: dict[int, str] = {}
        self.meet: threading.Barrier | None = None
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @contextmanager
    def running(self) -> Iterator["FaultyServer"]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._http.shutdown()
            self._http.server_close()
            thread.join()

    @property
    def questions(self) -> list[Any]:
        return [question_of(body) for body in self.bodies]

    def enter(self, path: str, key: str, body: dict[str, Any]) -> Fault | None:
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.paths.append(path)
            self.keys.append(key)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            return self.plan(number, question_of(body))

    def leave(self) -> None:
        with self._lock:
            self._now -= 1

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        question = question_of(body)
        count = len(question) if isinstance(question, list) else len(str(question).split())
        usage = {"prompt_tokens": count, "completion_tokens": 3, "total_tokens": count + 3}
        if "messages" in body:
            message = {"role": "assistant", "content": text_for(question)}
            return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        choice: dict[str, Any] = {"text": text_for(question), "finish_reason": "stop"}
        if "logprobs" in body:
            choice = {"text": "", "finish_reason": "length", "logprobs": self._logprobs(body)}
            usage["completion_tokens"] = 1
        return {"choices": [choice], "usage": usage}

    def _logprobs(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = [t for t in body["logprob_token_ids"] if t not in self.leave_out]
        values = {token: self.logprob(body["prompt"], token) for token in asked}
        if self.named_by == "id":
            named = {f"token_id:{token}": value for token, value in values.items()}
        else:
            named = {self.texts[token]: value for token, value in values.items()}
        return {"top_logprobs": [{**named, "else": -0.5}]}


def _handler(server: FaultyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fault = server.enter(self.path, self.headers.get("Authorization", ""), body)
            try:
                if server.meet is not None:
                    server.meet.wait(300)
                with suppress(BrokenPipeError, ConnectionResetError):
                    self._respond(fault or Fault(), body)
            finally:
                server.leave()

        def _respond(self, fault: Fault, body: dict[str, Any]) -> None:
            if fault.way == "hang":
                server.released.wait(20)
            if fault.way in ("hang", "drop"):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            content = fault.body
            if content is None:
                answer = server.answer(body)
                if fault.change:
                    fault.change(answer)
                content = json.dumps(answer).encode()
            self.send_response(fault.status)
            for name, value in fault.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if fault.way == "cut":
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
                return
            if fault.way == "trickle":
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    if server.released.wait(0.05):
                        return
            self.wfile.write(content)

    return Handler
