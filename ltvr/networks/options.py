"""Options of the network: what it is put together from."""

from __future__ import annotations

from dataclasses import dataclass

from ltvr.classifiers import CLASSIFIERS
from ltvr.config.options import Options, option
from ltvr.decompositions import DECOMPOSITIONS

__all__ = ["NetworkOptions"]


@dataclass(frozen=True)
class NetworkOptions(Options):
    """Network."""

    decomposition: str = option(
        "none",
        "of the features into class-related and variation-related parts, for generation",
        slot=DECOMPOSITIONS,
        optional=True,
        architecture=True,
    )
    embedding_layer: int = option(
        0,
        "width of a linear layer and ReLU between the pooled features and the classifier; 0: none",
        at_least=0,
        at_most=16384,
        architecture=True,
    )
    classifier: str = option("linear", "after the embedding", slot=CLASSIFIERS, architecture=True)
