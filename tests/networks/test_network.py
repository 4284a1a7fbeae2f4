"""The network: where the decomposition sits, and what comes after it."""

import pytest
import torch
import torch.nn.functional as F

from ltvr import LTVR, plan_synthesis
from ltvr.backbones.build import build_backbone


def small(insert_after="layer3", name="resnext14_8x4d_slim", **options):
    torch.manual_seed(0)
    return LTVR(build_backbone(name, "stride2"), 5, insert_after, image_size=32, **options)


def test_inference_is_backbone_with_enhanced_features():
    model, x = small().eval(), torch.randn(2, 3, 32, 32)
    assert model.decomposition.w_q.shape == (16, 16) and model.decomposition.channels == 256
    expected = model.classifier(model.embedder(model.decomposition(model.extractor(x))))
    torch.testing.assert_close(model(x), expected)


def test_baseline_is_torchvisions_own_network():
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", "cifar").eval()
    x = torch.randn(2, 3, 32, 32)
    backbone.fc = torch.nn.Linear(512, 5)
    expected = backbone(x)
    model = LTVR(backbone, 5, None, image_size=32).eval()
    model.classifier.load_state_dict(backbone.fc.state_dict())
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("insert_after", ["layer1", "layer2", "layer3", "layer4"])
def test_any_stage_trains_real_and_generated_rows(insert_after):
    model, labels = small(insert_after), torch.tensor([0, 0, 1, 4])
    plan = plan_synthesis(labels, seed=0, step=0)
    logits, all_labels = model.forward_augmented(torch.randn(4, 3, 32, 32), labels, plan)
    assert logits.shape == (4 + plan.generated, 5)
    assert all_labels.tolist() == labels.tolist() + plan.labels.tolist()
    F.cross_entropy(logits, all_labels).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_errors_name_the_value():
    with pytest.raises(ValueError, match="built for 32x32"):
        small()(torch.zeros(1, 3, 40, 40))
    with pytest.raises(ValueError, match="insert_after = 'layer9'"):
        small("layer9")
    with pytest.raises(ValueError, match="no decomposition"):
        small(None).masks(torch.zeros(1, 3, 32, 32))
