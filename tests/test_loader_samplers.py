"""Samplers alone, with a DataLoader: the same steps whatever the number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ltvr import loader_samplers
from ltvr.samplers.class_aware import ClassAware, ClassAwareOptions

LABELS = np.repeat(np.arange(5), [40, 20, 10, 5, 2])
KINDS = [
    getattr(loader_samplers, name) for name in loader_samplers.__all__ if name != "EpochSampler"
]


def of(kind, **options):
    needed = {"epochs": 3} if kind is loader_samplers.ProgressiveSampler else {}
    return kind(LABELS, **needed, **options)


def steps(kind, number, images, epoch):
    """The samples of each step: of all ranks, ``images`` in all."""
    loaders = []
    for rank in range(number):
        sampler = of(kind, rank=rank, world_size=number, seed=7)
        sampler.set_epoch(epoch)
        loaders.append(DataLoader(range(len(LABELS)), images // number, sampler=sampler))
        assert sum(map(len, loaders[-1])) == len(sampler)
    whole = len(LABELS) // images
    taken = [list(loader)[:whole] for loader in loaders]
    return [sorted(np.concatenate(step).tolist()) for step in zip(*taken, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epoch", [0, 2])
def test_steps_are_the_same_on_any_number_of_ranks(kind, epoch):
    alone = steps(kind, 1, 8, epoch)
    assert len(alone) == 9
    for number in (2, 4, 8):
        assert steps(kind, number, 8, epoch) == alone
    assert steps(kind, 1, 8, 1) != alone


@given(number=st.integers(1, 9), seed=st.integers(0, 2**40))
def test_ranks_share_the_order_evenly(number, seed):
    order = ClassAware(ClassAwareOptions()).epoch(LABELS, seed=seed, epoch=0, epochs=1)
    shares = [
        list(loader_samplers.ClassAwareSampler(LABELS, seed=seed, rank=rank, world_size=number))
        for rank in range(number)
    ]
    assert {len(share) for share in shares} == {len(LABELS) // number}
    assert (
        np.stack(shares, 1).reshape(-1).tolist() == order[: len(LABELS) // number * number].tolist()
    )


def test_what_cannot_be_sampled_is_refused():
    for options, words in (
        ({"rank": 2, "world_size": 2}, "rank = 2: expected 0 to 1"),
        ({"rank": 0}, "give both"),
        ({"rank": 0, "world_size": 99}, "77 samples for 99 ranks"),
        ({"seed": -1}, "seed = -1"),
        ({"draw": "sometimes"}, "class_aware_draw = 'sometimes'"),
    ):
        with pytest.raises(ValueError, match=words):
            loader_samplers.ClassAwareSampler(LABELS, **options)
    with pytest.raises(ValueError, match="labels: found -1; leave out"):
        loader_samplers.ClassAwareSampler([-1, 0, 0, 2])
    for labels in ([0.5, 1.0], [], [[1, 2]], "ab"):
        with pytest.raises(TypeError, match="labels = .*expected one class"):
            loader_samplers.InstanceSampler(labels)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (("WORLD_SIZE", "2"), ("TORCHELASTIC_RUN_ID", "x")):
            patched.setenv(name, value)
        with pytest.raises(RuntimeError, match="after init_process_group"):
            loader_samplers.ClassAwareSampler(LABELS)
