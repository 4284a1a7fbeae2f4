"""AFA's own decomposition; its equations and their fast versions are in ``ltvr/afa/``."""

from ltvr.afa.module import AFA

__all__ = ["AFA"]
