"""Options of the images: which, how many of each class, and what is done to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ltvr.config.options import Options, option
from ltvr.data.longtail import shot_of
from ltvr.errors import UserError

__all__ = ["DataOptions", "Resize"]

Dataset = Literal[
    "digits", "cifar10", "cifar100", "imagenet-lt", "places-lt", "inaturalist18", "folder", "shards"
]
Resize = Literal["squash", "short-side-crop", "pad"]
JudgedOn = Literal["test", "hold-out"]


@dataclass(frozen=True)
class DataOptions(Options):
    """Data."""

    dataset: Dataset = option("digits", "which images")
    root: str = option(
        "",
        "where the images are (or are downloaded to); of shards a folder or an address",
        idle={"dataset": ["digits"]},
    )
    lists: str = option(
        "",
        "folder of the list files; empty: the same as root",
        idle={"dataset": ["digits", "cifar10", "cifar100", "folder", "shards"]},
    )
    image_size: int = option(
        32, "side of the square images that the model sees, in pixels", at_least=1,
        architecture=True,
    )  # fmt: skip
    resize: Resize = option(
        "squash",
        "how an image becomes square: squashed; its short side resized to 256/224 of the size and "
        "the centre cut out; or padded with the background",
    )
    background: tuple[float, ...] = option(
        (1.0, 1.0, 1.0),
        "what shows through transparent pixels and fills padding: red, green, blue, 0 to 1",
        at_least=0,
        at_most=1,
    )
    bad_images: Literal["error", "skip"] = option(
        "error", "if there are images that cannot be read: stop, or leave them out"
    )
    imbalance: float = option(1.0, "largest class : smallest class; 1 keeps all images", at_least=1)
    imbalance_type: Literal["exp", "step", "none"] = option(
        "exp", "shape of the tail", idle={"imbalance": 1.0}
    )
    data_seed: int = option(
        0,
        "of the long-tailed subset and of the hold-out; apart from --seed",
        at_least=0,
        below=2**32,
        idle_together={"imbalance": 1.0, "holdout": 0.0},
    )
    holdout: float = option(
        0.0,
        "judge the run on a hold-out and never read the test set: so many images of each class, "
        "or below 1 a share of the images it is taken from, the same number of each class; 0: none",
        at_least=0,
    )
    holdout_from: Literal["train", "left-out", "val"] = option(
        "train",
        "where the hold-out is from: training images, which train no more, at most half of a "
        "class; images that the long-tailed subset leaves out; or the validation split",
        idle={"holdout": 0.0},
    )
    holdout_fold: int = option(
        0, "which part the hold-out is, counted from 0", at_least=0, idle={"holdout": 0.0}
    )
    augmentation: Literal["crop-flip", "crop", "imagenet", "none"] = option(
        "crop-flip", "of the training images"
    )
    crop_padding: int = option(
        4,
        "zero padding of the random crop, in pixels",
        at_least=0,
        idle={"augmentation": ["imagenet", "none"]},
    )
    colour_jitter: float = option(
        0.4,
        "how much augmentation imagenet changes brightness, contrast and saturation; 0: not at all",
        at_least=0,
        at_most=1,
        idle={"augmentation": ["crop-flip", "crop", "none"]},
    )
    mean: tuple[float, ...] = option((0.4914, 0.4822, 0.4465), "normalisation, per channel")
    std: tuple[float, ...] = option((0.2023, 0.1994, 0.2010), "normalisation, per channel", above=0)
    many_above: int = option(100, "many-shot: more training images than this", at_least=0)
    few_below: int = option(20, "few-shot: fewer training images than this", at_least=0)
    workers: int = option(4, "processes that read large images", at_least=0, at_most=1024)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mean", "std", "background"):
            values = getattr(self, name)
            if len(values) != 3:
                raise UserError(f"{name} = {values}: expected three numbers, red, green and blue")
        if self.holdout > 1 and self.holdout != int(self.holdout):
            raise UserError(
                f"holdout = {self.holdout:g}: expected a whole number of images of each class, or "
                "a share below 1"
            )
        if self.few_below > self.many_above + 1:
            raise UserError(
                f"few_below = {self.few_below}: classes of {self.many_above + 1} to "
                f"{self.few_below - 1} images would be both many- and few-shot with many_above = "
                f"{self.many_above}; expected at most {self.many_above + 1}"
            )

    def shot_of(self, count: int) -> str:
        """``many``, ``medium`` or ``few``, by the training images of the class."""
        return shot_of(count, self.many_above, self.few_below)

    @property
    def judged_on(self) -> JudgedOn:
        """The split that a run is judged on: the test set, or in its place a hold-out."""
        return "hold-out" if self.holdout else "test"

    @property
    def colour(self) -> tuple[int, int, int]:
        """The background as bytes."""
        red, green, blue = (round(255 * value) for value in self.background)
        return red, green, blue
