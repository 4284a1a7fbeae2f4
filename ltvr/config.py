"""The one configuration object of a run: defaults, YAML presets, command line."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import math
import typing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml

from ltvr.afa import Initialisation
from ltvr.backbone import Stem
from ltvr.errors import UserError
from ltvr.reference import MaskAxis, Projection

__all__ = ["Config", "Parser", "add_config_arguments", "load_config", "presets", "save_config"]

Dataset = Literal[
    "digits", "cifar10", "cifar100", "imagenet-lt", "places-lt", "inaturalist18", "folder"
]
Sampler = Literal["instance", "class-aware", "square-root", "progressive"]
PRESETS = Path(__file__).parent / "presets"


def option(default: Any, group: str, text: str) -> Any:
    """Declare a field with its group and help text on the command line."""
    return field(default=default, metadata={"group": group, "help": text})


@dataclass(frozen=True)
class Config:
    """Everything that decides the result of a run; recorded whole as ``config.yaml``."""

    method: Literal["baseline", "ltvr"] = option(
        "ltvr", "method", "baseline: the plain backbone; ltvr: with AFA and the lay-back schedule"
    )
    gamma: float = option(1.0, "method", "generated samples per real one (eq. 10)")
    alpha: float = option(4.0, "method", "how much rare classes are favoured (eq. 9)")
    loss_weight: float = option(2.0, "method", "lambda, the weight of L_all (eq. 12)")
    lay_back_epoch: int = option(30, "method", "t: epochs on real samples alone before L_all joins")
    projection: Projection = option("linear", "method", "of Q, K, V: over positions or channels")
    mask_axis: MaskAxis = option("spatial", "method", "axis of the mask's softmax (eq. 3)")
    mask_gain: float = option(1.0, "method", "factor on the mask; 1 is eq. 3 to the letter")
    attention_addition: bool = option(True, "method", "add X_class to the features (eq. 6)")
    initialisation: Initialisation = option("identity", "method", "of W_Q, W_K, W_V")
    value_scale: float = option(1.0, "method", "factor on W_V at the start")
    attention_scale: float = option(1.0, "method", "factor on W_Q and W_K at the start")
    reduction: int = option(16, "method", "of the squeeze-and-excitation bottleneck")
    insert_after: str = option("layer3", "method", "the stage AFA follows")

    dataset: Dataset = option("digits", "data", "which images")
    root: str = option("", "data", "where the images are (or are downloaded to)")
    lists: str = option("", "data", "folder of the list files; empty: the same as root")
    image_size: int = option(32, "data", "side of the square images the model sees, in pixels")
    imbalance: float = option(1.0, "data", "largest class : smallest class; 1 keeps all images")
    imbalance_type: Literal["exp", "step", "none"] = option("exp", "data", "shape of the tail")
    data_seed: int = option(0, "data", "of the long-tailed subset; apart from --seed")
    augmentation: Literal["crop-flip", "crop", "imagenet", "none"] = option(
        "crop-flip", "data", "of the training images"
    )
    crop_padding: int = option(4, "data", "zero padding of the random crop, in pixels")
    mean: tuple[float, ...] = option((0.4914, 0.4822, 0.4465), "data", "normalisation, per channel")
    std: tuple[float, ...] = option((0.2023, 0.1994, 0.2010), "data", "normalisation, per channel")
    many_above: int = option(100, "data", "many-shot: more training images than this")
    few_below: int = option(20, "data", "few-shot: fewer training images than this")
    workers: int = option(4, "data", "processes that read large images")

    backbone: str = option("resnext50_32x4d", "model", "torchvision name, small ResNeXt, timm:NAME")
    stem: Stem = option("imagenet", "model", "7x7 stride 2 + pool, 3x3 stride 1, 3x3 stride 2")
    pretrained: bool = option(False, "model", "start from ImageNet weights (needs a network)")

    epochs: int = option(90, "stage 1", "T")
    batch_size: int = option(512, "stage 1", "total images a step, over all accumulation steps")
    accumulate: int = option(1, "stage 1", "micro-batches a step, each its own plan")
    sampler: Sampler = option("instance", "stage 1", "instance-balanced in the paper")
    lr: float = option(0.2, "stage 1", "learning rate at --lr-batch images a step")
    lr_batch: int = option(512, "stage 1", "lr is scaled by batch_size / lr_batch; 0: not scaled")
    momentum: float = option(0.9, "stage 1", "of SGD")
    weight_decay: float = option(5e-4, "stage 1", "of SGD")
    warmup_epochs: float = option(0.0, "stage 1", "linear warm-up before the cosine to 0")
    stage1_batchnorm: Literal["running", "real"] = option(
        "running",
        "stage 1",
        "statistics it ends with: those of training, generated samples and all, or of the real "
        "images alone, one more pass over them",
    )

    crt_epochs: int = option(10, "stage 2", "epochs of the classifier alone (cRT)")
    crt_lr: float = option(0.2, "stage 2", "as --lr, for stage 2")
    crt_sampler: Sampler = option(
        "class-aware", "stage 2", "class-aware: 4 images a class in a row"
    )
    crt_batchnorm: Literal["train", "eval"] = option(
        "train", "stage 2", "BatchNorm of the frozen backbone: batch statistics, or frozen ones"
    )
    crt_init: Literal["fresh", "keep"] = option("fresh", "stage 2", "start of the classifier")

    seed: int = option(0, "run", "of initialisation, order, augmentation and synthesis")
    select: Literal["last", "best"] = option(
        "last", "run", "reported epoch; best is by validation split, or by test set and says so"
    )
    ema: float = option(0.0, "run", "decay of the weight average that is evaluated; 0: none")
    device: Literal["auto", "cpu", "cuda"] = option("auto", "run", "where to train")
    fused: bool = option(False, "run", "fused AFA: Triton on CUDA, C++ on a CPU")
    amp: Literal["none", "bf16", "fp16"] = option("none", "run", "autocast type")
    channels_last: bool = option(True, "run", "memory format of the convolutions")
    compile: bool = option(False, "run", "torch.compile the training step")
    fixed_size: bool = option(
        False, "run", "as many generated rows in every batch, the unused ones ignored (--compile)"
    )
    eval_batch_size: int = option(500, "run", "images a step of evaluation")

    def __post_init__(self) -> None:
        at_least: dict[str, float] = {
            "gamma": 0, "alpha": 0, "loss_weight": 0, "lay_back_epoch": 0, "reduction": 1,
            "image_size": 1, "imbalance": 1, "crop_padding": 0, "workers": 0, "epochs": 0,
            "batch_size": 1, "accumulate": 1, "lr": 0, "lr_batch": 0, "crt_epochs": 1, "crt_lr": 0,
            "eval_batch_size": 1, "ema": 0, "warmup_epochs": 0, "weight_decay": 0, "momentum": 0,
            "seed": 0, "data_seed": 0,
        }  # fmt: skip
        for name, low in at_least.items():
            value = getattr(self, name)
            if not low <= value < math.inf:
                raise UserError(f"{name} = {value}: expected at least {low}, and finite")
        if self.gamma > 100:
            raise UserError(f"gamma = {self.gamma}: expected at most 100 generated a real sample")
        if self.method == "ltvr" and 0 < self.epochs <= self.lay_back_epoch:
            raise UserError(
                f"lay_back_epoch = {self.lay_back_epoch}: expected below epochs = {self.epochs}, "
                "or nothing is ever generated; lower --lay-back-epoch (the paper's is a third)"
            )
        if self.batch_size % self.accumulate:
            raise UserError(
                f"batch_size = {self.batch_size}: expected a multiple of accumulate = "
                f"{self.accumulate}; batch_size is the total of a step"
            )
        if self.ema >= 1:
            raise UserError(f"ema = {self.ema}: expected below 1")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UserError("mean and std: expected three numbers each, std above 0")

    def scaled_lr(self, lr: float) -> float:
        """Learning rate of a step of ``batch_size`` images (the field's linear rule)."""
        return lr * self.batch_size / self.lr_batch if self.lr_batch else lr


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_config(source: str, overrides: dict[str, Any] | None = None) -> Config:
    """Read a preset by name, or a YAML file by path, and lay ``overrides`` over it.

    Raises:
        UserError: no such preset or file, an unknown field, or a value that does not fit.
    """
    path = PRESETS / f"{source}.yaml"
    if not path.is_file():
        path = Path(source)
    if not path.is_file():
        raise UserError(f"preset {source!r}: expected one of {', '.join(presets())}, or a file")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected `field: value` lines")
    types_of = typing.get_type_hints(Config)
    for name in values:
        if name not in types_of:
            near = difflib.get_close_matches(str(name), types_of, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{path.name}: unknown field {name!r}{hint}")
    known = {name: _convert(name, types_of[name], value) for name, value in values.items()}
    return Config(**{**known, **(overrides or {})})


def save_config(config: Config, path: Path) -> None:
    """Write every field as YAML, readable again by ``load_config``."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(config).items()}
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def _convert(name: str, kind: Any, value: Any) -> Any:
    """Hold a YAML value to the type of its field."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        if value in typing.get_args(kind):
            return value
        raise UserError(
            f"{name} = {value!r}: expected one of {', '.join(map(str, typing.get_args(kind)))}"
        )
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(name, float, v) for v in value)
    if kind is float and type(value) in (int, float, str):
        with contextlib.suppress(ValueError):
            return float(value)  # YAML 1.1 reads 5e-4 as a string
    if type(value) is kind:
        return value
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise UserError(f"{name} = {value!r}: expected {wanted.get(kind, 'a list of numbers')}")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line that says what to do."""

    def error(self, message: str) -> NoReturn:
        """Raise, for ``ltvr.errors.run`` to print."""
        near = [
            f"{word} -> did you mean {match[0]}?"
            for word in message.replace(":", " ").split()
            if word.startswith("--")
            and (match := difflib.get_close_matches(word, self._option_string_actions, 1))
            and match[0] != word
        ]
        raise UserError(f"{message}; {near[0] if near else 'see --help'}")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one argument a field of ``Config``, by group; unset ones stay out of the namespace."""
    groups: dict[str, Any] = {}
    types_of = typing.get_type_hints(Config)
    for f in fields(Config):
        title = f.metadata["group"]
        group = groups.setdefault(title, parser.add_argument_group(title))
        kind: Any = types_of[f.name]
        shown = " ".join(map(str, f.default)) if isinstance(f.default, tuple) else str(f.default)
        text = f"{f.metadata['help']} ({shown or 'none'})".replace("%", "%%")
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(kind) is Literal:
            options["choices"] = typing.get_args(kind)
        elif typing.get_origin(kind) is tuple:
            options.update(type=float, nargs=3, metavar=("R", "G", "B"))
        else:
            options.update(type=kind, metavar={int: "N", float: "X"}.get(kind, "NAME"))
        group.add_argument("--" + f.name.replace("_", "-"), **options)


def overrides_of(namespace: argparse.Namespace) -> dict[str, Any]:
    """Return the fields that were set on the command line."""
    names = {f.name for f in dataclasses.fields(Config)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(namespace).items()
        if name in names
    }
