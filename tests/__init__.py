"""The tests; the tree mirrors that of trec_cli."""
