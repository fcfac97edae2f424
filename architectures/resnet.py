"""ResNet-18 (arXiv:1512.03385) on a log-mel spectrogram, as in the FSD50K paper (arXiv:2010.00475)."""

from architectures._published import fsd50k_paper
from architectures._registry import register
from architectures._sources import SOURCES
from architectures.layers import TimmConfig, TimmModel

__all__ = ["ResNet"]


@register(
    "resnet18",
    family="cnn",
    config=TimmConfig(body="resnet18"),
    published=fsd50k_paper(map=0.373, parameters=11.3e6),
    **SOURCES["resnet18"],
)
class ResNet(TimmModel):
    """timm's ResNet with one input channel."""
