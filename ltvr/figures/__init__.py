"""The figures of the paper, from data alone, and how a figure is written."""
