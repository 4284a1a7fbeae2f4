"""Runs beside each other: what differs, what is gained, and whether chance would do it."""
