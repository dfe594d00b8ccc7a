"""Our own small collection and a tiny model, each with its generator."""
