"""Attentive feature augmentation for long-tailed visual recognition."""

from ltvr.afa import AFA
from ltvr.model import LTVR
from ltvr.planning import SynthesisPlan, plan_synthesis

__all__ = ["AFA", "LTVR", "SynthesisPlan", "plan_synthesis"]
