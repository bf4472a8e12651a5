"""Shards of moderation: decisions on one target, appeals against them and requests to remove it, by target."""
