"""Models that predict the next code of a codec: those of the next sample, at the sizes of 25 codes a second."""

from architectures._registry import register
from architectures._sources import SOURCES
from architectures.sample_transformer import SampleTransformer, SampleTransformerConfig
from architectures.wavenet import WaveNet, WaveNetConfig

# a field of 64 codes, 2.56 s
register("code_wavenet", family="cnn", task="next_code", config=WaveNetConfig(layers=6), **SOURCES["code_wavenet"])(
    WaveNet
)
register(
    "code_transformer",
    family="transformer",
    task="next_code",
    config=SampleTransformerConfig(max_context=1024),
    **SOURCES["code_transformer"],
)(SampleTransformer)
