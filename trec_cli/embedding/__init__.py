"""Vectors of texts: by a sentence-embedding model or by the language model itself."""

LLM = "llm"
"""What ``--embedder`` says for the language model itself."""

DEFAULT_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
"""The embedder where none is named; here, because the commands read it without torch."""
