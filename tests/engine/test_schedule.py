"""The learning rate's first and last steps."""

import pytest

from ltvr.engine.schedule import cosine


def test_cosine_wastes_no_step():
    assert cosine(0, 10) == 1 and 0 < cosine(9, 10) < 0.03
    assert cosine(5, 10) == pytest.approx(0.5)
    warm = [cosine(step, 10, warmup=4) for step in range(10)]
    assert warm[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert 0 < warm[9] < warm[8] < warm[5] < 1
