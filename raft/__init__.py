"""Raft as a pure state machine: no I/O, no clock, no event loop, nothing of Ottla's imported.

`raft.core.Raft` is the whole public face: feed it messages, times and completions, drain one `Effects` value after each
input.
"""
