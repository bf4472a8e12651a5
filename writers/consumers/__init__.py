"""Consumers that act: what follows from an event is produced, acknowledged, and only then the position advances."""
