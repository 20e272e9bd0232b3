"""The metadata quorum of a node: the consensus core of `raft` over a synced log, gRPC streams and one timer."""
