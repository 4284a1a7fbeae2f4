"""The optimizer of a stage: groups of parameters, each at its own share of the learning rate."""

from pathlib import Path

import pytest
import torch
from conftest import tiny_config
from torch import nn

from ltvr.clock import Clock
from ltvr.engine.state import StageState
from ltvr.engine.step import Step
from ltvr.engine.totals import EpochTotals
from ltvr.errors import UserError
from ltvr.runs.checkpoint import Foreign
from ltvr.stages.base import ParameterGroup
from ltvr.stages.features import Features

RATES = (0.5, 0.25, 0.125)


class TwoRates(Features):
    """Weights at the rate of the stage, biases at a tenth; and a group without parameters."""

    def parameter_groups(self, network, loss):
        return [
            ParameterGroup([network.weight]),
            ParameterGroup([], 7.0),
            ParameterGroup([network.bias], 0.1),
        ]


def state_of(kind, **changes):
    torch.manual_seed(0)
    config = tiny_config(method="baseline", momentum=0.9, weight_decay=0.01, **changes)
    step = Step(nn.Linear(3, 2), nn.Identity())
    return StageState(step, kind(config), config, Clock(0, "features", 2, 3), 2)


def train(state, rates=RATES):
    """Steps on a loss whose gradient is the weights themselves."""
    for lr in rates:
        sum((p**2).sum() / 2 for p in state.step.network.parameters()).backward()
        state.update(lr)


def by_hand(start, factor=1.0, nesterov=False):
    """SGD with momentum 0.9 and weight decay 0.01, in float64."""
    p, moved = start.double(), torch.zeros_like(start, dtype=torch.float64)
    for lr in RATES:
        gradient = p + 0.01 * p
        moved = 0.9 * moved + gradient
        p = p - factor * lr * (gradient + 0.9 * moved if nesterov else moved)
    return p.float()


@pytest.mark.parametrize(("kind", "factor"), [(Features, 1.0), (TwoRates, 0.1)])
def test_every_group_is_updated_at_its_share_of_the_learning_rate(kind, factor):
    state = state_of(kind)
    network = state.step.network
    weight, bias = (p.detach().clone() for p in network.parameters())
    train(state)
    torch.testing.assert_close(network.weight, nn.Parameter(by_hand(weight)))
    torch.testing.assert_close(network.bias, nn.Parameter(by_hand(bias, factor)))


def test_the_momentum_may_be_nesterovs():
    state = state_of(Features, nesterov=True)
    weight = state.step.network.weight.detach().clone()
    train(state)
    expected = by_hand(weight, nesterov=True)
    torch.testing.assert_close(state.step.network.weight, nn.Parameter(expected))
    assert not torch.allclose(by_hand(weight), expected, rtol=1e-3)
    with pytest.raises(UserError, match="nesterov: there is no momentum"):
        tiny_config(nesterov=True, momentum=0.0)


@pytest.mark.parametrize("kind", [Features, TwoRates])
def test_a_resumed_optimizer_goes_on_to_the_bit_at_the_same_rates(kind):
    whole, first = state_of(kind), state_of(kind)
    train(whole)
    train(first, RATES[:1])
    resumed = state_of(kind)
    resumed.load_state_dict(first.state_dict(), Path("last.pt"))
    train(resumed, RATES[1:])
    for there, here in zip(
        whole.step.network.parameters(), resumed.step.network.parameters(), strict=True
    ):
        assert torch.equal(there, here)


def test_one_group_is_kept_as_it_always_was():
    state = state_of(Features)
    plain = torch.optim.SGD(state.step.network.parameters(), 0.1, 0.9, weight_decay=0.01)
    (group,) = state.state_dict()["optimizer"]["param_groups"]
    assert group.keys() == plain.state_dict()["param_groups"][0].keys()
    assert group["params"] == [0, 1]


def test_the_optimizer_of_other_groups_is_refused():
    with pytest.raises(Foreign, match=r"last.pt: optimizer is not of this run"):
        state_of(TwoRates).load_state_dict(state_of(Features).state_dict(), Path("last.pt"))


def test_the_seconds_of_an_epoch_are_those_before_a_stop_too():
    totals = EpochTotals(torch.device("cpu"), 3)
    assert totals.state_dict()["seconds"] == 0  # it has not begun
    totals.load_state_dict(totals.state_dict() | {"seconds": 5.0})
    assert totals.seconds == 5
    totals.begin()
    assert 5 < totals.seconds < 6
