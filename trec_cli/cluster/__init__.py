"""Many processes and many machines: shards of an output, put together to the same bytes."""
