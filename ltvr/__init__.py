"""Attentive feature augmentation for long-tailed visual recognition."""

from ltvr.afa.planning import SynthesisPlan, plan_synthesis
from ltvr.decompositions.afa import AFA
from ltvr.networks.network import LTVR

__version__ = "0.2.0"

__all__ = ["AFA", "LTVR", "SynthesisPlan", "__version__", "plan_synthesis"]
