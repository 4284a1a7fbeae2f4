"""A trained network, back from its run folder."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ltvr.classifiers import CLASSIFIERS
from ltvr.config.command_line import Parser, add_arguments, flag, given, refuse_unused
from ltvr.config.config import Config
from ltvr.config.run import RunOptions
from ltvr.data.batches import Batches
from ltvr.data.splits import Split
from ltvr.device import autocast, choose_device, memory_format
from ltvr.errors import UserError
from ltvr.losses.base import Outputs
from ltvr.networks.build import build_network, choose_backend
from ltvr.networks.network import Network
from ltvr.networks.options import NetworkOptions
from ltvr.networks.weights import without_initial_weights
from ltvr.runs.checkpoint import load_checkpoint, load_weights
from ltvr.runs.folder import Run
from ltvr.settings import SCHEMA
from ltvr.stages.build import prepare_through, stages_of

__all__ = [
    "Trained",
    "add_device",
    "add_inference",
    "features_of",
    "inference_of",
    "load_trained",
    "trained_features",
    "trained_parser",
    "weights_of",
    "weights_of_features",
]


class Trained(NamedTuple):
    """A network in eval mode, and the run that it is from."""

    network: Network
    config: Config
    run: Run
    classes: list[str]
    """The names of the classes."""
    device: torch.device

    def batches(
        self, split: Split, size: int | None = None
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield the images of a split as evaluation sees them, as ``Batches.evaluate`` does.

        Args:
            size: B; None for ``eval_batch_size``.
        """
        size = size or self.config.of(RunOptions).eval_batch_size
        return Batches(split, self.config, self.device).evaluate(size)

    def autocast(self) -> torch.autocast:
        """Context of the precision of the run, in which its network has been trained."""
        return autocast(self.config.of(RunOptions).amp, self.device)

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Outputs:
        """Logits and embeddings of images, float32 on the CPU, in the precision of the run.

        Args:
            images: [B, 3, S, S], normalised, on the device.
        """
        with self.autocast():
            logits, embeddings = self.network.outputs(images)
        return Outputs(logits.float().cpu(), embeddings.float().cpu())


def trained_parser(command: str, description: str, *, several: bool = False) -> Parser:
    """Return the parser of a command that reads a run, with the arguments that all of them have.

    Args:
        several: whether it takes more than one run; ``run`` is a list then.
    """
    p = Parser(prog=f"python -m ltvr.{command}", description=description)
    p.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        nargs="+" if several else None,
        help="run folder, or a checkpoint in it",
    )
    p.add_argument(
        "--fused",
        action=argparse.BooleanOptionalAction,
        help="AFA by the fused kernels of the device, or by the reference (as it was trained)",
    )
    return p


def add_device(p: Parser) -> None:
    """Add the argument ``--device``."""
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(auto)")


def add_inference(p: Parser) -> None:
    """Add the options of inference, of whichever component, which ``inference_of`` reads."""
    add_arguments(p, SCHEMA, inference=True)


def inference_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of inference that a command was given, by name."""
    return given(arguments, SCHEMA, inference=True)


def weights_of(path: Path) -> tuple[Run, Path]:
    """The run of a path, and the file of the weights that the path stands for.

    Args:
        path: a run folder (its ``final.pt``) or one of its checkpoints.

    Raises:
        UserError: no run, an unfinished one, or a checkpoint that it does not have.
    """
    run = Run.open(path)
    weights = run.final if path == run.folder else path
    if not weights.is_file() and run.summary.is_file() and not run.resumable:
        raise run.lacks(weights)
    if not weights.is_file():
        raise UserError(
            f"{run.folder} is not finished; go on with --resume, or name one of its .pt"
        )
    return run, weights


def trained_features(run: Run) -> Path:
    """The file of the weights that the stages which train features left in ``run``.

    Raises:
        UserError: it has no such stage.
    """
    stages = stages_of(run.config())
    trained = [name for name, stage in stages.items() if not stage.needs_trained]
    if not trained:
        raise UserError(f"{run.folder} trained no features; name the run that it started from")
    return run.weights(trained[-1])


def features_of(path: Path) -> tuple[Run, Path]:
    """The run of a path, and the file of the features that it stands for.

    Args:
        path: a run folder (the weights with which its features ended), or a checkpoint in it.

    Raises:
        UserError: no run, one that has not come so far, or a checkpoint that it does not have.
    """
    run = Run.open(path)
    weights = trained_features(run) if path == run.folder else path
    if not weights.is_file():
        raise run.lacks(weights)
    return run, weights


def weights_of_features(path: Path) -> tuple[Run, Path, str]:
    """The run of a path, the file of the features that it stands for, and their stage.

    Args:
        path: as of ``features_of``.

    Raises:
        UserError: as ``features_of``, or a checkpoint of a stage that trains no features.
    """
    run, weights = features_of(path)
    name: str = load_checkpoint(weights)["stage"]
    stage = stages_of(run.config()).get(name)  # load_trained refuses one that is not of the run
    if stage is not None and stage.needs_trained:
        raise UserError(
            f"{weights} is of the stage {name}, which has a classifier of its own already; name "
            "the checkpoint of the features that it started from"
        )
    return run, weights, name


def load_trained(
    path: Path,
    device: str = "auto",
    fused: bool | None = None,
    inference: Mapping[str, Any] | None = None,
) -> Trained:
    """Load the network of a run in eval mode.

    Args:
        path: a run folder (its ``final.pt``) or one of its checkpoints.
        device: ``auto``, ``cpu`` or ``cuda``.
        fused: AFA by the fused kernels of the device or by the reference; None: as the run.
        inference: options of inference by name, in place of the run's.

    Raises:
        UserError: no run, an unfinished one, weights that do not fit its configuration, options of
            inference that change nothing, or fused kernels that do not run here or that the
            network has no use for.
    """
    run, weights = weights_of(path)
    config, classes = run.config(), run.manifest()["classes"]
    if fused is not None:
        if fused and config.of(NetworkOptions).decomposition == "none":
            method = config.of(RunOptions).method
            raise UserError(f"method {method} has no AFA to run fused; drop --fused")
        config = config.replaced(fused=fused)
    if inference:
        config = _with_inference(config, inference, run)
    place = choose_device(device)
    network = build_network(
        without_initial_weights(config), len(classes), choose_backend(config, place)
    )
    state = load_checkpoint(weights)
    with torch.random.fork_rng(devices=[]):
        prepare_through(network, stages_of(config), state["stage"], config.of(RunOptions).seed)
    kind = CLASSIFIERS.get(config.of(NetworkOptions).classifier)
    if inference and not any(isinstance(part, kind) for part in network.classifier.modules()):
        raise UserError(
            f"{weights}: its stage, {state['stage']}, has a classifier of its own, for which "
            f"{flag(next(iter(inference)))} changes nothing; drop it, or name another checkpoint"
        )
    load_weights(network, state["model"], weights)
    network.to(place).to(memory_format=memory_format(config.of(RunOptions).channels_last))
    return Trained(network.eval(), config, run, classes, place)


def _with_inference(config: Config, inference: Mapping[str, Any], run: Run) -> Config:
    """The configuration of a run with other options of inference, all of which it reads."""
    try:
        changed = config.replaced(**inference)
        refuse_unused(changed, inference)
    except UserError as error:
        raise UserError(f"{run.folder}: {error}") from None
    return changed
