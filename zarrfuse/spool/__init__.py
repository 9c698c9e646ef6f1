"""Precious copies of bytes that are not in the bucket yet, and how they get there."""
