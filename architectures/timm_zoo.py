"""Any model of timm's, by name, as `timm:convnext_atto`: on a log-mel spectrogram, drawn anew, never pretrained.

These models are made for photographs, and many for one size of them only. So there is one rule for all: each second of
the spectrogram (96 bands, 101 frames at 16 kHz) is resized to a square of 96 rows and columns, or where the model does
not take that, to 112, 128, or the size that timm names for it; logits are averaged over seconds. A model "takes" a size
if it runs, and if its patches cover all of it (patches of 14 leave out 12 of 96 rows: 112).
"""

import difflib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures._external import told
from architectures._registry import Architecture, ConfigError, Family, register_zoo
from architectures.layers import LogMel, TimmConfig

SIZES = (96, 112, 128)
# By timm's module: all of it convolutions, or attention on patches. What mixes them, or has neither, is a hybrid.
CNNS = (
    "byobnet", "convmixer", "convnext", "cspnet", "cspnext", "densenet", "dla", "dpn", "efficientnet", "fasternet",
    "ghostnet", "hardcorenas", "hgnet", "hrnet", "inception_next", "inception_resnet_v2", "inception_v3",
    "inception_v4", "lcnetv2", "mambaout", "mobilenetv3", "nasnet", "nfnet", "pnasnet", "rdnet", "regnet", "repghost",
    "repvit", "res2net", "resnest", "resnet", "resnetv2", "rexnet", "selecsls", "senet", "sknet", "starnet", "tresnet",
    "vgg", "vovnet", "xception", "xception_aligned",
)  # fmt: skip
TRANSFORMERS = (
    "beit", "cait", "crossvit", "deepseek_vit", "deit", "eva", "gemma4_vit", "hiera", "hieradet_sam2", "mvitv2",
    "naflexvit", "nest", "pit", "pvt_v2", "qwen3_vit", "swin_transformer", "swin_transformer_v2",
    "swin_transformer_v2_cr", "tnt", "twins", "vision_transformer", "vision_transformer_relpos",
    "vision_transformer_sam", "xcit",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ZooConfig(TimmConfig):
    size: int  # rows and columns of a second's spectrogram


class ZooModel(nn.Module):
    """One of timm's models, on a log-mel spectrogram resized to a square a second."""

    def __init__(self, config: ZooConfig) -> None:
        super().__init__()
        self.sample_rate, self.size = config.sample_rate, config.size
        self.log_mel = LogMel(config)
        self.body = _body(config.body, config.size, num_classes=config.num_classes, drop_rate=config.drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        seconds = max(1, round(x.shape[1] / self.sample_rate))
        x = self.log_mel(x)  # (b, n) -> (b, 1, f, t)
        x = F.interpolate(x, (self.size, seconds * self.size), mode="bilinear")
        x = x.unflatten(3, (seconds, self.size)).movedim(3, 1).flatten(0, 1)  # (b * seconds, 1, size, size)
        return self.body(x).unflatten(0, (-1, seconds)).mean(dim=1)  # (b, k)


@register_zoo("timm")
@cache
def timm_architecture(body: str) -> Architecture:
    """The entry of one of timm's models. Raises ConfigError for an unknown one, or one that takes no spectrogram."""
    import timm  # takes seconds, which most commands need not wait for

    name, models = f"timm:{body}", timm.list_models()
    if body not in models:  # with a tag (resnet18.a1_in1k) it would be a set of weights
        near = difflib.get_close_matches(body.partition(".")[0], models, n=3, cutoff=0.5)
        hint = f" (did you mean {', '.join(f'timm:{model}' for model in near)}?)" if near else ""
        raise ConfigError(f"no architecture {name!r}{hint}; timm.list_models() shows all")
    return Architecture(name, _family(body), ZooConfig(body=body, size=_size(body)), ZooModel, contestant=False)


def _family(body: str) -> Family:
    import timm

    module = timm.model_entrypoint(body).__module__.rpartition(".")[2]
    return "cnn" if module in CNNS else "transformer" if module in TRANSFORMERS else "hybrid"


def _size(body: str) -> int:
    """The first size that a model takes."""
    reason = "its patches cover no size that it takes"
    for size in _sizes(body):
        try:
            model, logits = _try(body, size)
        except Exception as error:  # each model has its own way to refuse
            reason = told(error)
            continue
        if not isinstance(logits, Tensor) or logits.shape != (2, 7):
            raise ConfigError(f"timm:{body} is no classifier: it has no logits")
        if not size % _patch_size(model):
            return size
    raise ConfigError(f"timm:{body} takes no spectrogram: {reason}")


def _try(body: str, size: int) -> tuple[nn.Module, Any]:
    """Build a model and run it, both without storage; the caller's random numbers stay what they were."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
        warnings.simplefilter("ignore")  # building it in earnest says so again
        model = _body(body, size, num_classes=7).eval()
        return model, model(torch.zeros(2, 1, size, size))


def _sizes(body: str) -> Iterator[int]:
    import timm

    yield from SIZES
    settings = timm.get_pretrained_cfg(body)
    if settings:
        yield int(settings.input_size[-1])


def _patch_size(model: nn.Module) -> int:
    """Side of the patches that a model cuts its input into; 1 where they overlap."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return first.stride[0] if first and first.stride == first.kernel_size else 1


def _body(name: str, size: int, **options: Any) -> nn.Module:
    import timm

    settings = timm.get_pretrained_cfg(name)
    if settings and settings.fixed_input_size:
        options["img_size"] = size
    return timm.create_model(name, pretrained=False, in_chans=1, **options)
