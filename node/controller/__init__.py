"""The cluster's controller: pure decisions in `state`, driven by one single-writer shell around the quorum."""
