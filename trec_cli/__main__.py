"""``python -m trec_cli`` and the ``trec`` script."""

import os
import signal

_EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the app; Ctrl-C while it still loads ends without a traceback."""
    signal.signal(signal.SIGINT, _leave)
    from trec_cli.commands.app import main as run

    run()


def _leave(*_: object) -> None:
    """End at once: nothing has been opened or written yet."""
    os.write(2, b"interrupted\n")
    os._exit(_EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
