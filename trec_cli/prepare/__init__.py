"""Turning a downloaded collection into a catalogue and examples.

A reader of :mod:`trec_cli.prepare.sources` gives a :class:`~.collection.Collection`;
:mod:`.build` filters it, splits it and draws negatives; :mod:`.report` counts all of it.
"""
