"""Commands of a study at once: their endings, what they say, and being interrupted."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trec_cli.study.launch import Crew, Ending

CODE = {
    "says": "import sys; sys.stderr.write('first\\n\\nsecond, not ended'); print('{}')",
    "fails": 'import sys; print(\'{"error": "no memory"}\'); sys.exit(4)',
    "silent": "import sys; print('no JSON'); sys.exit(3)",
    "interrupted": "import sys; sys.exit(130)",
    "waits": "import time, pathlib, sys; pathlib.Path(sys.argv[1]).touch(); time.sleep(100)",
    "finishes": (
        "import pathlib, sys, time\n"
        "try:\n"
        "    pathlib.Path(sys.argv[1]).touch(); time.sleep(100)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(0.3); pathlib.Path(sys.argv[1] + '.saved').touch(); sys.exit(130)\n"
    ),
    "leaves": (
        "import subprocess, sys\n"
        "print('gone', file=sys.stderr, flush=True)\n"
        "work = 'import pathlib, sys, time; time.sleep(5); pathlib.Path(sys.argv[1]).touch()'\n"
        "subprocess.Popen([sys.executable, '-c', work, sys.argv[1]], stdout=subprocess.DEVNULL)\n"
    ),
    "shows": "import os, sys; print(os.environ['OMP_NUM_THREADS'], file=sys.stderr)",
}


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first word of a command name one of the programs above."""
    popen = subprocess.Popen

    def start(words: list[str], **how: object) -> object:
        if words[1:3] != ["-m", "trec_cli"]:
            return popen(words, **how)  # type: ignore[call-overload]
        return popen([sys.executable, "-c", CODE[words[3]], *words[4:]], **how)  # type: ignore[call-overload]

    monkeypatch.setattr("trec_cli.study.launch.subprocess.Popen", start)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let SIGINT interrupt, which a shell's background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("programs")
class TestCrew:
    def test_endings_carry_the_code_and_the_error_of_the_json_line(self) -> None:
        crew = Crew(3, lambda _: None)
        for name in ("says", "fails", "silent"):
            crew.start(name, [name])
        assert dict(crew.wait() for _ in range(3)) == {
            "says": Ending(0, ""),
            "fails": Ending(4, "no memory"),
            "silent": Ending(3, ""),
        }

    def test_lines_of_several_carry_their_names_and_none_is_lost(self) -> None:
        heard: list[str] = []
        crew = Crew(2, heard.append)
        crew.start("1 a", ["says"])
        crew.start("2 b", ["says"])
        crew.wait()
        crew.wait()
        for name in ("1 a", "2 b"):
            assert [line for line in heard if name in line] == [
                f"[{name}] first",
                f"[{name}] second, not ended",
            ]

    def test_one_alone_has_our_stderr(self, capfd: pytest.CaptureFixture[str]) -> None:
        heard: list[str] = []
        crew = Crew(1, heard.append)
        crew.start("a", ["says"])
        assert crew.wait() == ("a", Ending(0))
        assert heard == []
        assert capfd.readouterr().err == "first\n\nsecond, not ended"

    def test_a_grandchild_that_lives_on_keeps_nobody_waiting(self, tmp_path: Path) -> None:
        heard: list[str] = []
        crew = Crew(2, heard.append)
        crew.start("a", ["leaves", str(tmp_path / "end of the grandchild")])
        assert crew.wait() == ("a", Ending(0))
        assert not list(tmp_path.iterdir())
        assert heard == ["[a] gone"]

    def test_a_place_is_free_again_after_an_ending(self) -> None:
        crew = Crew(2, lambda _: None)
        for _ in range(5):
            crew.start("a", ["silent"])
            crew.wait()

    def test_threads_are_shared_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr("trec_cli.study.launch._cores", lambda: 8)
        heard: list[str] = []
        crew = Crew(2, heard.append)
        crew.start("a", ["shows"])
        crew.wait()
        assert heard == ["[a] 4"]

    def test_an_interrupted_command_ends_the_others(self, tmp_path: Path) -> None:
        crew = Crew(2, lambda _: None)
        crew.start("a", ["waits", str(tmp_path / "up")])
        crew.start("b", ["interrupted"])
        (waiting,) = (command for command in crew._working if command.name == "a")
        _wait_for(tmp_path / "up")
        threading.Timer(0.5, waiting.process.terminate).start()
        with pytest.raises(KeyboardInterrupt):
            crew.wait()
        assert waiting.process.returncode is not None

    @pytest.mark.usefixtures("ctrl_c")
    def test_ctrl_c_lets_all_finish_what_they_write(self, tmp_path: Path) -> None:
        crew = Crew(2, lambda _: None)
        for name in ("a", "b"):
            crew.start(name, ["finishes", str(tmp_path / name)])
        processes = [command.process for command in crew._working]

        def press() -> None:
            for name in ("a", "b"):
                _wait_for(tmp_path / name)
            for process in processes:
                process.send_signal(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=press).start()
        with pytest.raises(KeyboardInterrupt):
            crew.wait()
        assert (tmp_path / "a.saved").exists()
        assert (tmp_path / "b.saved").exists()


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)
