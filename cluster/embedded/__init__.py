"""Real servers that come as wheels, run as children of one supervising process on loopback."""
