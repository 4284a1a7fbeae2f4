"""The paper's tables and figures, made again: which runs they need, those runs, what came out."""
