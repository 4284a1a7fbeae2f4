"""What a run costs: the few epochs that are timed have all that it is to have."""

import pytest

from ltvr.jobs.costs import _shortened
from ltvr.settings import load_config
from ltvr.stages.features import FeaturesOptions, first_generating_epoch


@pytest.mark.parametrize(
    ("method", "options", "epochs"),
    [
        ("baseline", {}, 5),
        ("baseline", {"epochs": 3}, 3),
        ("baseline", {"epochs": 0}, 0),
        ("cmo", {}, 10),
        ("cmo", {"epochs": 8}, 8),
        ("ltvr", {"lay_back_start": 0.95}, 20),
        ("ce-drw", {"weighting_start": 0.95}, 20),
        ("ce-drs", {"deferred_sampler_start": 0.98}, 30),
    ],
)
def test_as_few_epochs_as_everything_begins_in(method, options, epochs):
    config = load_config("digits", method, options)
    assert _shortened(config).of(FeaturesOptions).epochs == epochs
    if method == "ltvr":
        assert 0 < first_generating_epoch(_shortened(config)) < epochs
