"""The figures the core runs by."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Times in milliseconds, sizes in bytes. The names in quotes are the settings they come from."""

    election_timeout_ms: int = 1000
    """Shortest silence after which a follower stands ("controller.quorum.election.timeout.ms")."""
    election_timeout_max_ms: int = 2000
    """Longest; the wait is drawn evenly between the two (Raft 5.2)."""
    election_backoff_max_ms: int = 1000
    """Bound of the wait after a lost election ("controller.quorum.election.backoff.max.ms")."""
    dead_leader_jitter_ms: int = 50
    """A follower whose leader is known dead stands within this time."""
    fetch_timeout_ms: int = 1500
    """A leader that has not heard from a majority for this long resigns ("controller.quorum.fetch.timeout.ms")."""
    heartbeat_interval_ms: int = 200
    resend_ms: int = 400
    """An unanswered append or snapshot chunk is taken as lost after this time and sent again..."""
    resend_max_ms: int = 5000
    """... each time after twice the time, up to this, until the follower was away: a slow way is not a lossy one."""
    observer_timeout_ms: int = 10_000
    """A leader stops sending to an observer that has been silent for this long."""
    max_append_bytes: int = 1 << 20
    max_in_flight: int = 8
    """Unanswered append requests per follower."""
    max_uncommitted_bytes: int = 64 << 20
    """Proposals are refused above this: a leader without a majority must not fill its memory."""
    max_pending_reads: int = 1024
    max_observers: int = 128
    snapshot_chunk_bytes: int = 256 << 10
    snapshot_max_bytes: int = 1 << 30
    """What is said to be larger is not received."""
    keep_entries: int = 1000
    """Entries kept behind a new snapshot, so that a follower a little behind is not sent a whole one."""
