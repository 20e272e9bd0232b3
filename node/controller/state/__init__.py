"""The controller's decisions, without I/O: (state at log end, soft state, request, now) -> (records, answer).

A decision takes a `Draft`, adds records to it and returns its answer; it refuses with `ApiError` before the first
record. The shell appends the draft as one log entry and lets the answers leave when the entry is committed.
"""
