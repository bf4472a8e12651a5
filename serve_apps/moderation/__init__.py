"""Moderation: the review queue, decisions, appeals, the audit log, and requests to remove intimate images."""
