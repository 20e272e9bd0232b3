"""Logs on disk: segments, indexes, epochs, checkpoints, retention, compaction, recovery. No network, no event loop."""
