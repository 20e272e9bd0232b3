"""The cluster's metadata: durable records, the immutable image they add up to, and what changed between two images."""
