"""Networks of timm whose stages give maps."""

from __future__ import annotations

import copy
import inspect
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ltvr.backbones.base import Family, Normalisation, Parts, dry_run
from ltvr.errors import UserError

__all__ = ["Timm"]

PREFIX = "timm:"


class Timm(Family):
    """``timm:NAME`` for a network of timm that calls its modules one after the other.

    ConvNeXt, EfficientNet, MobileNet, RegNet, DenseNet, VGG, Swin, MaxViT, the relatives of ResNet
    and others. The stages have the names that timm lists in ``feature_info``.
    """

    def names(self) -> list[str]:
        """The pattern: timm has hundreds."""
        return [f"{PREFIX}NAME"]

    def has(self, name: str) -> bool:
        """Whether the name begins with ``timm:``."""
        return name.startswith(PREFIX)

    def build(self, name: str, pretrained: bool, image_size: int | None) -> nn.Module:
        """Build a model of timm, which has to be installed."""
        config = self._config(name)
        import timm

        options: dict[str, Any] = {}
        if config and config.fixed_input_size and image_size not in (None, config.input_size[-1]):
            options["img_size"] = image_size
        model = name.removeprefix(PREFIX)
        try:
            return timm.create_model(model, pretrained=pretrained, **options)
        except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
            if not options:
                raise
            raise UserError(
                f"image_size = {image_size}: {name} cannot be built for it "
                f"({_one_line(error)}); it is made for --image-size {config.input_size[-1]}"
            ) from None

    def meant(self, name: str) -> str:
        """``timm:NAME`` for a bare name that timm has, if it is installed."""
        try:
            import timm
        except ModuleNotFoundError:
            return ""
        return f"{PREFIX}{name}" if timm.is_model(name) else ""

    def normalisation(self, name: str) -> Normalisation:
        """Of the weights that timm downloads for the model."""
        config = self._config(name)
        if not (config and config.has_weights):
            return super().normalisation(name)
        return Normalisation(tuple(config.mean), tuple(config.std))

    def _config(self, name: str) -> Any:
        """What timm knows of a model's weights and sizes; None for nothing."""
        try:
            import timm
        except ModuleNotFoundError:
            raise UserError(f"backbone = {name!r} needs timm: run `pip install timm`") from None
        model = name.removeprefix(PREFIX)
        if not timm.is_model(model):
            raise UserError(f"backbone = {name!r}: timm has no {model!r}; see timm.list_models()")
        try:
            return timm.get_pretrained_cfg(model)
        except RuntimeError as error:  # a tag of weights that there are none of
            raise UserError(f"backbone = {name!r}: {_one_line(error)}") from None

    def parts(self, backbone: nn.Module, image_size: int) -> Parts | None:
        """Take a model of timm apart along the calls that it makes, which a dry run shows.

        ``forward_head(forward_features(images), pre_logits=True)`` of the model is then what the
        parts give one after the other, to the bit: each was seen to take what the one before gave.
        """
        if not hasattr(backbone, "feature_info"):
            return None
        kind = type(backbone).__name__
        if not hasattr(backbone, "reset_classifier"):
            raise UserError(
                f"backbone {kind}: it has no classifier, and no embedding; name another"
            )
        # A copy that shares the weights: the caller's own keeps its classifier.
        tensors = [*backbone.parameters(), *backbone.buffers()]
        model: Any = copy.deepcopy(backbone, {id(tensor): tensor for tensor in tensors})
        model.reset_classifier(0)
        features = {info["module"]: info["num_chs"] for info in model.feature_info}
        modules = _modules(model, list(features))
        images = torch.empty(1, 3, image_size, image_size, device="meta")
        calls, output = _calls(model, modules, images)
        channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        stages = {}
        for name, channels in features.items():
            shape = next((_shape(c.output) for c in calls if c.name == name), ())
            if channels_last and len(shape) == 4:
                shape = (shape[0], shape[3], shape[1], shape[2])
            if len(shape) == 4 and shape[1] == channels:
                stages[name] = (shape[1], shape[2], shape[3])
        if not stages:
            raise UserError(
                f"backbone {kind}: its stages give no maps [D, H, W] that could be decomposed, but "
                f"{_given(calls)}; name a backbone with maps, such as timm:convnext_atto or "
                "timm:swin_tiny_patch4_window7_224"
            )
        before: Any = images
        for at, call in enumerate(calls):
            if call.more or call.input is not before or call.name in [c.name for c in calls[:at]]:
                raise _not_a_chain(kind, calls[at - 1].name if at else "the images", call.name)
            before = call.output
        if output is not before or len(_shape(output)) != 2:
            raise _not_a_chain(kind, calls[-1].name, "its output")
        outer = [name for name, _ in groupby(call.name.partition(".")[0] for call in calls)]
        if len(set(outer)) < len(outer):  # the halves could not keep both its names and its order
            raise _not_a_chain(kind, outer[0], outer[-1])
        parts = {call.name: modules[call.name] for call in calls}
        return Parts(parts, stages, output.shape[1], channels_last)


class _Call(NamedTuple):
    """One call of a module in a dry run."""

    name: str
    input: Tensor | None
    more: bool
    """Whether it was called with more than its input."""
    output: Any


def _modules(model: nn.Module, features: list[str]) -> dict[str, nn.Module]:
    """The children by name; those of a sequence instead of it where it holds stages."""
    found: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        holds_stages = any(feature.startswith(f"{name}.") for feature in features)
        if holds_stages and isinstance(child, nn.Sequential | nn.ModuleList):
            found |= {f"{name}.{inner}": part for inner, part in child.named_children()}
        else:
            found[name] = child
    return found


def _calls(
    model: nn.Module, modules: dict[str, nn.Module], images: Tensor
) -> tuple[list[_Call], Any]:
    """The calls of ``modules`` in order, in a dry run of ``model``, and what it gives."""
    calls: list[_Call] = []

    def hook(name: str) -> Any:
        def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
            parameters = inspect.signature(module.forward).parameters
            rest = list(given.items())[1:]
            more = any(value is not parameters[key].default for key, value in rest)
            calls.append(_Call(name, args[0] if args else None, more, output))

        return note

    hooks = [
        module.register_forward_hook(hook(name), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        output = dry_run(model, images, training=False)
    finally:
        for each in hooks:
            each.remove()
    return calls, output


def _given(calls: list[_Call]) -> str:
    """What the calls of a model without maps give, for its error."""
    tokens = [call for call in calls if len(_shape(call.output)) == 3]
    if not tokens:
        return "several tensors at once, or none that timm lists"
    return f"tokens: {list(_shape(tokens[0].output)[1:])} after {tokens[0].name}"


def _shape(output: Any) -> tuple[int, ...]:
    return tuple(output.shape) if isinstance(output, Tensor) else ()


def _not_a_chain(kind: str, before: str, after: str) -> UserError:
    return UserError(
        f"backbone {kind}: it cannot be cut in two, since between {before} and {after} it does "
        "more than to hand on one tensor; name another backbone"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
