"""Any model of timm's, by name, as `timm:convnext_atto`: behind a front end, drawn anew, never pretrained.

These models are made for photographs, and many for one size of them only. So there is one rule for all: each second of
the image (of log-mel, 96 bands and 101 frames) is resized to a square of 96 rows and columns, or where the model does
not take that, to 112, 128, or the size that timm names for it; logits are averaged over seconds. A model "takes" a size
if it runs, and if its patches cover all of it (patches of 14 leave out 12 of 96 rows: 112).
"""

import difflib
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures._external import format_error
from architectures._registry import Architecture, ConfigError, Family, zoos
from architectures.layers import TimmConfig, image_front_end

__all__ = ["ZooConfig", "ZooModel", "timm_architecture"]

# in the order of preference: one row a mel band, then as little interpolation as a model's patches allow
_SIZES = (96, 112, 128)
# By timm's module: all of it convolutions, or attention on patches. What mixes them, or has neither, is a hybrid.
_CNNS = (
    "byobnet", "convmixer", "convnext", "cspnet", "cspnext", "densenet", "dla", "dpn", "efficientnet", "fasternet",
    "ghostnet", "hardcorenas", "hgnet", "hrnet", "inception_next", "inception_resnet_v2", "inception_v3",
    "inception_v4", "lcnetv2", "mambaout", "mobilenetv3", "nasnet", "nfnet", "pnasnet", "rdnet", "regnet", "repghost",
    "repvit", "res2net", "resnest", "resnet", "resnetv2", "rexnet", "selecsls", "senet", "sknet", "starnet", "tresnet",
    "vgg", "vovnet", "xception", "xception_aligned",
)  # fmt: skip
_TRANSFORMERS = (
    "beit", "cait", "crossvit", "deepseek_vit", "deit", "eva", "gemma4_vit", "hiera", "hieradet_sam2", "mvitv2",
    "naflexvit", "nest", "pit", "pvt_v2", "qwen3_vit", "swin_transformer", "swin_transformer_v2",
    "swin_transformer_v2_cr", "tnt", "twins", "vision_transformer", "vision_transformer_relpos",
    "vision_transformer_sam", "xcit",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ZooConfig(TimmConfig):
    """The config of a timm model; `size` is the number of rows and columns that a second's spectrogram becomes."""

    size: int


class ZooModel(nn.Module):
    """One of timm's models, on an image of the sound that is resized to a square a second."""

    def __init__(self, config: ZooConfig) -> None:
        super().__init__()
        self.sample_rate, self.size = config.sample_rate, config.size
        self.front_end = image_front_end(config)
        self.body = _body(config.body, config.size, num_classes=config.num_classes, drop_rate=config.drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        # whole seconds: a part of one is stretched or squeezed into a square rather than cut off
        seconds = max(1, round(x.shape[1] / self.sample_rate))
        x = self.front_end(x)  # (b, n) -> (b, 1, f, t)
        x = F.interpolate(x, (self.size, seconds * self.size), mode="bilinear")
        x = x.unflatten(3, (seconds, self.size)).movedim(3, 1).flatten(0, 1)  # (b * seconds, 1, size, size)
        return self.body(x).unflatten(0, (-1, seconds)).mean(dim=1)  # (b, k)


# cached, since finding a model's size may take several builds of it
@cache
def timm_architecture(body: str) -> Architecture:
    """Return the entry of one of timm's models, by its name there; ConfigError if it takes no spectrogram."""
    # here and below, since it takes seconds and most commands do without
    import timm

    name, models = f"timm:{body}", timm.list_models()
    # a name with a tag (resnet18.a1_in1k) stands for pretrained weights and is refused: none are ever loaded
    if body not in models:
        near = difflib.get_close_matches(body.partition(".")[0], models, n=3, cutoff=0.5)
        hint = f" (did you mean {', '.join(f'timm:{model}' for model in near)}?)" if near else ""
        raise ConfigError(f"no architecture {name!r}{hint}; timm.list_models() shows all")
    module = timm.model_entrypoint(body).__module__.rpartition(".")[2]
    family: Family = "cnn" if module in _CNNS else "transformer" if module in _TRANSFORMERS else "hybrid"
    settings = timm.get_pretrained_cfg(body)
    sizes = (*_SIZES, int(settings.input_size[-1])) if settings else _SIZES
    return Architecture(name, family, ZooConfig(body=body, size=_fitting_size(body, sizes)), ZooModel, in_all=False)


zoos["timm"] = timm_architecture


def _fitting_size(body: str, sizes: tuple[int, ...]) -> int:
    """Return the first size that a model takes, found by trying: timm has no common field for it."""
    reason = "its patches cover no size that it takes"
    for size in sizes:
        try:
            # without storage, and without touching the caller's random numbers: a look-up must not change what is drawn
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
                warnings.simplefilter("ignore")
                model = _body(body, size, num_classes=7).eval()
                logits = model(torch.zeros(2, 1, size, size))
        # each model has its own way to refuse: assertions, shapes that do not fit, type errors
        except Exception as error:
            reason = format_error(error)
            continue
        if not isinstance(logits, Tensor) or logits.shape != (2, 7):
            raise ConfigError(f"timm:{body} is no classifier: it has no logits")
        # a model drops the rest of a size that is no multiple of its patches, without an error
        if not size % _patch_size(model):
            return size
    raise ConfigError(f"timm:{body} takes no spectrogram: {reason}")


def _patch_size(model: nn.Module) -> int:
    """Return the side of the patches that a model cuts its input into, 1 if they overlap."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return first.stride[0] if first and first.stride == first.kernel_size else 1


def _body(name: str, size: int, **options: Any) -> nn.Module:
    import timm

    # img_size only where it is needed: models of any size mostly refuse the argument
    settings = timm.get_pretrained_cfg(name)
    if settings and settings.fixed_input_size:
        options["img_size"] = size
    return timm.create_model(name, pretrained=False, in_chans=1, **options)
