"""Whether the model hub can be reached: asked once, and never for a folder."""

import socket
from pathlib import Path

import pytest

from trec_cli.core.errors import ModelError
from trec_cli.models import hub
from trec_cli.models.load import load_config
from trec_cli.models.source import ModelSource


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which servers are looked for; none is found."""
    hosts: list[str] = []

    def look_up(host: str, *_: object) -> list[object]:
        hosts.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    for proxy in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    hub._resolves.cache_clear()
    return hosts


def test_a_hub_that_has_no_address_is_away_and_is_looked_for_once(asked: list[str]) -> None:
    assert hub.is_away("some/model")
    assert hub.is_away("other/model")
    assert asked == ["hub.invalid"]


def test_a_folder_needs_no_hub_and_a_proxy_may_know_it(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not hub.is_away(str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert not hub.is_away("some/model")
    assert asked == []


def test_a_hub_with_an_address_is_asked(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: ["an address"])
    assert not hub.is_away("some/model")


def test_a_model_that_is_not_here_is_refused_without_asking_the_hub(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ModelError, match="some/model could not be loaded"):
        load_config(ModelSource("some/model"))
    assert len(asked) <= 2  # the library looks once, for a list of its own; it had asked six times
