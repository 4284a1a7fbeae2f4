"""Malformed input of every kind, drawn by seed: each must end in one line that says what to do."""
