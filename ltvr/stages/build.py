"""The stages that a configuration describes."""

from __future__ import annotations

from ltvr.clock import stream
from ltvr.config.config import Config
from ltvr.errors import UserError, brief
from ltvr.networks.network import Network
from ltvr.stages import STAGES
from ltvr.stages.base import Stage
from ltvr.stages.options import TrainingOptions

__all__ = ["prepare_through", "stages_of"]


def stages_of(config: Config) -> dict[str, Stage]:
    """The stages of a configuration by name, in order."""
    return {name: STAGES.get(name)(config) for name in config.of(TrainingOptions).stages}


def prepare_through(network: Network, stages: dict[str, Stage], name: str, seed: int) -> None:
    """Prepare ``network`` for stage ``name`` as if every stage before had run.

    A stage may have replaced a part of the network; weights of stage ``name`` fit only after that.

    Raises:
        UserError: there is no stage of this name.
    """
    if name not in stages:
        raise UserError(
            f"a checkpoint of the stage {brief(name)}: this run has {', '.join(stages)}; take that "
            "of this run"
        )
    for each, stage in stages.items():
        stage.prepare(network, stream(seed, each))
        if each == name:
            return
