"""``python -m trec_cli`` and the ``trec`` script."""

from trec_cli.commands.app import main

if __name__ == "__main__":
    main()
