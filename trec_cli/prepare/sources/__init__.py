"""One reader per format; :mod:`trec_cli.prepare.detect` lists and chooses them."""
