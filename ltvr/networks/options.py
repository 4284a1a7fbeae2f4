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
    classifier: str = option("linear", "after the embedding", slot=CLASSIFIERS, architecture=True)
