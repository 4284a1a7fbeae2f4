"""Options of how a run computes; none of them belongs to one component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ltvr.config.options import Options, option

__all__ = ["Amp", "RunOptions"]

Amp = Literal["none", "bf16", "fp16"]


@dataclass(frozen=True)
class RunOptions(Options):
    """Run."""

    preset: str = option(
        "digits",
        "data set, network and schedule: a name below, a YAML file, or another run's config.yaml",
    )
    method: str = option(
        "", "what is compared: a name below, or a YAML file; by default the preset's"
    )
    seed: int = option(
        0, "of initialisation, order, augmentation and synthesis", at_least=0, below=2**63
    )
    device: Literal["auto", "cpu", "cuda"] = option("auto", "where to train")
    fused: bool = option(
        False, "run AFA fused: Triton on CUDA, C++ on a CPU", idle={"decomposition": "none"}
    )
    amp: Amp = option("none", "type of automatic mixed precision")
    channels_last: bool = option(True, "store the maps of the convolutions channels last")
    compile: bool = option(False, "torch.compile the training step")
    sync_bn: bool = option(
        False,
        "with several ranks, on GPUs: BatchNorm by the statistics of all, and not of each alone",
    )
    eval_batch_size: int = option(500, "images a batch in evaluation", at_least=1)
    batchnorm_images: int = option(
        5000,
        "training images that the BatchNorm statistics of the protocol check are measured on; 0: "
        "no such check",
        at_least=0,
    )
    evaluate_every: int = option(
        1, "epochs to the next evaluation; the last of a stage always has one", at_least=1
    )
