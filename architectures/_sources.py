"""Where the values of the registered configs come from; docs/sources.md has them in a table for each paper.

They stand apart from the architectures since a reworded source decides no number: the digest of an architecture's code,
by which runs are compared, leaves this file out.
"""

from collections.abc import Collection, Mapping
from typing import TypedDict

__all__ = ["SOURCES", "Sources"]


class Sources(TypedDict):
    """Arguments of `register`."""

    documented: Mapping[str, str]
    second_hand: Mapping[str, str]
    inferred: Mapping[str, str]
    choices: Collection[str]


def _sources(
    base: Sources | None = None,
    *,
    documented: Mapping[str, str] | None = None,
    second_hand: Mapping[str, str] | None = None,
    inferred: Mapping[str, str] | None = None,
    choices: Collection[str] = (),
) -> Sources:
    """Return sources, over those of `base`; what is given replaces a field's source, of whatever kind that was."""
    if base is None:
        base = {"documented": {}, "second_hand": {}, "inferred": {}, "choices": ()}
    documented, second_hand, inferred = documented or {}, second_hand or {}, inferred or {}
    given = documented.keys() | second_hand.keys() | inferred.keys()

    def over(kept: Mapping[str, str], new: Mapping[str, str]) -> Mapping[str, str]:
        return {name: source for name, source in kept.items() if name not in given} | dict(new)

    return {
        "documented": over(base["documented"], documented),
        "second_hand": over(base["second_hand"], second_hand),
        "inferred": over(base["inferred"], inferred),
        "choices": (*base["choices"], *choices),
    }


# --- Fonseca et al., FSD50K: an open dataset of human-labeled sound events, and two re-implementations of its baselines

_FSD50K = "arXiv:2010.00475"
_YADAV = "github.com/SarthakYadav/fsd50k-pytorch"
_GREEN = "github.com/marc1701/fsd_fed"
_BOTH = f"the re-implementations of {_FSD50K}, {_YADAV} and {_GREEN}"
_NOT_FOUND = f"found in no account of {_FSD50K}"
_PADDED = f"padded to keep the size, each followed by batch norm and ReLU: {_GREEN}, a re-implementation of {_FSD50K}"

# every body has the fields of both front ends
_WITHOUT_EFFECT = "without effect, being a field of the other front end: docs/architectures.md"

_LOG_MEL = _sources(
    documented=dict.fromkeys(("patch_seconds", "front_end_dim", "embed_dim"), _WITHOUT_EFFECT),
    second_hand=dict.fromkeys(("front_end", "n_mels", "win_seconds", "hop_seconds"), _BOTH),
    inferred={
        "n_fft": f"None is the smallest power of two of 1.5 windows or more, so that no band is empty; {_YADAV} takes "
        f"1,920 samples, {_GREEN} the window's 660",
        "drop_rate": _NOT_FOUND,
        "input_level": f"as it is; {_NOT_FOUND}",
        "window": f"Hann's, torchaudio's default; {_NOT_FOUND}",
        "mel_scale": f"HTK's, torchaudio's default; {_NOT_FOUND}",
        "log_offset": f"1e-6 is added before the logarithm, since silence has none; {_NOT_FOUND}",
        "band_norm": f"each band by its running mean and variance; {_YADAV} subtracts each chunk's mean, and counts "
        f"that among its differences from {_FSD50K}",
    },
    choices=("window", "mel_scale", "log_offset", "band_norm"),
)
_CRNN = _sources(
    _LOG_MEL,
    second_hand={
        **dict.fromkeys(("conv_widths", "kernel_size", "pools", "rnn_width"), _BOTH),
        "convolutions": _PADDED,
    },
    inferred={
        "merge": f"the sum gives the 0.96M parameters that {_FSD50K} has, the concatenation, as in {_GREEN}, 0.97M",
        "readout": f"the mean of the GRU's outputs over frames; {_GREEN} takes the last state of each direction, "
        f"{_YADAV} the output at the last frame",
    },
    choices=("convolutions", "readout"),
)
_VGG_LIKE = _sources(
    _LOG_MEL,
    second_hand={
        **dict.fromkeys(
            ("stage_widths", "hidden_dim"),
            f"{_GREEN}, a re-implementation of {_FSD50K}; together they give the published 0.27M parameters",
        ),
        "convolutions": f"3x3, {_PADDED}",
        "pooling": f"maxima over 2x2 between stages; at the end global mean and maximum, side by side: {_BOTH}",
    },
    inferred={"head_activation": f"ReLU between the dense layers; {_GREEN} has none"},
    choices=("convolutions", "pooling", "head_activation"),
)
_STEM = f"a 7x7 convolution and a maximum, both at stride 2, on one channel: {_YADAV}, a re-implementation of {_FSD50K}"
_RESNET18 = _sources(
    _LOG_MEL,
    documented={"body": f"{_FSD50K} names ResNet-18"},
    second_hand={"stem": _STEM},
    choices=("stem",),
)
_DENSENET121 = _sources(
    _LOG_MEL,
    documented={"body": f"{_FSD50K} names DenseNet-121"},
    second_hand={"stem": _STEM},
    choices=("stem",),
)

# --- Verma & Berger, Audio Transformers, and a talk on it by its first author (Stanford CS25, 2021)

_AUDIO = "arXiv:2105.00335v1"
_TALK = "https://www.youtube.com/watch?v=wvE2n8u3drA"
_REPORTED = f"what others report of {_AUDIO}"
_UNKNOWN = f"found in no account of {_AUDIO}"
_ABLATIONS = "results/ablations/ablations.csv"

_TRANSFORMER_LARGE = _sources(
    documented={
        "patch_seconds": f"{_AUDIO}, figure 1",
        "front_end": f"{_AUDIO}, abstract and figure 1",
        **dict.fromkeys(("n_mels", "n_fft", "win_seconds", "hop_seconds"), _WITHOUT_EFFECT),
        **dict.fromkeys(
            ("pool_after", "pool_window", "pool_stride"), f"the plain model has no pooling: {_AUDIO}, abstract"
        ),
        **dict.fromkeys(
            ("multiscale_after", "multiscale_windows", "multiscale_mean"),
            f"the plain model has no averages at several scales: {_AUDIO}, abstract",
        ),
        **dict.fromkeys(("span", "summary"), "without effect, being fields of sparse attention: docs/long.md"),
        "logits_of": f"one answer a chunk: {_AUDIO}, figure 1",
    },
    second_hand={
        "front_end_dim": f"{_TALK} at 41:25 and 44:50",
        "embed_dim": f"{_TALK} at 41:33",
        "depth": _REPORTED,
        "num_heads": _REPORTED,
        "class_token": f"there is none, as {_TALK} at 42:11 is understood",
    },
    inferred={
        **dict.fromkeys(
            ("head_dim", "mlp_dim", "head_hidden_dim"), f"one of the settings that give the size in {_AUDIO}"
        ),
        "norm": f"{_UNKNOWN}; on generated sounds post-norm trains worse: {_ABLATIONS}",
        "input_level": f"{_UNKNOWN}; on generated sounds raw levels train worse: {_ABLATIONS}",
        "position_scale": f"{_UNKNOWN}; on generated sounds 1, the usual one, trains worse: {_ABLATIONS}",
        "attention": f"all tokens attend to all, as in arXiv:1706.03762, section 3.2; {_UNKNOWN}",
        "causal": _UNKNOWN,
        "drop_rate": _UNKNOWN,
        "front_end_activation": f"ReLU after the first dense layer; {_UNKNOWN}",
        "positions": f"sinusoids, added to the tokens, as in arXiv:1706.03762, section 3.5; {_UNKNOWN}",
        "block_activation": f"ReLU, as in arXiv:1706.03762, section 3.3; {_UNKNOWN}",
        "final_norm": f"the sum of pre-norm blocks is normalised once more; {_UNKNOWN}",
        "readout": "the mean over tokens, a hidden layer with ReLU, the logits; what others report is a pooling over "
        f"time and dense layers, {_TALK} at 43:02 a dense layer",
    },
    choices=("class_token", "front_end_activation", "positions", "block_activation", "final_norm", "readout"),
)
_TRANSFORMER_SMALL = _sources(
    _TRANSFORMER_LARGE,
    inferred={
        "front_end_dim": f"the large one's 2,048 alone are more parameters than the 0.9M that {_AUDIO} has",
        "num_heads": f"as many as the large one's; {_UNKNOWN}",
    },
)
_TRANSFORMER_POOLED = _sources(
    _TRANSFORMER_LARGE,
    second_hand={
        "pool_after": f"after every two layers, {_REPORTED}; after the sixth it would change nothing before the mean",
        "pool_window": _REPORTED,
        "pool_mean": f"{_TALK} at 42:29",
    },
    inferred={"pool_stride": f"{_REPORTED} contradicts itself: 'by a factor of 2' and 'a stride of 1'"},
    choices=("pool_mean",),
)
_TRANSFORMER_MULTISCALE = _sources(
    _TRANSFORMER_LARGE,
    second_hand={"multiscale_half": f"half of the dimensions stay as they are: {_TALK} at 40:00"},
    inferred={
        "multiscale_windows": f"{_TALK} at 40:26 has powers of two up to the whole sequence; from 2 on, since with a "
        "window of 1, which averages nothing, more than half would stay as they are",
        "multiscale_after": f"{_TALK} has 'intermediate embeddings' at 38:47 and 'every single layer' at 41:04; taken "
        "where the pooled one pools",
        "multiscale_mean": f"{_TALK} at 40:06 has 'two at a time': of blocks, or of moving windows?",
        "multiscale_groups": f"as many dimensions for each window, in order; {_UNKNOWN}",
    },
    choices=("multiscale_half", "multiscale_groups"),
)

# --- arXiv:2106.16036, on next-sample prediction, which compares with WaveNet (van den Oord et al.)

_NEXT_SAMPLE = "arXiv:2106.16036"
_SAYS_NEXT = f"what others report of {_NEXT_SAMPLE}"
_SAYS_NOT = f"found in no account of {_NEXT_SAMPLE}"
_WAVENET = "arXiv:1609.03499"

_WAVENET_10 = _sources(
    second_hand={
        "channels": _SAYS_NEXT,
        "layers": _SAYS_NEXT,
        "stacks": f"one, and one of three; {_SAYS_NEXT}",
        "kernel": f"of two samples, as {_WAVENET} is understood, section 2.1",
        "gates": f"tanh times sigmoid, {_WAVENET}, section 2.3",
        "skips": f"the sum of all layers' skips through two dense layers, {_WAVENET}, section 2.4",
    },
    inferred={
        "input": f"an embedding of the codes, which is a one-hot input through a dense layer; {_SAYS_NOT}",
        "skip_width": f"as wide as the residuals; {_SAYS_NOT}",
    },
    choices=("kernel", "gates", "skips", "input", "skip_width"),
)
_WAVENET_11 = _sources(
    _WAVENET_10,
    inferred={
        "layers": f"eleven, whose field of 2,048 samples holds the context of 1,600 of {_NEXT_SAMPLE}; not published"
    },
)
_SAMPLE_TRANSFORMER_3 = _sources(
    documented={"condition_seconds": f"the plain model has no condition: {_NEXT_SAMPLE}"},
    second_hand=dict.fromkeys(("embed_dim", "depth", "num_heads", "max_context"), _SAYS_NEXT),
    inferred={
        "mlp_dim": f"four times embed_dim, as in arXiv:1706.03762; {_SAYS_NOT}",
        "position_scale": f"1, as in arXiv:1706.03762, section 3.5; {_SAYS_NOT}",
        "positions": f"sinusoids, added to the tokens, as in arXiv:1706.03762, section 3.5; {_SAYS_NOT}",
        "norm": f"before each part of a block, and once more at the end; {_SAYS_NOT}",
        "block_activation": f"ReLU, as in arXiv:1706.03762, section 3.3; {_SAYS_NOT}",
    },
    choices=("positions", "norm", "block_activation"),
)
_SAMPLE_TRANSFORMER_3_CONDITIONED = _sources(
    _SAMPLE_TRANSFORMER_3,
    second_hand={"condition_seconds": f"a convolutional network over 250 ms, {_SAYS_NEXT}"},
    inferred={
        "condition_layers": f"three convolutions on the codes as a waveform, and the mean over time; {_SAYS_NOT}",
        "condition_joins": f"added to every token; {_SAYS_NOT}",
    },
    choices=("condition_layers", "condition_joins"),
)

# the same layers on a codec's codes: what others report of arXiv:2010.11459 names no size of its causal transformer
_AT_25 = "chosen for 25 codes a second; arXiv:2010.11459 documents no size that could be read"
_CODE_WAVENET = _sources(_WAVENET_10, inferred=dict.fromkeys(("channels", "layers", "stacks"), _AT_25))
_CODE_TRANSFORMER = _sources(
    _SAMPLE_TRANSFORMER_3,
    inferred=dict.fromkeys(("embed_dim", "depth", "num_heads", "max_context", "condition_seconds"), _AT_25),
)

# --- codecs: nothing here is as published, but for how a codebook is learned

_VQ_VAE = "arXiv:1711.00937"
_SOUNDSTREAM = "arXiv:2107.03312"
_LIBRARY = "github.com/lucidrains/vector-quantize-pytorch"
_IN_WAVES = f"{_VQ_VAE} and {_SOUNDSTREAM} are codecs of waveforms; chosen to train in minutes"

_CODEC_KMEANS = _sources(
    second_hand={"codebook": "k-means on an autoencoder's latents, what others report of arXiv:2010.11459"},
    inferred={
        **dict.fromkeys(("width", "latent_dim", "layers"), _IN_WAVES),
        "num_codes": f"8 bits a code; {_VQ_VAE} has 512, {_SOUNDSTREAM} 1,024",
        "stages": f"one: 25 codes a second, where {_SOUNDSTREAM} has up to 24 stages at 75 a second",
    },
    choices=("codebook", "layers"),
)
_CODEC_VQ = _sources(
    _CODEC_KMEANS,
    second_hand={
        "codebook": f"running means that begin with k-means, {_SOUNDSTREAM}, as {_LIBRARY} has it",
        "least_use": f"{_SOUNDSTREAM}, as {_LIBRARY} has it",
        "commitment": f"what others report of {_VQ_VAE}",
    },
    inferred={"decay": f"{_SOUNDSTREAM} has .99, for more steps than minutes have"},
    choices=("codebook",),
)
_CODEC_RESIDUAL = _sources(
    _CODEC_VQ, inferred={"stages": f"the fewest that leave something to the second; {_SOUNDSTREAM} has up to 24"}
)

SOURCES = {
    "codec_kmeans": _CODEC_KMEANS,
    "codec_residual": _CODEC_RESIDUAL,
    "codec_vq": _CODEC_VQ,
    "crnn": _CRNN,
    "vgg_like": _VGG_LIKE,
    "resnet18": _RESNET18,
    "densenet121": _DENSENET121,
    "transformer_small": _TRANSFORMER_SMALL,
    "transformer_large": _TRANSFORMER_LARGE,
    "transformer_pooled": _TRANSFORMER_POOLED,
    "transformer_multiscale": _TRANSFORMER_MULTISCALE,
    "wavenet_10": _WAVENET_10,
    "wavenet_30": _WAVENET_10,
    "wavenet_11": _WAVENET_11,
    "sample_transformer_3": _SAMPLE_TRANSFORMER_3,
    "sample_transformer_3_conditioned": _SAMPLE_TRANSFORMER_3_CONDITIONED,
    "sample_transformer_6": _SAMPLE_TRANSFORMER_3,
    "sample_transformer_8": _SAMPLE_TRANSFORMER_3,
    "code_wavenet": _CODE_WAVENET,
    "code_transformer": _CODE_TRANSFORMER,
}
