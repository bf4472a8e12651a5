"""Projections: rows and events into Redis, apart from the writing of rows and never ahead of it."""
