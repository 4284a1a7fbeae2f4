"""What classifiers over normalised embeddings share: heads, and the total direct effect (TDE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltvr.classifiers.base import Classifier
from ltvr.clock import Clock
from ltvr.config.options import Options, option
from ltvr.data.targets import Targets
from ltvr.errors import UserError

__all__ = ["Normalised", "NormalisedOptions"]


@dataclass(frozen=True)
class NormalisedOptions(Options):
    """Cosine, capsule and de-confound classifiers."""

    tde: bool = option(False, "evaluate by the total direct effect (TDE)", inference=True)
    tde_alpha: float = option(
        1.0,
        "how much of an embedding along the moving feature TDE takes away",
        at_least=0,
        inference=True,
        idle={"tde": False},
    )
    moving_feature: bool = option(
        True, "keep the moving feature, which TDE needs, in the checkpoints", architecture=True
    )
    moving_feature_decay: float | None = option(
        None,
        "mu, factor on the moving feature at each step; none: by the learning rate at the start of "
        "each epoch, 1 - 0.1 min(50 lr, 1)",
        at_least=0,
        at_most=1,
        idle={"moving_feature": False},
    )

    def check(self, config: Any) -> None:
        """Refuse TDE without what it takes away."""
        if self.tde and not self.moving_feature:
            raise UserError(
                "tde = true: no moving feature is kept, which it takes away (moving_feature = "
                "false); drop --tde, or train a new run with --moving-feature"
            )


class Normalised(Classifier):
    """``z_c = tau / K sum_k <x^k, w_c^k> / N(x^k, w_c^k)``, in training.

    Embedding and weights are cut into K heads, groups of E / K values in a row. Tang et al.,
    Long-Tailed Classification by Keeping the Good and Removing the Bad Momentum Causal Effect,
    NeurIPS 2020, eq. 10; weights are drawn from U(-1/sqrt(E), 1/sqrt(E)), and there is no bias. A
    subclass states N as a product, by ``normalised_inputs`` and ``normalised_weights``.

    The *moving feature* m is a buffer, 0 before the first step. A step makes it mu m + the mean
    embedding of its real rows, over all of its micro-batches; only its direction is used. It goes
    on in every stage that trains, as in the authors' code: after cRT it is of the embeddings that
    the new classifier was trained with. ``--ema`` averages it as it does the weights.

    Args:
        options: the shared ones.
        heads: K, a divisor of E.
        scale: tau.
        embedding_dim: E.
        num_classes: C.

    Raises:
        UserError: an embedding that cannot be cut into so many heads.
    """

    moving_feature: Tensor | None
    """m, [E] float32; None where none is kept."""
    decay: Tensor
    """mu of this epoch, a tensor so that ``torch.compile`` takes it for no constant."""
    micro_batches: Tensor
    """Micro-batches since the epoch began."""

    def __init__(
        self,
        options: NormalisedOptions,
        heads: int,
        scale: float,
        embedding_dim: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        if embedding_dim % heads:
            raise UserError(
                f"{heads} heads: an embedding of {embedding_dim} values is not cut into so many "
                f"equal parts; set a number of heads that divides {embedding_dim}"
            )
        self.heads, self.factor = heads, scale / heads
        self.alpha = options.tde_alpha if options.tde else None
        self.fixed_decay = options.moving_feature_decay
        self.accumulate = 1
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        kept = torch.zeros(embedding_dim) if options.moving_feature else None
        self.register_buffer("moving_feature", kept)
        self.register_buffer("decay", torch.tensor(0.9), persistent=False)
        self.register_buffer("micro_batches", torch.tensor(0), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew; the moving feature goes on."""
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def normalised_inputs(self, x: Tensor) -> Tensor:
        """Heads of embeddings [R, K, E/K] over their part of N; by default of length 1."""
        return F.normalize(x, dim=-1)

    def normalised_weights(self, w: Tensor) -> Tensor:
        """Heads of weights [C, K, E/K] over their part of N; by default of length 1."""
        return F.normalize(w, dim=-1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings [R, E] to logits [R, C]; in eval mode with the option ``tde`` those of TDE.

        Lengths are taken at least in float32.
        """
        if self.alpha is not None and not self.training:
            return self.tde_logits(embeddings, self.alpha)
        return self._logits(self._inputs(embeddings))

    def tde_logits(self, embeddings: Tensor, alpha: float) -> Tensor:
        """Embeddings [R, E] to logits [R, C] by the total direct effect, whatever the options say.

        With u^k the normalised head of an embedding, v_c^k that of the weights, and d^k the
        direction of m^k:

            z_c = tau / K sum_k <u^k - alpha <u^k, d^k> d^k, v_c^k>

        Cosine and de-confound have ``u^k = x^k / |x^k|``, so that ``<u^k, d^k> = cos(x^k, d^k)``
        and this is eq. 8 with N of each. The capsule has ``u^k = x^k / (1 + |x^k|)``: the term
        that is subtracted has its factor ``|x^k| / (1 + |x^k|)`` as well. That reading is ours, as
        the null input of eq. 8 keeps ``|x|``; in the authors' code ``capsule_norm`` is never
        called. Without the factor there it would be almost the same where ``|x^k|`` is large.

        Args:
            alpha: 0 takes nothing away, and gives the plain logits to the bit.

        Raises:
            UserError: no moving feature was kept.
        """
        if self.moving_feature is None:
            raise UserError(
                "TDE: no moving feature was kept with this classifier; train a new run with "
                "--moving-feature"
            )
        inputs = self._inputs(embeddings)
        direction = F.normalize(self._cut(self.moving_feature), dim=-1)
        along = (inputs * direction).sum(-1, keepdim=True)
        return self._logits(inputs - alpha * along * direction)

    def begin_epoch(self, clock: Clock, lr: float) -> None:
        """Set mu."""
        mu = 1 - 0.1 * min(50 * lr, 1.0) if self.fixed_decay is None else self.fixed_decay
        self.decay.fill_(mu)
        self.micro_batches.zero_()
        self.accumulate = clock.accumulate

    def statistics(self) -> list[Tensor]:
        """The moving feature."""
        return [] if self.moving_feature is None else [self.moving_feature]

    def observe(self, embeddings: Tensor, targets: Targets, real: int) -> None:
        """Add the mean of the real rows that count to the moving feature."""
        if self.moving_feature is None:
            return
        x = embeddings[:real].to(self.moving_feature.dtype)
        counted = targets.counted[:real].to(x.dtype)
        mean = (x * counted[:, None]).sum(0) / counted.sum().clamp_min(1)
        first = self.micro_batches % self.accumulate == 0
        before = self.moving_feature * torch.where(first, self.decay, 1.0)
        self.moving_feature.copy_(before + mean / self.accumulate)
        self.micro_batches.add_(1)

    def _cut(self, values: Tensor) -> Tensor:
        heads: Tensor = values.unflatten(-1, (self.heads, -1))
        return heads

    def _inputs(self, embeddings: Tensor) -> Tensor:
        wide = torch.promote_types(embeddings.dtype, torch.float32)
        return self.normalised_inputs(self._cut(embeddings.to(wide)))

    def _logits(self, inputs: Tensor) -> Tensor:
        """tau / K times the products of normalised heads [R, K, E/K] with the weights': [R, C]."""
        weights = self.normalised_weights(self._cut(self.weight))
        logits: Tensor = self.factor * F.linear(inputs.flatten(1), weights.flatten(1))
        return logits
