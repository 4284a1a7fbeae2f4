"""The trainer against a plain loop that shares none of its code, and that it learns."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from conftest import tiny_config
from torch import nn

from ltvr import LTVR, plan_synthesis
from ltvr.backbones.build import build_backbone
from ltvr.data.datasets import load_data
from ltvr.engine.trained import load_trained
from ltvr.samplers.class_aware import ClassAware, ClassAwareOptions
from ltvr.training import train

BATCH, LR, LAMBDA, SEED = 64, 0.2 * 64 / 512, 1.5, 3


def plain_loop(data):
    """Both stages by hand: SGD, cosine, the lay-back schedule, cRT. Weights after each stage."""
    images = (data.train.images.float() - 0.3 * 255) / (0.35 * 255)  # the preset's normalisation
    labels = torch.from_numpy(data.train.labels)
    torch.manual_seed(SEED)
    backbone = build_backbone("resnext14_8x4d_slim", "stride2")
    options = {"mask_mean": 0.5, "value_scale": 2.0, "attention_scale": 0.1}
    network = LTVR(backbone, 10, image_size=16, backend="reference", **options).train()
    states, steps = [], len(labels) // BATCH
    for stage, epochs in ((1, 2), (2, 1)):
        seed = int(np.random.SeedSequence((SEED, stage)).generate_state(1, np.uint64)[0]) >> 1
        trained = list(network.parameters())
        if stage == 2:
            torch.manual_seed(seed)
            network.classifier.load_state_dict(nn.Linear(512, 10).state_dict())
            trained = list(network.classifier.parameters())
        sgd = torch.optim.SGD(trained, lr=LR, momentum=0.9, weight_decay=5e-4)
        for step in range(epochs * steps):
            epoch = step // steps
            order = np.random.default_rng([seed, epoch]).permutation(len(labels))
            if stage == 2:
                order = ClassAware(ClassAwareOptions()).epoch(
                    labels, seed=seed, epoch=epoch, epochs=epochs
                )
            batch = torch.from_numpy(order[step % steps * BATCH :][:BATCH])
            if stage == 1 and epoch == 1:
                plan = plan_synthesis(labels[batch], gamma=0.5, seed=SEED, step=step, groups=2)
                logits = network.outputs(images[batch], plan).logits
                everything = torch.cat([labels[batch], plan.labels])
                rows = F.cross_entropy(logits, everything, reduction="none")
                loss = rows[:BATCH].sum() / BATCH + LAMBDA * (rows.sum() / len(rows))
            else:
                loss = F.cross_entropy(network(images[batch]), labels[batch])
            sgd.param_groups[0]["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / (epochs * steps)))
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        states.append({name: value.clone() for name, value in network.state_dict().items()})
    return states


def test_a_plain_loop_gives_the_same_weights(tmp_path):
    config = tiny_config(
        augmentation="none",
        gamma=0.5,
        loss_weight=LAMBDA,
        warmup_epochs=0.0,
        seed=SEED,
        channels_last=False,
    )
    train(config, tmp_path / "run")
    for name, expected in zip(("features", "crt"), plain_loop(load_data(config)), strict=True):
        got = load_trained(tmp_path / "run" / f"{name}.pt", "cpu").network.state_dict()
        for part, weights in expected.items():
            torch.testing.assert_close(got[part], weights, rtol=1e-4, atol=1e-5, msg=part)


def test_training_learns_the_digits(tmp_path):
    """A tenth of the preset's steps, and far from chance (10 %) in both stages."""
    config = tiny_config(epochs=6, batch_size=16, crt_epochs=2, lr=0.8, lay_back_start=0.66)
    metrics = train(config, tmp_path / "run")["metrics"]
    assert metrics["features"]["all"] > 60 and metrics["crt"]["all"] > 70
