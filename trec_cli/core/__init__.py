"""The ground floor: records, JSONL, outputs, manifests, errors, options; nothing above it."""
