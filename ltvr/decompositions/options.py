"""Options that every decomposition has: where it is, and the generation from its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ltvr.afa.generation import Combination, Generation, StopGradient
from ltvr.config.options import Options, none_of, option

__all__ = ["DecompositionOptions", "GenerationOptions"]

NOT_GENERATED = {"gamma": 0.0, "stages": none_of("features")}
"""Values each of which leaves the first stage without generated rows."""
NEVER_GENERATED = {"stages": none_of("features", "generative")}
NOT_GENERATED_AT_ALL = {"gamma": 0.0, "stages": none_of("generative")}
"""Values that, together, leave all stages without them."""


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
        1.0,
        "generated samples per real one (eq. 10); 0: none, Table VI",
        at_least=0,
        at_most=100,
        idle={"stages": none_of("features")},
    )
    rarity: Literal["batch", "data-set"] = option(
        "batch",
        "what makes a class rare: its frequency in the batch (eq. 9-10), or its training images; "
        "then a sample is drawn with the weight 1 / n^--rarity-exponent of its class",
        idle=NOT_GENERATED,
    )
    alpha: float = option(
        4.0,
        "how much rare classes are favoured (eq. 9)",
        at_least=0,
        idle={**NOT_GENERATED, "rarity": "data-set"},
    )
    rarity_exponent: float = option(
        1.0,
        "1: every class is generated as often, 0: as it comes",
        at_least=0,
        at_most=10,
        idle={**NOT_GENERATED, "rarity": "batch"},
    )
    donors: Literal["any", "head", "confused", "self"] = option(
        "any",
        "whose X_var is taken: any other sample's (eq. 11); one of the --head-share largest "
        "classes; of a class as often as the network takes images of the row's for it, at t; or "
        "the sample's own, which mixes nothing: a control",
        idle=NOT_GENERATED,
    )
    head_share: float = option(
        0.3,
        "share of the classes, the largest, that are donors",
        above=0,
        at_most=1,
        idle={**NOT_GENERATED, "donors": ["any", "confused", "self"]},
    )
    combination: Combination = option(
        "add",
        "X_class + X_var of another sample (eq. 11); X + X_class with X_var exchanged for that of "
        "another; or its positions or channels in the place of those least class-related",
        idle=NEVER_GENERATED,
        idle_together=NOT_GENERATED_AT_ALL,
    )
    selected_share: float = option(
        0.5,
        "share of the positions, or channels, that stay the sample's own",
        above=0,
        below=1,
        idle={**NEVER_GENERATED, "combination": ["add", "swap"]},
        idle_together=NOT_GENERATED_AT_ALL,
    )
    keep_norms: bool = option(
        False,
        "scale a generated row to the length of the sample's own",
        idle=NEVER_GENERATED,
        idle_together=NOT_GENERATED_AT_ALL,
    )
    stop_gradient: StopGradient = option(
        "none",
        "what sends no gradient back from generated rows: the features before the decomposition, "
        "X_var, or both",
        idle=NEVER_GENERATED,
        idle_together=NOT_GENERATED_AT_ALL,
    )
    generated_batchnorm: Literal["joint", "own"] = option(
        "joint",
        "generated rows are normalised with the real ones, or by statistics of their own, which "
        "inference never sees",
        idle=NEVER_GENERATED,
        idle_together=NOT_GENERATED_AT_ALL,
    )
    lay_back_start: float = option(
        1 / 3,
        "t / T: share of the epochs that train on real samples alone, before L_all joins (eq. 12)",
        at_least=0,
        at_most=1,
        idle=NOT_GENERATED,
    )
    loss_weight: float = option(
        2.0, "lambda, the weight of L_all (eq. 12)", at_least=0, idle=NOT_GENERATED
    )
    keep_step_size: bool = option(
        False,
        "divide L_ori + lambda L_all by 1 + lambda, so that the step is as large as before t",
        idle=NOT_GENERATED,
    )
    fixed_size: bool = option(
        False,
        "as many generated rows in every batch, the unused ones ignored (for --compile)",
        idle=NOT_GENERATED,
    )

    @property
    def generation(self) -> Generation:
        """How rows are generated from X_class and X_var."""
        return Generation(
            self.combination, self.selected_share, self.keep_norms, self.stop_gradient
        )
