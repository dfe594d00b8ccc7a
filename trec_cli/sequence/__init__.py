"""A small sequence model over text vectors: it learns from histories and knows new items."""
