"""The cosine classifier against its formula, and that it starts afresh."""

import numpy as np
import torch

from ltvr.classifiers.cosine import Cosine, CosineOptions


def test_logits_are_scaled_cosines():
    torch.manual_seed(0)
    classifier = Cosine(CosineOptions(cosine_scale=10.0), embedding_dim=7, num_classes=4).double()
    x = torch.randn(5, 7, dtype=torch.float64)
    a, w = x.numpy(), classifier.weight.detach().numpy()
    cosines = a @ w.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(w, axis=1))
    np.testing.assert_allclose(classifier(x).detach(), 10 * cosines, rtol=1e-12)
    longer = classifier(x * torch.tensor([[1.0], [3.0], [0.1], [9.0], [2.0]]))
    torch.testing.assert_close(longer, classifier(x))
    assert torch.autograd.gradcheck(classifier, x.requires_grad_())


def test_lengths_that_fp16_cannot_hold_are_taken_in_float32():
    classifier = Cosine(CosineOptions(), embedding_dim=8, num_classes=3)
    for size in (0.0, 1e-4, 1e-2, 3e4):
        x = torch.full((2, 8), size, dtype=torch.float16, requires_grad=True)
        logits = classifier(x)
        torch.testing.assert_close(logits, classifier(x.float()))
        assert logits.isfinite().all()
        if size >= 1e-2:  # towards 0 the gradient of a direction grows beyond all bounds
            logits.sum().backward()
            assert x.grad.isfinite().all()


def test_reset_draws_anew_within_the_bound():
    classifier = Cosine(CosineOptions(), embedding_dim=16, num_classes=100)
    before = classifier.weight.detach().clone()
    classifier.reset_parameters()
    assert not torch.equal(before, classifier.weight)
    assert 0.2 < classifier.weight.abs().max() <= 0.25  # 1 / sqrt(16)
