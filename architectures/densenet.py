"""DenseNet-121 (arXiv:1608.06993) on a log-mel spectrogram, as in the FSD50K paper (arXiv:2010.00475)."""

from architectures._published import fsd50k_paper
from architectures._registry import register
from architectures._sources import SOURCES
from architectures.layers import TimmConfig, TimmModel

__all__ = ["DenseNet"]


@register(
    "densenet121",
    family="cnn",
    config=TimmConfig(body="densenet121"),
    published=fsd50k_paper(
        map=0.425,
        parameters=12.5e6,
        note="DenseNet-121 with 200 outputs has 7.2M parameters; 12.5M is the size of a DenseNet-169",
    ),
    **SOURCES["densenet121"],
)
class DenseNet(TimmModel):
    """timm's DenseNet with one input channel."""
