"""What any front end asks of a node, in plain values: a door translates, what is decided is decided here and below."""
