"""Where the heads of a trained audio transformer look on a sound: their weights, computed anew from their inputs."""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures.audio_transformer import Attention, AudioTransformer, AudioTransformerConfig
from architectures.layers import LogMelTokens
from bench.data.audio import CHUNK_SECONDS, Samples, blocks, packed_length, probe_file, spectrogram_of, windows
from bench.data.dataset import AudioError
from bench.errors import UserError
from bench.inspect.hooks import hooked
from bench.protocol.precision import fp32_means_fp32
from bench.protocol.recipe import Recipe
from bench.protocol.task import task_of
from bench.reporting.attention import Array, Block, Listening
from bench.reporting.figures.spectrograms import PIXELS
from bench.runner.weights import load_model, require_waveforms
from bench.store import RunFolder

__all__ = ["listen", "measure_blocks", "token_times"]

# of a map, at most: what a figure has room for
_CELLS = 128


def listen(folder: RunFolder, file: Path, second: float = 0.0) -> Listening:
    """Measure where a run's model looks on the chunk of a sound that begins at `second`.

    Raises UserError for no finished run, no or damaged weights, a model that is no AudioTransformer, a file that cannot
    be read, or a chunk that is not within it.
    """
    record = folder.record()
    spec = record.spec
    fp32_means_fp32()
    model = load_model(folder, record, torch.device("cpu")).eval()
    require_waveforms(folder, record)
    if not isinstance(model, AudioTransformer):
        what = "`bench attention` works for the audio transformers of architectures/audio_transformer.py"
        raise UserError(f"{folder.path}: {spec.name} is a {type(model).__name__}: {what}")
    sample_rate = model.config.sample_rate
    try:
        chunk = _chunk(file, second, task_of(spec).size(spec.recipe, sample_rate), spec.recipe, sample_rate)
    except AudioError as error:
        raise UserError(f"{file}: {error}") from None
    except OSError as error:
        raise UserError(f"{file}: unreadable: {error.strerror or error}") from None
    return Listening(
        file=file,
        model=f"{spec.name}, seed {spec.seed}",
        second=second,
        seconds=len(chunk) / sample_rate,
        sample_rate=sample_rate,
        power=spectrogram_of([chunk], len(chunk), sample_rate, PIXELS),
        blocks=measure_blocks(model, torch.from_numpy(chunk.astype(np.float32) / 32768)),
    )


def _chunk(file: Path, second: float, size: int, recipe: Recipe, sample_rate: int) -> Samples:
    """Return a chunk as an evaluation cuts it: (size,); a file that is shorter is repeated, or filled up with zeros."""
    info = probe_file(file)
    least = max(CHUNK_SECONDS, size / sample_rate)
    real, length = packed_length(info, sample_rate, 0), packed_length(info, sample_rate, least)
    start = round(second * sample_rate) if np.isfinite(second) else -1
    if not 0 <= start <= length - size:
        # rounded down, so that it may be given
        last = 100 * (length - size) // sample_rate / 100
        raise UserError(
            f"--second {second:g}: {file} lasts {info.seconds:.2f} s, of which the model hears "
            f"{size / sample_rate:g} s at once; give 0 to {last:.2f}"
        )
    pieces = blocks(file, sample_rate, least, info)
    (chunk,) = next(windows(pieces, np.array([start]), size))
    chunk = chunk.copy()
    if recipe.short_clips == "zeros":
        chunk[max(real - start, 0) :] = 0
    return chunk


def measure_blocks(model: AudioTransformer, waveform: Tensor) -> list[Block]:
    """Return what the heads of every block do on one waveform: (n,) float in [-1, 1]."""
    found: list[Block] = []
    modules = [module for module in model.modules() if isinstance(module, Attention)]

    def measure(module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        assert isinstance(module, Attention)
        # one block at a time: of long chunks all weights together would not fit
        found.append(_measure(module, inputs[0], *token_times(model.config, len(found))))

    with hooked(model, modules, measure):
        model(waveform.unsqueeze(0))
    return found


def token_times(config: AudioTransformerConfig, block: int) -> tuple[float, float]:
    """Return where the centre of a block's first token is and the time to the next one, in seconds; blocks from 0."""
    if config.front_end == "log_mel":
        # frames are centred on multiples of the hop
        hop = config.hop_length / config.sample_rate
        first, spacing = (LogMelTokens.frames - 1) / 2 * hop, LogMelTokens.frames * hop
    else:
        spacing = config.patch_size / config.sample_rate
        first = spacing / 2
    for _ in range(sum(after <= block for after in config.pool_after)):
        first += (config.pool_window - 1) / 2 * spacing
        spacing *= config.pool_stride
    return first, spacing


def _measure(module: Attention, x: Tensor, first: float, spacing: float) -> Block:
    """Measure the heads of one block, given its input (1, t, d)."""
    t = x.shape[1]
    times = spacing * torch.arange(t, dtype=torch.float64)
    apart = (times.unsqueeze(0) - times.unsqueeze(1)).abs()
    # where all tokens are alike, a head weighs alike whatever it may see; both (heads, t, t)
    even, weights = module.weights(torch.zeros_like(x))[0], module.weights(x)[0]
    even_distance, even_entropy = _means(even, apart)
    distance, entropy = _means(weights, apart)
    cells, moments = min(t, _CELLS), min(t, PIXELS)
    return Block(
        tokens=t,
        first=first,
        spacing=spacing,
        distance=distance,
        entropy=entropy,
        even_distance=even_distance,
        even_entropy=even_entropy,
        maps=_multiples(F.adaptive_avg_pool2d(weights, cells), F.adaptive_avg_pool2d(even, cells)),
        received=_multiples(*(F.adaptive_avg_pool1d(each.mean(dim=1), moments) for each in (weights, even))),
    )


def _multiples(weights: Tensor, even: Tensor) -> Array:
    """Return weights as multiples of even ones; NaN where there are none, since a head may not see there."""
    return torch.where(even > 0, weights / even, torch.nan).double().numpy()


def _means(weights: Tensor, apart: Tensor) -> tuple[Array, Array]:
    """Return means over queries, of the expected distance and of the entropy in bits.

    (heads, t, t), (t, t) -> twice (heads,). Of weights that are 0 nothing is taken: 0 log 0 is 0.
    """
    distance, entropy = np.empty(len(weights)), np.empty(len(weights))
    # a head at a time: of thousands of tokens all of them, in float64, take gigabytes
    for head, of_head in enumerate(weights):
        exact = of_head.double()
        distance[head] = (exact * apart).sum(dim=-1).mean()
        entropy[head] = -torch.special.xlogy(exact, exact).sum(dim=-1).mean() / math.log(2)
    return distance, entropy
