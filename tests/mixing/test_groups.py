"""Mixing in groups: a rank or a micro-batch mixes its part of what one process would mix."""

import numpy as np
import pytest
import torch

from ltvr.data.targets import Targets
from ltvr.mixing.cmo import CMO, CMOOptions
from ltvr.mixing.cutmix import Cutmix, CutmixOptions
from ltvr.mixing.manifold_mixup import ManifoldMixup, ManifoldMixupOptions
from ltvr.mixing.mixup import Mixup, MixupOptions
from ltvr.mixing.remix import Remix, RemixOptions

ROWS, GROUPS, SIZE = 22, 4, 6  # two groups of 6, two of 5
COUNTS = np.array([90, 30, 31, 10])


@pytest.mark.parametrize(
    "mixing",
    [
        Mixup(MixupOptions()),
        Remix(RemixOptions()),
        Cutmix(CutmixOptions(cutmix_probability=1.0)),
        CMO(CMOOptions(cmo_probability=1.0)),
        ManifoldMixup(ManifoldMixupOptions()),
    ],
    ids=lambda mixing: type(mixing).__name__,
)
@pytest.mark.parametrize("parts", [2, 4])
def test_parts_are_mixed_as_the_whole(mixing, parts):
    rows = ROWS - ROWS % parts
    number = rows if mixing.partners is None else 2 * rows
    images = torch.randn(number, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    targets = Targets(torch.arange(number) % 4)
    for seed in range(5):
        whole = mixing.draw(targets, COUNTS, SIZE, np.random.default_rng(seed), GROUPS)
        mixed = whole.images(images)
        blend = whole.blend(images.device)
        if mixing.partners is None:
            assert (whole.partner % GROUPS == torch.arange(rows) % GROUPS).all()
            assert sorted(whole.partner.tolist()) == list(range(rows))
        for part in range(parts):
            own = whole.part(part, parts)
            torch.testing.assert_close(own.images(images[part::parts]), mixed[part::parts])
            assert own.targets.labels.tolist() == whole.targets.labels[part::parts].tolist()
            assert torch.equal(own.targets.share, whole.targets.share[part::parts])
            if blend is not None:
                maps = own.blend(images.device).mix(images[part::parts])
                torch.testing.assert_close(maps, blend.mix(images)[part::parts])
