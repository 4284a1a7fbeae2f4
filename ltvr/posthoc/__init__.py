"""Heads on a finished first stage, in closed form or trained, from embeddings that are kept."""
