"""Research on the quality of rankings (issue 16); LOG.md beside this holds what came out."""
