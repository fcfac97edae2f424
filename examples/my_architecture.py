"""my_hybrid: a convolution over the log-mel spectrogram, and blocks of self-attention over its frames.

`bench check examples/my_architecture.py` holds it to the contract; examples/my_suite.toml compares it.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from architectures import register
from architectures.layers import LogMel, LogMelConfig


@dataclass(frozen=True, kw_only=True)
class Config(LogMelConfig):
    embed_dim: int = 64
    depth: int = 2
    num_heads: int = 4
    drop_rate: float = 0.0


@register("my_hybrid", family="hybrid", config=Config())
class MyHybrid(nn.Module):
    """A convolution makes tokens of 40 ms; attention mixes them; the mean over time is classified."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.log_mel = LogMel(config)
        # all bands at once, four frames at a time
        self.tokens = nn.Conv1d(config.n_mels, config.embed_dim, kernel_size=4, stride=4)
        self.blocks = nn.Sequential(*[self._block(config) for _ in range(config.depth)])
        self.head = nn.Sequential(nn.Dropout(config.drop_rate), nn.Linear(config.embed_dim, config.num_classes))

    @staticmethod
    def _block(config: Config) -> nn.Module:
        dim = config.embed_dim
        return nn.TransformerEncoderLayer(
            dim, config.num_heads, 4 * dim, config.drop_rate, "gelu", batch_first=True, norm_first=True
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.log_mel(x).squeeze(1)  # (b, n) samples in [-1, 1] -> (b, f, t)
        x = self.tokens(x).relu().mT  # (b, t / 4, d)
        x = self.blocks(x)
        return self.head(x.mean(dim=1))  # (b, k) logits: no sigmoid
