"""Trained baselines by RecBole: our examples out as its atomic files, its scores back.

RecBole's pins do not fit beside ours, so it runs in an environment of its own:
:mod:`~trec_cli.recbole.worker` is a script for that other interpreter and imports nothing
of ``trec_cli``; everything else here is ours and never imports RecBole.
"""

from typing import Literal, get_args

TrainOn = Literal["histories", "train"]
"""Whether models learn from the histories of users of valid and test, too."""
TRAIN_ON: tuple[TrainOn, ...] = get_args(TrainOn)
