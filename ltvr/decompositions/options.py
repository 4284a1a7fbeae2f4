"""Options that every decomposition has: where it is, and the generation from its parts."""

from __future__ import annotations

from dataclasses import dataclass

from ltvr.config.options import Options, option

__all__ = ["DecompositionOptions", "GenerationOptions"]


@dataclass(frozen=True)
class DecompositionOptions(Options):
    """Decomposition."""

    insert_after: str = option(
        "layer3", "stage of the backbone that the decomposition follows", architecture=True
    )
    attention_addition: bool = option(
        True, "add X_class to the features (eq. 6); without it, Table VII", architecture=True
    )


@dataclass(frozen=True)
class GenerationOptions(DecompositionOptions):
    """Generation.

    None of them changes anything before the first epoch that generates.
    """

    gamma: float = option(
        1.0, "generated samples per real one (eq. 10); 0: none, Table VI", at_least=0, at_most=100
    )
    alpha: float = option(
        4.0, "how much rare classes are favoured (eq. 9)", at_least=0, idle={"gamma": 0.0}
    )
    lay_back_start: float = option(
        1 / 3,
        "t / T: share of the epochs that train on real samples alone, before L_all joins (eq. 12)",
        at_least=0,
        at_most=1,
        idle={"gamma": 0.0},
    )
    loss_weight: float = option(
        2.0, "lambda, the weight of L_all (eq. 12)", at_least=0, idle={"gamma": 0.0}
    )
    fixed_size: bool = option(
        False,
        "as many generated rows in every batch, the unused ones ignored (for --compile)",
        idle={"gamma": 0.0},
    )
