"""The constants of every method, typed from its publication or its authors' code."""

import pytest

from ltvr.clock import Clock
from ltvr.engine.schedule import learning_rate
from ltvr.settings import load_config, methods
from ltvr.stages.build import stages_of

COSINE = {"cosine_scale": 16, "cosine_heads": 1}
CAPSULE = {"capsule_scale": 16, "capsule_heads": 1}
DE_CONFOUND = {"de_confound_scale": 16, "de_confound_heads": 2, "de_confound_gamma": 1 / 32}
TDE, WITHOUT = {"moving_feature": True, "tde": True}, {"moving_feature": True, "tde": False}
EFFECTIVE = {"weighting": "effective-number", "effective_number_beta": 0.9999}
DRW = {**EFFECTIVE, "weighting_start": 0.8}
LDAM = {"loss": "ldam", "ldam_max_margin": 0.5, "ldam_scale": 30, "cosine_scale": 30}
OLTR = {
    "oltr_lr": 0.1,
    "oltr_backbone_factor": 0.1,
    "oltr_centroids_factor": 0.1,
    "oltr_centroids_weight": 0.01,
    "oltr_repel_weight": 0.01,
    "oltr_margin": 10,
    "embedding_layer": 512,
}
OURS = {"mask_mean": 0.5, "value_scale": 2, "attention_scale": 0.1}
LETTER = {
    "mask_mean": None,
    "initialisation": "identity",
    "value_scale": 1,
    "attention_scale": 1,
    "gamma": 1,
    "alpha": 4,
    "lay_back_start": 1 / 3,
    "loss_weight": 2,
    "features_batchnorm": "running",
}

PUBLISHED = {
    "balanced-softmax": {"loss": "balanced-softmax"},
    "baseline": {"loss": "cross-entropy", "sampler": "instance", "mixing": "none"},
    "capsule": {**CAPSULE, **WITHOUT},
    "capsule-tde": {**CAPSULE, **TDE},
    "cbam": {"decomposition": "cbam", "cbam_reduction": 16},
    "cdt": {"loss": "cdt", "cdt_gamma": 0.2},
    "ce-drs": {"deferred_sampler": "class-aware", "deferred_sampler_start": 0.8},
    "ce-drw": {"loss": "cross-entropy", **DRW, "weighting_normalise": "weights"},
    "class-balanced": {**EFFECTIVE, "weighting_start": 0, "weighting_normalise": "weights"},
    "class-balanced-focal": {"focal_sigmoid_gamma": 1, **EFFECTIVE, "weighting_start": 0},
    "cmo": {
        "cmo_alpha": 1,
        "cmo_probability": 0.5,
        "cmo_exponent": 1,
        "cmo_plain_first": 4,
        "cmo_plain_last": 3,
    },
    "cosine": {**COSINE, **WITHOUT},
    "cosine-tde": {**COSINE, **TDE},
    "cutmix": {"cutmix_alpha": 1},
    "de-confound": {**DE_CONFOUND, **WITHOUT},
    "de-confound-tde": {**DE_CONFOUND, **TDE},
    "decouple-oltr": {**OLTR, "oltr_backbone": "frozen"},
    "focal": {"focal_gamma": 2, "focal_detach": False},
    "focal-detached": {"focal_gamma": 2, "focal_detach": True},
    "focal-ldam": {"focal_ldam_gamma": 1, **DRW},
    "focal-sigmoid": {"focal_sigmoid_gamma": 2, "focal_sigmoid_prior": True},
    "gc": {"decomposition": "gc", "gc_reduction": 16},
    "gc-add": {"decomposition": "gc-add", "gc_reduction": 16},
    "ldam": {**LDAM, "weighting": "none"},
    "ldam-drw": {**LDAM, **DRW, "weighting_normalise": "weights"},
    "logit-adjustment": {"logit_adjustment_tau": 1},
    "ltvr": {**OURS, "attention_addition": True},
    "ltvr-letter": LETTER,
    "ltvr-no-attention-addition": {**OURS, "value_scale": 1, "attention_addition": False},
    "ltvr-no-generation": {**OURS, "gamma": 0},
    "ltvr-no-lay-back": {**OURS, "lay_back_start": 0},
    "lws": {"lws_epochs": 5, "lws_sampler": "class-aware"},
    "manifold-mixup": {"manifold_mixup_alpha": 1, "manifold_mixup_stages": 2},
    "mislas": {"mislas_epochs": 10, "mislas_sampler": "class-aware", "mislas_lr": 0.1},
    "mixup": {"mixing": "mixup", "mixup_alpha": 1},
    "oltr": {**OLTR, "oltr_backbone": "tuned"},
    "remix": {"remix_alpha": 1, "remix_k": 3, "remix_t": 0.5},
}


@pytest.mark.parametrize("method", methods())
def test_a_method_has_its_published_constants(method):
    found = load_config("cifar10-ir100-resnet32", method).effective()
    expected = PUBLISHED[method]
    assert {name: found.get(name) for name in expected} == expected


def test_what_of_a_method_depends_on_the_data_set_is_the_presets():
    """The published values: of mixup Zhong et al. (CVPR 2021), of CutMix Yun et al. (ICCV 2019)."""
    expected = {
        ("mixup", "mixup_alpha"): (1.0, 1.0, 0.2),
        ("mislas", "mixup_alpha"): (1.0, 1.0, 0.2),
        ("mislas", "mislas_classifier_factor"): (0.5, 0.2, 0.05),
        ("mislas", "smoothing_head"): (0.3, 0.4, 0.3),
        ("mislas", "smoothing_tail"): (0.0, 0.1, 0.0),
        ("cutmix", "cutmix_probability"): (0.5, 0.5, 1.0),
        ("de-confound-tde", "tde_alpha"): (1.0, 1.5, 3.0),
        ("de-confound-tde", "moving_feature_decay"): (0.9, 0.9, None),
    }
    for (method, name), values in expected.items():
        presets = ("cifar10-ir100", "cifar100-ir100", "imagenet-lt")
        found = [load_config(preset, method).effective()[name] for preset in presets]
        assert found == list(values), (method, name)


@pytest.mark.parametrize("network", ["", "-cpu", "-resnet32", "-bbn-resnet32"])
@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_second_stages_have_their_published_rates_on_every_cifar(data, network):
    """MiSLAS's and OLTR's 0.1 for 128 images, whatever batch a preset's rates are for."""
    factor, tail, norm = {"cifar10": (0.5, 0.0, "eval"), "cifar100": (0.2, 0.1, "train")}[data]
    mislas = load_config(f"{data}-ir100{network}", "mislas").effective()
    oltr = load_config(f"{data}-ir100{network}", "oltr").effective()
    assert mislas["mislas_lr"] * 128 / mislas["lr_batch"] == pytest.approx(0.1)
    assert oltr["oltr_lr"] * 128 / oltr["lr_batch"] == pytest.approx(0.1)
    assert (mislas["mislas_classifier_factor"], mislas["smoothing_tail"]) == (factor, tail)
    assert mislas["mislas_batchnorm"] == norm


@pytest.mark.parametrize("preset", ["cifar10-ir100-resnet32", "cifar100-ir100-resnet32"])
def test_second_stages_take_the_rate_of_the_recipe(preset):
    """LDAM's 0.1 for 128 images, in every second stage of which none is published for CIFAR."""
    found = load_config(preset, "ltvr", {"batch_size": 128}).flat()
    rates = [found[f"{stage}_lr"] for stage in ("crt", "lws", "generative")]
    assert (found["lr_batch"], rates) == (128, [0.1] * 3)


def test_the_rate_of_oltr_falls_as_in_its_code():
    """0.1 for 128 images a step (0.4 for 512), a tenth from epoch 20 and again from 40, of 60."""
    config = load_config("imagenet-lt", "oltr", {"batch_size": 512})
    stage = stages_of(config)["oltr"]
    assert stage.epochs == 60
    at = [Clock(0, "oltr", 60, 7, epoch=e) for e in (0, 19, 20, 39, 40, 59)]
    found = [learning_rate(stage, clock) for clock in at]
    assert found == pytest.approx([0.4, 0.4, 0.04, 0.04, 0.004, 0.004])
