"""The architectures: sound in, logits out.

The contract
------------
An architecture is an `nn.Module` made from one frozen config dataclass, and is registered for a task. It knows nothing
of how it is trained or judged.

Of the task `tagging`, `forward` takes `(b, n)` float32 waveforms in [-1, 1] at the config's `sample_rate` and returns
`(b, k)` logits, k being the config's `num_classes`. If it wants a spectrogram, that is its own first layer.

Of the task `next_sample`, `forward` takes `(b, before + n)` int64 codes in 0 to k - 1 and returns `(b, n, k)` logits.
The first `before` samples are condition alone: the config's `condition_samples`, mostly 0. Output t predicts sample
t + 1 of the n, and sees the condition and samples 0 to t. The config is a `NextSampleConfig`, which says how far the
model sees; the model keeps it as `config`. What is also `Stepping` generates without a full pass for each sample.

Of the task `next_code` it is the same, with the codes of a codec, 25 a second, and no condition. The last of the k
classes stands before a clip's first code; a model is given it there, and what it says of it does not count.

Of the task `codec`, `forward` takes `(b, t, k)` float32 frames of a log-mel spectrogram, about -1 to 1, t a multiple of
4, and returns two tensors: the frames as they are rebuilt from codes, `(b, t, k)`, and a loss `()` that is added to the
error of these in training. The config is a `CodecConfig`, the model a `Codec` that keeps it as `config`; what is
`CodecFittedLast` gets its codes when training has ended.

To join: one file with a config, a class that takes it, and `@register` (vgg.py is a short example). In this folder,
`bench list` shows it, every suite runs it, and the checks cover it; from anywhere else `--plugin FILE.py` does, and an
installed package may name its module under the entry point group `bench.architectures`.

Shape letters, used in every file here
--------------------------------------
b  batch        n  samples           t  frames or tokens
f  mel bins     d  embed_dim         k  classes
"""

import importlib
import pkgutil

from architectures._external import contained, failure, load_file, load_installed, package_of, source_text
from architectures._registry import (
    ArchitectureConfig,
    Codec,
    CodecConfig,
    CodecFittedLast,
    ConfigError,
    NextSampleConfig,
    Published,
    PublishedFigures,
    PublishedNextSample,
    Stepping,
    config_values,
    configure,
    create,
    get_architecture,
    later,
    list_architectures,
    register,
)
from architectures._source import plugin_root, text_digest
from architectures._weights import (
    WeightsError,
    is_finite,
    misfit,
    pass_on,
    require_dense,
    require_weights,
    unlike,
    weights_bytes,
)

__all__ = [
    "ArchitectureConfig", "Codec", "CodecConfig", "CodecFittedLast", "ConfigError", "NextSampleConfig", "Published",
    "PublishedFigures", "PublishedNextSample", "Stepping", "WeightsError", "config_values", "configure", "contained",
    "create", "failure", "get_architecture", "is_finite", "later", "list_architectures", "load_file", "misfit",
    "package_of", "pass_on", "plugin_root", "register", "require_dense", "require_weights", "source_text",
    "text_digest", "unlike", "weights_bytes",
]  # fmt: skip

# Every other file of this folder is imported, so that a new one joins without an edit here. These two only use the
# registry, and need not be loaded before someone asks for them.
for _module in pkgutil.iter_modules(__path__):
    if _module.name.startswith("_") or _module.name in ("checks", "template"):
        continue
    try:
        importlib.import_module(f"{__name__}.{_module.name}")
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"architectures/{_module.name}.py: {type(error).__name__}: {reason}") from error

# last, so that a package which takes one of our names is the one that is refused
load_installed()
