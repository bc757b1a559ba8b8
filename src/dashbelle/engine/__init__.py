"""Prompt -> deltas; knows nothing of keys, rows or sockets."""
