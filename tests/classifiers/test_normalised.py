"""Cosine, capsule and de-confound: logits, TDE and the moving feature by loops in float64."""

import math

import numpy as np
import pytest
import torch
from conftest import tiny_config
from torch._dynamo.testing import CompileCounter

from ltvr.afa.plan import IGNORED
from ltvr.classifiers import CLASSIFIERS
from ltvr.classifiers._normalised import Normalised
from ltvr.clock import Clock
from ltvr.data.targets import Targets
from ltvr.engine.trained import load_trained
from ltvr.errors import UserError
from ltvr.training import train

NAMES = ("cosine", "capsule", "de-confound")
TAU, GAMMA = 10.0, 0.25
HEADS = [(name, heads) for name in NAMES for heads in (1, 2, 4)]


def build(name, heads=1, embedding=8, classes=5, **shared):
    """A classifier of random weights, in float64."""
    torch.manual_seed(heads)
    kind, prefix = CLASSIFIERS.get(name), name.replace("-", "_")
    own = {f"{prefix}_scale": TAU, f"{prefix}_heads": heads}
    own |= {"de_confound_gamma": GAMMA} if name == "de-confound" else {}
    return kind(kind.options_type(**own, **shared), embedding, classes).double()


def norm(x):
    return math.sqrt(sum(value * value for value in x))


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def by_loops(name, classifier, embeddings, alpha=0.0):
    """Eq. 10 of Tang et al., and with ``alpha`` eq. 8, one class and head at a time."""
    heads = classifier.heads
    logits = np.zeros((len(embeddings), len(classifier.weight)))
    moving = np.split(classifier.moving_feature.numpy(), heads)
    for row, embedding in enumerate(embeddings.detach().numpy()):
        for k, weights in enumerate(classifier.weight.detach().numpy()):
            cut = (np.split(embedding, heads), np.split(weights, heads), moving)
            for x, w, m in zip(*cut, strict=True):
                direct = dot(x, w) / (norm(x) * norm(w))
                if alpha:
                    along = dot(x, m) / (norm(x) * norm(m))
                    direct -= alpha * along * dot(m, w) / (norm(m) * norm(w))
                if name == "capsule":
                    direct *= norm(x) / (1 + norm(x))
                if name == "de-confound":
                    direct *= norm(w) / (norm(w) + GAMMA)
                logits[row, k] += TAU / heads * direct
    return logits


@pytest.mark.parametrize(("name", "heads"), HEADS)
def test_logits_and_tde_are_those_of_the_paper(name, heads):
    classifier = build(name, heads)
    x = torch.randn(6, 8, dtype=torch.float64)
    classifier.moving_feature.copy_(torch.randn(8))
    np.testing.assert_allclose(classifier(x).detach(), by_loops(name, classifier, x), rtol=1e-12)
    for alpha in (0.5, 3.0):
        got = classifier.tde_logits(x, alpha).detach()
        np.testing.assert_allclose(got, by_loops(name, classifier, x, alpha), rtol=1e-11)
    assert torch.equal(classifier.tde_logits(x, 0.0), classifier(x))
    assert torch.autograd.gradcheck(classifier, x.requires_grad_())


@pytest.mark.parametrize("name", NAMES)
def test_tde_is_of_evaluation_alone_and_takes_a_direction(name):
    plain, tde = build(name, 2), build(name, 2, tde=True, tde_alpha=1.5)
    x, moving = torch.randn(6, 8), torch.randn(8)
    for classifier in (plain, tde):
        classifier.float().moving_feature.copy_(moving)
    assert torch.equal(tde.train()(x), plain(x))
    assert torch.equal(tde.eval()(x), plain.tde_logits(x, 1.5))
    assert torch.equal(plain.eval()(x), plain.train()(x))
    found = tde(x)
    tde.moving_feature.mul_(37.0)
    torch.testing.assert_close(tde(x), found)
    tde.moving_feature.zero_()  # no batch has been seen: nothing is taken away
    assert torch.equal(tde(x), plain(x))


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_of_length_0_and_of_fp16_are_finite(name):
    classifier = build(name, 2).float()
    for size in (0.0, 1e-4, 1e-2, 3e4):
        x = torch.full((2, 8), size, dtype=torch.float16, requires_grad=True)
        logits = classifier(x)
        torch.testing.assert_close(logits, classifier(x.float()))
        assert logits.isfinite().all()
        if size >= 1e-2:  # towards 0 the gradient of a direction grows beyond all bounds
            logits.sum().backward()
            assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_start_draws_weights_within_the_bound_and_leaves_the_moving_feature(name):
    classifier = build(name, 2, embedding=16, classes=100)
    classifier.moving_feature.fill_(2)
    before = classifier.weight.detach().clone()
    classifier.reset_parameters()
    assert not (before == classifier.weight).any() and (classifier.moving_feature == 2).all()
    assert 0.24 < classifier.weight.abs().max() <= 0.25  # 1 / sqrt(16), whatever the heads


def test_an_embedding_is_cut_into_equal_parts():
    with pytest.raises(UserError, match="3 heads: an embedding of 8 values .* divides 8"):
        build("cosine", 3)


# ---- the moving feature ----


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_moving_feature_is_that_of_a_plain_loop(accumulate):
    classifier = build("capsule", 2, moving_feature_decay=0.7)
    random, expected = np.random.default_rng(0), np.zeros(8)
    for epoch in range(2):
        classifier.begin_epoch(
            Clock(0, "features", epochs=2, steps=4, epoch=epoch, accumulate=accumulate), 0.1
        )
        for _ in range(4):
            step = []
            for _ in range(accumulate):
                x = torch.from_numpy(random.normal(size=(7, 8)))  # 5 real rows, 2 generated
                labels = torch.tensor([0, 1, 2, 3, 4, 0, IGNORED])
                classifier.observe(x, Targets(labels), 5)
                step.append(x[:5].numpy())
            expected = 0.7 * expected + np.concatenate(step).mean(0)
    np.testing.assert_allclose(classifier.moving_feature, expected, rtol=1e-6)
    assert set(classifier.state_dict()) == {"weight", "moving_feature"}


def test_real_rows_that_are_ignored_do_not_move_it():
    classifier = build("cosine", moving_feature_decay=0.9)
    x = torch.randn(3, 8, dtype=torch.float64)
    classifier.observe(x, Targets(torch.tensor([2, IGNORED, 0])), 3)
    torch.testing.assert_close(classifier.moving_feature, (x[0] + x[2]) / 2)
    kept = classifier.moving_feature.clone()
    classifier.observe(x, Targets(torch.full((3,), IGNORED)), 3)
    torch.testing.assert_close(classifier.moving_feature, 0.9 * kept)


@pytest.mark.parametrize(("lr", "mu"), [(0.2, 0.9), (0.02, 0.9), (0.002, 0.99), (0.0, 1.0)])
def test_it_moves_less_at_a_low_learning_rate(lr, mu):
    classifier = build("de-confound", 2)
    classifier.begin_epoch(Clock(0, "features", epochs=1, steps=2), lr)
    x = torch.randn(2, 8, dtype=torch.float64)
    for row in x:
        classifier.observe(row[None], Targets(torch.tensor([0])), 1)
    torch.testing.assert_close(classifier.moving_feature, mu * x[0] + x[1], rtol=1e-6, atol=1e-6)


def test_without_a_moving_feature_there_is_no_tde():
    classifier = build("cosine", moving_feature=False)
    classifier.observe(torch.ones(1, 8), Targets(torch.tensor([0])), 1)
    assert set(classifier.state_dict()) == {"weight"}
    with pytest.raises(UserError, match="no moving feature was kept"):
        classifier.tde_logits(torch.ones(1, 8), 1.0)
    with pytest.raises(UserError, match="tde = true: no moving feature is kept"):
        tiny_config(method="cosine-tde", moving_feature=False)


def test_a_compiled_step_is_compiled_once_for_all_epochs():
    compiled, plain = build("cosine", 2), build("cosine", 2)
    counter, targets = CompileCounter(), Targets(torch.tensor([0, 1]))
    observe = torch.compile(compiled.observe, backend=counter, fullgraph=True)
    for lr in (0.2, 0.01, 0.001, 0.0001):
        clock = Clock(0, "features", epochs=4, steps=1, accumulate=2)
        compiled.begin_epoch(clock, lr)
        plain.begin_epoch(clock, lr)
        for x in torch.randn(2, 2, 8, dtype=torch.float64):
            observe(x, targets, 2)
            plain.observe(x, targets, 2)
    torch.testing.assert_close(compiled.moving_feature, plain.moving_feature)
    assert counter.frame_count == 1


def test_a_run_keeps_what_its_steps_gave(tmp_path, monkeypatch, no_report):
    """Through both stages: the rate of each epoch by hand, the embeddings as they were seen."""
    seen, observe = [], Normalised.observe

    def noted(classifier, embeddings, targets, real):
        seen.append(embeddings[:real].double().mean(0))
        observe(classifier, embeddings, targets, real)

    monkeypatch.setattr(Normalised, "observe", noted)
    config = tiny_config(
        method="de-confound-tde",
        accumulate=2,
        lr=0.016,
        lr_batch=64,
        crt_lr=0.01,
        warmup_epochs=0.0,
    )
    train(config, tmp_path / "run")
    assert len(seen) == 36  # 6 steps in each of 3 epochs, of 2 micro-batches
    expected = torch.zeros_like(seen[0])
    for step, mean in enumerate((seen[i] + seen[i + 1]) / 2 for i in range(0, 36, 2)):
        mu = (0.92, 0.96, 0.95)[step // 6]  # half of a cosine is done after one of two epochs
        expected = mu * expected + mean
        for name, last in (("features", 11), ("crt", 17)):
            if step == last:
                network = load_trained(tmp_path / "run" / f"{name}.pt").network
                kept = network.classifier.moving_feature
                torch.testing.assert_close(kept.double(), expected, rtol=1e-5, atol=1e-5)
