"""Bad input through the real commands: one line that says what to do, and never a lost run."""

import json
import shutil
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from conftest import config_of, tiny_config
from PIL import Image

import ltvr.evaluate
import ltvr.export
import ltvr.train
import ltvr.training
from ltvr.afa import ops
from ltvr.config.command_line import refuse_unused
from ltvr.data.images import Decoder
from ltvr.engine.trained import load_trained
from ltvr.errors import UserError
from ltvr.networks.build import choose_backend
from ltvr.settings import load_config, save_config


@pytest.fixture
def refused(command, tmp_path, monkeypatch):
    """Check that a command stops with one line on stderr that has all of ``words``."""
    monkeypatch.chdir(tmp_path)

    def check(module, arguments, *words):
        code, _, err = command(module, *arguments)
        assert (code, err.count("\n")) == (2, 1) and err.startswith("error: "), err
        assert not [word for word in words if word not in err], err

    return check


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--preset cifar11", ["'cifar11'", "expected one of", "digits"]),
        ("--gama 3", ["--gama", "did you mean --gamma?"]),
        ("--mixup", ["--mixup", "did you mean --mixing mixup?"]),
        ("--decomposition affa", ["--decomposition", "'affa'", "did you mean afa?"]),
        ("--method lvtr", ["'lvtr'", "did you mean ltvr or oltr?"]),
        ("--method LDAM-DRW", ["'LDAM-DRW'", "did you mean ldam-drw?"]),
        ("--method mine.yaml", ["'mine.yaml': there is no such file"]),
        ("--epochs many", ["--epochs", "'many'", "see --help"]),
        ("--mask-mean 1,5", ["--mask-mean", "'1,5': expected a number, or none"]),
        ("--fused=yes", ["--fused/--no-fused", "'yes'", "see --help"]),
        ("--method afa", ["'afa'", "baseline, ", "cosine, "]),
        ("--batch-size 0", ["batch_size = 0", "at least 1"]),
        ("--batch-size 30 --accumulate 4", ["batch_size = 30", "multiple of accumulate = 4"]),
        ("--batch-size 5000", ["batch_size = 5000", "only 444 training images", "lower it"]),
        ("--seed -1", ["seed = -1", "at least 0"]),
        ("--alpha inf", ["alpha = inf", "finite"]),
        ("--gamma 1e12", ["gamma = 1000000000000.0", "at most 100"]),
        ("--mask-mean nan", ["mask_mean = nan", "finite"]),
        ("--crt-epochs 0", ["crt_epochs = 0", "at least 1"]),
        ("--lay-back-start 0.99", ["lay_back_start = 0.99", "nothing is ever generated"]),
        ("--data-seed -1", ["data_seed = -1", "at least 0"]),
        ("--ema 1", ["ema = 1.0", "below 1"]),
        ("--std 1 1 0", ["std = 0.0", "above 0"]),
        ("--imbalance 1000", ["class '7' has no training image", "lower --imbalance"]),
        ("--augmentation imagenet", ["for images on disk", "crop-flip"]),
        ("--backbone resnet19", ["'resnet19'", "expected one of", "resnext50_32x4d", "timm:NAME"]),
        ("--backbone timm:resnet19", ["timm", "'resnet19'"]),
        ("--insert-after layer9", ["'layer9'", "layer3 (256 channels, 4x4)", "--image-size 16"]),
        ("--insert-after=", ["insert_after = ''", "layer3 (256 channels, 4x4)"]),
        ("--backbone vgg16", ["'vgg16'", "expected one of", "timm:NAME"]),
        ("--backbone timm:", ["timm has no ''"]),
        ("--backbone timm:../x --stem imagenet", ["timm has no '../x'"]),
        ("--backbone timm:resnet10t.none --stem imagenet", ["Invalid pretrained tag (none)"]),
        ("--backbone timm:test_convnext", ["stem = 'cifar'", "no single conv1", "--stem imagenet"]),
        (
            "--backbone timm:test_convnext --stem imagenet --image-size 64",
            ["'layer3'", "stages.0 (24 channels"],
        ),
        (
            "--backbone timm:test_vit --stem imagenet --image-size 64",
            ["no maps", "tokens: [17, 64] after"],
        ),
        (
            "--backbone timm:hrnet_w18_small --stem imagenet --image-size 64",
            ["no maps", "several tensors"],
        ),
        (
            "--backbone timm:pvt_v2_b0 --stem imagenet --image-size 64",
            ["cannot be cut in two", "and head_drop"],
        ),
        ("--image-size 4", ["the features of layer3 would be 1x1", "raise --image-size", "layer2"]),
        ("--image-size 10000", ["2500x2500 positions", "lower --image-size", "conv1x1"]),
        ("--image-size 99999999999999999999", ["image_size = 9", "up to 2147483647"]),
        ("--batch-size 1 --image-size 2 --method baseline", ["1 image a micro-batch", "1 value"]),
        (
            "--pretrained --backbone resnet18",
            ["pretrained: --stem cifar replaces the first layer", "--stem imagenet"],
        ),
        (
            "--pretrained --backbone resnet18 --stem imagenet --image-size 64",
            ["another normalisation", "--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225"],
        ),
        (
            "--pretrained --backbone timm:test_convnext --stem imagenet --insert-after stages.2 "
            "--image-size 64",
            ["another normalisation", "--mean 0.5 0.5 0.5 --std 0.5 0.5 0.5"],
        ),
        ("--pretrained --stem imagenet --image-size 32", ["no weights for 'resnext14_8x4d_slim'"]),
        ("--pretrained --weights x.pt", ["weights = 'x.pt'", "not both", "--no-pretrained"]),
        ("--weights x.pt", ["weights x.pt", "No such file", "name a file"]),
        ("--stages crt --from runs --weights x.pt", ["--from RUN has the weights", "drop"]),
        ("--weights .", ["that is a folder", "final.pt"]),
        ("--reduction 1000", ["reduction = 1000", "expected 1 to 256"]),
        ("--stages crt", ["--stages crt starts from trained features", "add --from RUN"]),
        ("--preset digits --from there", ["--from is for stages", "add --stages crt"]),
        ("--stages crt --from there", ["there is no run", "name a run folder"]),
        ("--stages crt crt", ["stages = crt crt", "each once"]),
        ("--method nothing", ["method 'nothing'", "baseline", "ltvr-letter", "or a file"]),
        ("--focal-gamma 2", ["--focal-gamma", "Focal loss", "does not use"]),
        ("--method baseline --gamma 2", ["--gamma is an option of", "does not use"]),
        ("--method mixup --mixup-alpha 0", ["mixup_alpha = 0.0", "above 0"]),
        ("--stages crt --from there.pt", ["there.pt is no run", "name a run folder"]),
        ("--resume there", ["there is no run", "name a run folder"]),
        ("--resume auto", ["no unfinished run in runs"]),
        ("--resume=", ["--resume ''", "name a run folder"]),
        ("--name ../../x", ["--name '../../x'", "one folder"]),
        ("--name=", ["--name ''", "one folder"]),
        (f"--name {300 * 'a'}", ["File name too long", "--name"]),
        ("--out /dev/null", ["/dev/null is in the way", "--out"]),
        ("--out /dev/null/a --dataset folder --root there", ["/dev/null is in the way", "--out"]),
        ("--time-limit soon", ["'soon'", "3:50:00"]),
        ("--save-every -1", ["'-1'", "minutes"]),
        ("--resume auto --lr 1", ["drop the other options"]),
        ("--resume auto --stages crt", ["drop the other options"]),
        ("--dataset folder", ["needs --root FOLDER"]),
        ("--dataset places-lt", ["needs --root FOLDER"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_command_line(arguments, words, refused):
    refused(ltvr.train, arguments.split(), *words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda(refused):
    refused(ltvr.train, ["--device", "cuda"], "no CUDA device", "--device cpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gama: 3", ["mine.yaml", "unknown field 'gama'", "did you mean gamma?"]),
        ("epochs: 1.5", ["epochs = 1.5", "a whole number"]),
        ("stages: 1", ["stages = 1", "a list of names"]),
        ("method: 3", ["method = 3", "text"]),
        ("data_seed: 4294967296", ["data_seed = 4294967296", "below"]),
        ("stages: [3]", ["stages = 3", "a name"]),
        ("loss: cross", ["loss = 'cross'", "cross-entropy, focal"]),
        ("mask_mean: high", ["mask_mean = 'high'", "a number"]),
        ("lr: fast", ["lr = 'fast'", "a number"]),
        ("mean: [a, b, c]", ["mean = 'a'", "a number"]),
        ("std: 0.2", ["std = 0.2", "a list of numbers"]),
        ("compile: 1", ["compile = 1", "true or false"]),
        ("stem: large", ["stem = 'large'", "imagenet, cifar, stride2"]),
        ("- a list", ["mine.yaml", "`option: value`"]),
        ("a: [", ["mine.yaml is not YAML"]),
        ("\0", ["mine.yaml is not YAML"]),
        ("lr: 1\nepochs: 3\nlr: 2", ["mine.yaml is not YAML", "lr is given twice", "line 3"]),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", ["mine.yaml", "in place of the alias"]),
        ("epochs: 1:30", ["epochs = '1:30'", "a whole number"]),
        ("lr: .nan", ["lr = '.nan'", "a number"]),
        ("epochs: !!int x", ["epochs = 'x'", "a whole number"]),
        ("compile: !!bool perhaps", ["mine.yaml is not YAML"]),
        ("lr: !!python/object:os.system {}", ["mine.yaml is not YAML", "python/object"]),
        ("lr: 2020-01-01", ["lr = datetime.date(2020, 1, 1)", "a number"]),
        ("[" * 5000, ["mine.yaml is nested too deep"]),
        ("# " + "x" * 100_000, ["mine.yaml is larger than 100000 bytes"]),
        ('root: "a\\0b"', ["root = 'a\\x00b'", "without a null character"]),
        ("3: 4", ["unknown field 3"]),
        ("false", ["mine.yaml", "`option: value`"]),
    ],
)
def test_yaml(text, words, refused, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    refused(ltvr.train, ["--preset", "mine.yaml"], *words)


def test_yaml_numbers_as_people_write_them(tmp_path):
    text = "weight_decay: 5e-4\nlr: 1\nmean: [0, 0.5, 1e-1]\nepochs: 010\nseed: 1_000\n"
    text = "\ufeff" + text.replace("\n", "\r\n")  # as editors on Windows write it
    (tmp_path / "mine.yaml").write_bytes(text.encode())
    found = load_config(str(tmp_path / "mine.yaml")).flat()
    assert (found["weight_decay"], found["lr"], found["mean"]) == (5e-4, 1.0, (0.0, 0.5, 0.1))
    assert (found["epochs"], found["seed"]) == (10, 1000)


def test_yaml_in_another_encoding(refused, tmp_path):
    for encoding in ("utf-16", "latin-1"):
        (tmp_path / "mine.yaml").write_bytes("root: Zürich".encode(encoding))
        refused(ltvr.train, ["--preset", "mine.yaml"], "mine.yaml is not UTF-8")


def test_weights_that_cannot_be_downloaded(refused, monkeypatch):
    def offline(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models.get_model", offline)
    normalised = "--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225"
    arguments = f"--backbone resnet18 --pretrained --stem imagenet {normalised}".split()
    refused(ltvr.train, arguments, "resnet18", "no network", "--no-pretrained")
    monkeypatch.setattr("torchvision.datasets.cifar.CIFAR10.download", offline)
    refused(ltvr.train, ["--dataset", "cifar10"], "cifar10 is not in data", "--dataset folder")


# ---- folders and lists ----


def spoil_image(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: spoil_image(f / "test/cat/2.png"), ["test/cat/2.png is corrupt", "replace it"]),
        (lambda f: (f / "train/dog/1.png").unlink(), ["train/dog has no image", "remove it"]),
        (lambda f: (f / "train/cow").mkdir(), ["train/cow has no image", "remove it"]),
        (lambda f: (f / "test/cow").mkdir(), ["test/cow is a class that", "do not have"]),
        (lambda f: shutil.rmtree(f / "test"), ["test is missing", "test/<class>/<image>"]),
        (lambda f: shutil.rmtree(f / "train/cat"), ["1 class folders", "at least 2"]),
        (lambda f: [p.unlink() for p in (f / "test").glob("*/*")], ["test has no images"]),
    ],
)
def test_folder(spoil, words, folder, refused):
    spoil(folder)
    arguments = ["--dataset", "folder", "--root", folder, "--imbalance", 1]
    refused(ltvr.train, arguments, *words)


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("train", "gone.png 0", ["gone.png is missing", "1 of 4", "--bad-images skip"]),
        ("train", "1.png -1", ["train.txt line 4", "label '-1'", "an integer >= 0"]),
        ("train", "1.png 1.0", ["train.txt line 4", "label '1.0'", "an integer >= 0"]),
        ("train", "1.png", ["train.txt line 4", "'1.png'", "expected `path label`"]),
        ("train", "1.png 2000000000000", ["label 2000000000000 is out of range"]),
        ("train", "1.png 3", ["class '2' has no training image"]),
        ("val", "1.png 2", ["val.txt: label 2 is out of range", "classes 0 to 1"]),
    ],
)
def test_list_files(name, line, words, refused, tmp_path, write_images):
    write_images(tmp_path, ["1.png", "2.png"])
    for split in ("train", "val", "test"):
        extra = line if split == name else "1.png 0"
        text = f"1.png 0\n2.png 1\n1.png 0\n{extra}\n"
        (tmp_path / f"ImageNet_LT_{split}.txt").write_text(text)
    arguments = ["--dataset", "imagenet-lt", "--root", tmp_path, "--augmentation", "crop"]
    refused(ltvr.train, arguments, *words)


def test_lists_that_are_not_there_or_empty(refused, tmp_path):
    arguments = ["--dataset", "inaturalist18", "--root", tmp_path]
    refused(ltvr.train, arguments, "iNaturalist18_train.txt is missing", "--lists")
    (tmp_path / "iNaturalist18_train.txt").write_text("\n")
    refused(ltvr.train, arguments, "iNaturalist18_train.txt is empty", "`path label`")


def test_a_corrupt_image_of_any_type_is_named(tmp_path):
    random = np.random.default_rng(0)
    pixels = Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8))
    for suffix in ("png", "jpg", "webp", "gif", "bmp", "tiff", "ppm", "ico", "tga", "jp2"):
        path = tmp_path / f"image.{suffix}"
        pixels.save(path)
        whole = path.read_bytes()
        for _ in range(60):
            spoilt = bytearray(whole[: random.integers(1, len(whole) + 1)])
            for at in random.integers(0, len(spoilt), 3):
                spoilt[at] = random.integers(0, 256)
            path.write_bytes(spoilt)
            try:
                assert Decoder().read(path).mode == "RGB"  # some damage does not show
            except UserError as error:
                assert str(path) in str(error) and "\n" not in str(error)


# ---- runs and checkpoints ----


def raise_(error):
    raise error


def test_a_name_is_free_until_its_run_has_a_checkpoint(refused, command, tmp_path, monkeypatch):
    save_config(tiny_config(epochs=0, crt_epochs=9), tmp_path / "tiny.yaml")
    arguments = ["--preset", "tiny.yaml", "--name", "mine"]
    refused(ltvr.train, [*arguments, "--backbone", "resnet19"], "resnet19")
    refused(ltvr.train, [*arguments, "--batch-size", "5000"], "training images; lower it")
    assert not (tmp_path / "runs").exists()  # what can be checked is, before a folder is made
    with monkeypatch.context() as patched:
        patched.setattr(ltvr.training.Trainer, "fit", lambda _: raise_(UserError("no")))
        refused(ltvr.train, arguments, "error: no")
    refused(ltvr.train, ["--resume", "runs/mine"], "stopped before its first checkpoint")
    assert command(ltvr.train, *arguments)[0] == 0
    refused(ltvr.train, arguments, "already holds a run", "--name", "--resume runs/mine")


def test_weights_of_another_architecture(finished, refused, tmp_path):
    arguments = ["--stages", "crt", "--from", finished]
    for other in (
        "--image-size 32",
        "--method baseline",
        "--mask-mean 0.25",
        "--preset cifar10-ir100",
    ):
        words = ["finished is of another architecture", "there and", "leave out --"]
        refused(ltvr.train, [*arguments, *other.split()], *words)
    copy = shutil.copytree(finished, tmp_path / "copy")
    save_config(tiny_config(backbone="resnext14_8x4d"), copy / "config.yaml")
    for module in (ltvr.evaluate, ltvr.export):
        refused(module, [copy], "final.pt is of another architecture")
    refused(ltvr.train, ["--resume", copy], "last.pt is of a run with backbone", "restore")


def test_checkpoints_that_are_none(finished, refused, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    (copy / "final.pt").write_bytes((copy / "final.pt").read_bytes()[:1000])
    refused(ltvr.evaluate, [copy], "final.pt is not a checkpoint of ltvr")
    torch.save({"weights": {}}, copy / "final.pt")
    refused(ltvr.evaluate, [copy], "final.pt is not a checkpoint of ltvr", "no model")
    (copy / "final.pt").unlink()
    refused(ltvr.evaluate, [copy], "copy is not finished", "--resume")
    for path in copy.glob("*.pt"):
        path.unlink()
    refused(ltvr.evaluate, [copy], "copy is finished, and its final.pt has been deleted")
    refused(ltvr.train, ["--resume", copy], "copy is finished, and its last.pt has been deleted")
    refused(ltvr.train, ["--name", "copy", "--out", tmp_path], "holds a run, whose checkpoints")
    refused(ltvr.evaluate, [tmp_path], "is no run", "name a run folder")


def test_other_data_than_the_run_began_with(finished, refused, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    save_config(tiny_config(data_seed=1), copy / "config.yaml")
    others = ((ltvr.train, ["--resume", copy]), (ltvr.evaluate, [copy, "--split", "train"]))
    for module, arguments in others:
        refused(module, arguments, "the train images differ", "start a new run")
    refused(ltvr.evaluate, [finished, "--split", "val"], "no val split", "--split test")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--out gone/model.onnx", ["there is no folder gone"]),
        ("--out folder.onnx", ["folder.onnx is no file"]),
        ("--out runs/final.pt", [".onnx at the end for --format onnx"]),
        ("--format torch --out model.onnx", [".pt2 at the end for --format torch"]),
    ],
)
def test_where_a_model_cannot_be_exported_to(arguments, words, finished, refused, monkeypatch):
    Path("folder.onnx").mkdir()
    monkeypatch.setattr(ltvr.export, "load_trained", None)  # before the network is read
    refused(ltvr.export, [finished, *arguments.split()], *words)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_an_export_that_fails_leaves_what_was_there(kind, finished, tmp_path, monkeypatch):
    path = tmp_path / f"model{ltvr.export.SUFFIXES[kind]}"
    path.write_text("before")
    network = load_trained(finished, "cpu")[0]
    monkeypatch.setattr(ltvr.export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="logits .* differ .* not written"):
        ltvr.export.export(network, kind, path)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_no_component_left_to_use_an_option(refused):
    for arguments, words in (
        ("--method baseline --fused", ["--fused changes nothing with decomposition = none"]),
        ("--weighting-start 0.5", ["--weighting-start changes nothing with weighting = none"]),
        ("--deferred-sampler-start 0", ["changes nothing with deferred_sampler = none"]),
        ("--lr-decay 0.5", ["--lr-decay changes nothing with milestones = none"]),
        ("--stages crt --combination swap", ["changes nothing with stages = crt; "]),
        ("--stages generative --gamma 0.5", ["changes nothing with stages = generative; "]),
        ("--gamma 0 --combination swap", ["changes nothing with gamma = 0.0 and stages = "]),
    ):
        refused(ltvr.train, arguments.split(), *words)


def test_what_the_second_stage_alone_generates_has_options():
    """Also those that say how a row is generated, where the first stage generates none."""
    config = tiny_config(stages=("features", "generative"), gamma=0.0, combination="swap")
    assert config.effective()["combination"] == "swap" and "alpha" not in config.effective()
    refuse_unused(config, ["combination", "generated_batchnorm", "generative_gamma"])


# ---- a corrupt image in the middle of a run ----


@pytest.fixture
def large(tmp_path, write_images):
    """Arguments of a run on images that workers read from disk."""
    write_images(tmp_path / "train", [f"{k}/{i}.png" for k in "ab" for i in range(16)], size=72)
    write_images(tmp_path / "test", [f"{k}/{i}.png" for k in "ab" for i in range(3)], size=72)
    config = tiny_config(
        dataset="folder", root=str(tmp_path), image_size=72, imbalance=1.0, batch_size=8, workers=1,
        augmentation="imagenet", epochs=1, lay_back_start=0.0,
    )  # fmt: skip
    save_config(config, tmp_path / "large.yaml")
    return "--preset", tmp_path / "large.yaml", "--out", tmp_path, "--stages", "features"


def test_a_run_outlives_images_that_are_damaged_while_it_trains(
    large, command, refused, tmp_path, monkeypatch
):
    monkeypatch.setattr(ltvr.training, "write_report", lambda *_: None)
    assert command(ltvr.train, *large, "--name", "whole")[0] == 0
    folder, trainer = tmp_path / "spoilt", ltvr.training.Trainer
    arguments = [*large, "--name", "spoilt"]
    for spoilt, steps in (("train/b/7.png", range(1, 4)), ("test/a/1.png", [4])):
        image = tmp_path / spoilt
        content = image.read_bytes()

        def spoil(*given, image=image, **others):  # all were read and found good by now
            spoil_image(image)
            return trainer(*given, **others)

        monkeypatch.setattr(ltvr.training, "Trainer", spoil)
        words = [f"{spoilt} is corrupt", "replace it", f"--resume {folder}"]
        refused(ltvr.train, arguments, *words)
        assert torch.load(folder / "last.pt", weights_only=True)["step"] in steps
        arguments = ["--resume", folder]
        refused(ltvr.train, arguments, f"{spoilt} is corrupt", "1 of")
        image.write_bytes(content)
    monkeypatch.setattr(ltvr.training, "Trainer", trainer)
    assert command(ltvr.train, *arguments)[0] == 0
    whole, resumed = (
        json.loads((tmp_path / n / "summary.json").read_text()) for n in ("whole", "spoilt")
    )
    assert resumed["metrics"] == whole["metrics"]


def test_fused_without_its_kernels_says_why(monkeypatch):
    cpu = torch.device("cpu")
    assert choose_backend(config_of(fused=True), cpu) == "cpp"
    assert choose_backend(config_of(), cpu) == "reference"
    monkeypatch.setattr(ops, "_why_missing", "not built; install g++")
    with pytest.raises(UserError, match=r"--fused: .* install g.* with --no-fused"):
        choose_backend(config_of(fused=True), cpu)


def test_a_run_goes_on_from_its_last_checkpoint_alone(finished, refused):
    refused(ltvr.train, ["--resume", finished / "nothing.pt"], "nothing.pt is missing")
    refused(ltvr.train, ["--resume", finished / "best-crt.pt"], "goes on from its last.pt")
    refused(ltvr.evaluate, [finished / "nothing.pt"], "nothing.pt is missing")


def test_parts_of_another_run_in_a_checkpoint(finished, refused, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    state = torch.load(copy / "last.pt", weights_only=True)
    changes = {
        "stage": "other", "epoch": 7, "step": -1, "optimizer": {
            "state": {}, "param_groups": []}, "totals": {
            "sums": torch.zeros(2), "synthetic_counts": torch.zeros(10)},
    }  # fmt: skip
    for name, value in changes.items():
        torch.save({**state, name: value}, copy / "last.pt")
        refused(ltvr.train, ["--resume", copy], "last.pt", name)
