"""What a network takes the training images for, against one image at a time."""

import numpy as np
import torch
from conftest import tiny_config

from ltvr.data.batches import Batches
from ltvr.data.datasets import load_data
from ltvr.engine.confusions import confusions
from ltvr.networks.build import build_network


def test_mean_probabilities_of_each_class():
    torch.manual_seed(0)
    config = tiny_config(imbalance=100.0, eval_batch_size=50)
    data = load_data(config)
    batches = Batches(data.train, config, torch.device("cpu"))
    network = build_network(config, 10, "reference").train()
    network.classifier.eval()
    found = confusions(network, batches, 10)
    assert network.training and not network.classifier.training
    network.eval()
    rows = [[] for _ in range(10)]
    with torch.no_grad():
        for images, labels in batches.evaluate(1, range(len(data.train))):
            rows[int(labels[0])].append(network(images)[0].double().softmax(0))
    for k, own in enumerate(rows):
        expected = torch.stack(own).mean(0)
        np.testing.assert_allclose(found[k], expected, atol=1e-6)
