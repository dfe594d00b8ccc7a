"""``--report-to``: the experiment trackers that the Trainer knows."""

import os
from collections.abc import Sequence
from pathlib import Path

from transformers.integrations import get_available_reporting_integrations

from trec_cli.core.errors import UsageError

_TENSORBOARD_FOLDER = "TENSORBOARD_LOGGING_DIR"


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed or that the Trainer does not know.

    Raises:
        UsageError: naming those that can be used here.
    """
    here = get_available_reporting_integrations()
    absent = [name for name in names if name not in (*here, "all")]
    if absent:
        raise UsageError(
            f"--report-to {','.join(absent)}: not installed, or not known to transformers. "
            f"Usable here: {', '.join(here) or 'none'}; training-log.jsonl is always written"
        )


def keep_events(out: Path) -> None:
    """Let TensorBoard write beside the adapter: the work folder does not last.

    A folder that the user names in ``TENSORBOARD_LOGGING_DIR`` wins.
    """
    os.environ.setdefault(_TENSORBOARD_FOLDER, str(out.with_name(f"tensorboard-{out.name}")))
