"""The VGG-like network of the FSD50K paper (arXiv:2010.00475)."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from architectures._published import fsd50k_paper
from architectures._registry import register
from architectures._sources import SOURCES
from architectures.layers import FrontEndConfig, conv_block, image_front_end, mlp

__all__ = ["VGGConfig", "VGGLike"]


@dataclass(frozen=True, kw_only=True)
class VGGConfig(FrontEndConfig):
    """The sizes of a VGG-like network; the defaults are the FSD50K paper's."""

    # for each stage, the output channels of its convolutions
    stage_widths: tuple[tuple[int, ...], ...] = ((32, 32, 32), (64, 64), (128,))
    hidden_dim: int = 256
    drop_rate: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stage_widths or not all(self.stage_widths):
            raise ValueError("stage_widths needs at least one stage, and one width in each")


@register(
    "vgg_like",
    family="cnn",
    config=VGGConfig(),
    published=fsd50k_paper(map=0.434, parameters=0.27e6),
    **SOURCES["vgg_like"],
)
class VGGLike(nn.Module):
    """3x3 convolutions in stages, halved between stages; global mean and maximum; two dense layers."""

    def __init__(self, config: VGGConfig) -> None:
        super().__init__()
        self.front_end = image_front_end(config)
        self.stages = nn.Sequential()
        in_width = 1
        for widths in config.stage_widths:
            if len(self.stages):
                self.stages.append(nn.MaxPool2d(2))
            self.stages.append(
                nn.Sequential(*(conv_block(i, o, kernel_size=3) for i, o in pairwise((in_width, *widths))))
            )
            in_width = widths[-1]
        self.head = mlp(2 * in_width, config.hidden_dim, config.num_classes, config.drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front_end(x)  # (b, n) -> (b, 1, f, t)
        x = self.stages(x)  # (b, 128, f / 4, t / 4)
        x = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)  # (b, 256)
        return self.head(x)  # (b, k)
