"""One thin servicer per proto service: translate, route to the leader, don't decide."""
