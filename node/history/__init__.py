"""What a node remembers of changes and their causes, and the answers that it gives from that. Pure."""
