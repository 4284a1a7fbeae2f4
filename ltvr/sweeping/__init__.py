"""Sweeps: configurations tried beside each other, judged on a hold-out, and the best of them."""
