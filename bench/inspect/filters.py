"""What the learned front end of a run listens to: its first layer as a bank of filters, before and after training.

A run folder gets filters.csv, a line for each state and filter, and filters.npz, the responses and the strongest
filters' shapes; bench.reporting.filters concludes from these two alone.
"""

from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from architectures import configure
from bench.data.audio import CHUNK_SECONDS
from bench.data.pack import Pack
from bench.errors import UserError
from bench.inspect.hooks import hooked
from bench.protocol.batches import Batches
from bench.protocol.evaluate import evaluation_batch_size
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import task_of
from bench.reporting.filters import COLUMNS, FLOOR_DB, STATES, STEP_DB, summarise
from bench.runner.weights import begin, load_model, require_waveforms, start_folder
from bench.store import RunFolder
from bench.store.files import write_arrays, write_table

__all__ = ["band", "first_layer", "measure", "measure_bank", "measure_filters", "write_filters"]

Array = npt.NDArray[np.float64]
Layer: TypeAlias = nn.Linear | nn.Conv1d

# zero-padded, so that a maximum between two bins of a short filter is found where it is
_FFT_POINTS = 4096
# of a stored response
_BANDS = 200
_STRONGEST = 16
# a filter is dead if its norm is below this share of the median norm
_DEAD = 0.01


def measure_filters(folder: RunFolder, pack: Pack | None = None) -> dict[str, Any]:
    """Measure a run's first layer and write filters.csv and filters.npz; return what `summarise` says of them.

    With the run's pack, also how often each filter fires on val. Of a run that started from the weights of another,
    `untrained` is that start, which the title names. Raises UserError for no finished run, no or damaged
    weights, another pack, or a first layer that is no bank of filters.
    """
    record = folder.record()
    spec = record.spec
    if pack is not None and pack.fingerprint != spec.pack:
        raise UserError(f"{pack.folder}: not the pack that {folder.path} was trained on; give that one, or none")
    trained = load_model(folder, record, torch.device("cpu"))
    require_waveforms(folder, record)
    untrained, start = begin(spec, start_folder(folder, record), torch.device("cpu"))
    title = f"{spec.name}, seed {spec.seed}" + (f", from {start.record.spec.name}" if start else "")
    # whatever was learned of them
    chunks = None if pack is None else Batches(pack, "val", pack.targets("val"), _heard(spec, pack.sample_rate))
    try:
        # made by now, so that it is a config; run.json of an older architecture may lack what has a default
        table, arrays = measure(untrained, trained, configure(spec.architecture, **spec.config).sample_rate, chunks)
    except UserError as error:
        raise UserError(f"{folder.path}: {spec.name} {error}") from None
    write_filters(folder, title, table, arrays)
    return summarise(folder)


def _heard(spec: RunSpec, sample_rate: int) -> Recipe:
    """Return a run's recipe, with chunks as long as what its model was given where its task decides that."""
    task = task_of(spec)
    if "chunk_seconds" not in task.without:
        return spec.recipe
    return spec.recipe.model_copy(update={"chunk_seconds": task.size(spec.recipe, sample_rate) / sample_rate})


def write_filters(folder: RunFolder, title: str, table: pd.DataFrame, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write what `measure` gives; the same measurements are the same bytes."""
    write_arrays(folder.filters_arrays, {"title": np.array(title), **arrays})
    write_table(folder.filters_table, table, float_format="%.6g")


def measure(
    untrained: nn.Module, trained: nn.Module, sample_rate: int, chunks: Batches | None = None
) -> tuple[pd.DataFrame, dict[str, npt.NDArray[Any]]]:
    """Return the table for filters.csv and the arrays for filters.npz, from one model in two states."""
    tables, banks = [], {}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for state, model in zip(STATES, (untrained, trained), strict=True):
        name, layer = first_layer(model, sample_rate)
        banks[state] = _bank_of(layer)
        fires = None if chunks is None else _share_of_firing(model, layer, chunks)
        lines = measure_bank(banks[state], banks["untrained"], sample_rate, fires)
        tables.append(lines.assign(state=state)[list(COLUMNS)])
        gain = lines.loc[~lines["dead"], "gain"]
        strongest = gain.sort_values(ascending=False, kind="stable").index.to_numpy()[:_STRONGEST]
        arrays |= {
            "layer": np.array(name),
            "sample_rate": np.array(sample_rate),
            "taps": np.array(banks[state].shape[1]),
            f"{state}_steps": _quantise(_power_responses(banks[state])),
            f"{state}_strongest": strongest,
            f"{state}_shapes": banks[state][strongest].astype(np.float16),
        }
    return pd.concat(tables, ignore_index=True), arrays


def measure_bank(bank: Array, before: Array, sample_rate: int, fires: Array | None = None) -> pd.DataFrame:
    """Return a line for each filter of a bank (filters, taps); `before` is the same bank untrained.

    peak_hz         frequency of the maximum of the magnitude response, to within sample_rate / 8192
    bandwidth_hz    width of the band around it in which the response is above -3 dB; it ends at 0 Hz and Nyquist
    gain            Euclidean norm
    change          norm of the difference from `before`, as a share of the norm of `before`
    fires           share of patches on which the unit's input is positive; NaN where that was not counted
    dead            gain below 1% of the median, or never fires; a filter of zeros has no maximum: NaN
    rank            place in the order of peak_hz, ties by number; the dead come last
    """
    power = _power_responses(bank)
    step = sample_rate / 2 / (power.shape[1] - 1)  # Hz
    bands = np.array([band(response) for response in power])  # (filters, 2)
    gain, gain_before = np.linalg.norm(bank, axis=1), np.linalg.norm(before, axis=1)
    none = np.full(len(bank), np.nan)
    table = pd.DataFrame(
        {
            "filter": np.arange(len(bank)),
            "peak_hz": np.where(gain > 0, step * power.argmax(axis=1), np.nan),
            "bandwidth_hz": step * (bands[:, 1] - bands[:, 0]),
            "in_band": [_share_within(response, *ends) for response, ends in zip(power, bands, strict=True)],
            "gain": gain,
            "change": np.divide(np.linalg.norm(bank - before, axis=1), gain_before, out=none, where=gain_before > 0),
            "fires": np.nan if fires is None else fires,
        }
    )
    table["dead"] = (gain <= _DEAD * np.median(gain)) | (table["fires"] == 0)
    # stable: ties stay by number
    return table.assign(rank=np.argsort(np.lexsort((table["peak_hz"], table["dead"]))))


def _power_responses(bank: Array) -> Array:
    """Return squared magnitudes from 0 Hz to Nyquist: (filters, taps) -> (filters, bins)."""
    # at least twice the taps
    points = max(_FFT_POINTS, 1 << (2 * bank.shape[1] - 1).bit_length())
    return np.abs(np.fft.rfft(bank, points)) ** 2


def band(power: Array) -> tuple[float, float]:
    """Return both ends, in bins, of the -3 dB band around the maximum of a response (bins,), interpolated in dB."""
    peak, half = int(power.argmax()), power.max() / 2
    if not half:
        return np.nan, np.nan
    return peak - _reach(power[peak::-1], half), peak + _reach(power[peak:], half)


def _share_within(power: Array, low: float, high: float) -> float:
    return np.nan if np.isnan(low) else float(power[int(np.ceil(low)) : int(high) + 1].sum() / power.sum())


def _reach(power: Array, half: float) -> float:
    """Return how many bins from the first one the response falls to `half`; to the edge if it does not."""
    below = np.flatnonzero(power < half)
    if not len(below):
        return len(power) - 1.0
    inside, outside = np.log(np.maximum(power[below[0] - 1 : below[0] + 1], np.finfo(float).tiny))
    return float(below[0] - 1 + (inside - np.log(half)) / (inside - outside))


def _quantise(power: Array) -> npt.NDArray[np.uint8]:
    """Return responses as steps below each filter's maximum, in 200 bands of equal width: (filters, bins) -> uint8."""
    edges = np.arange(_BANDS) * power.shape[1] // _BANDS
    # of each band the maximum counts, so that a narrow peak does not fall between two of them
    bands = np.maximum.reduceat(power, edges, axis=1)
    highest = bands.max(axis=1, keepdims=True)
    ratios = np.divide(bands, highest, out=np.zeros_like(bands), where=highest > 0)
    decibels = 10 * np.log10(np.maximum(ratios, np.finfo(float).tiny))
    return np.rint(np.maximum(decibels, FLOOR_DB) / -STEP_DB).astype(np.uint8)


def first_layer(model: nn.Module, sample_rate: int) -> tuple[str, Layer]:
    """Return name and module of the first layer with parameters, a bank of filters on raw samples; else UserError."""
    # which one that is, and what it is given, is asked of a forward pass over noise; after a module ran, so that its
    # parts come before itself, should it have parameters of its own
    met: list[tuple[nn.Module, Tensor]] = []
    names = {module: name for name, module in model.named_modules() if list(module.parameters(recurse=False))}
    noise = torch.randn(1, CHUNK_SECONDS * sample_rate, generator=torch.Generator().manual_seed(0))
    with hooked(model, names, lambda module, inputs, _: met.append((module, inputs[0]))):
        model(noise)
    if not met:
        raise UserError("has no layer with parameters, and so no filters")
    module, given = met[0]
    begins = f"begins with {type(module).__name__} ({names[module]})"
    wanted = "`bench filters` works for a Linear or Conv1d layer with one input channel on raw samples"
    if isinstance(module, nn.Conv1d) and module.in_channels == 1:
        excerpt = given.flatten()[: max(64, module.kernel_size[0])]
    elif isinstance(module, nn.Linear):
        excerpt = given.reshape(-1, module.in_features)[0]
    else:
        raise UserError(f"{begins}: {wanted}")
    if not _is_excerpt(excerpt.numpy().astype(np.float64), noise[0].numpy().astype(np.float64)):
        raise UserError(f"{begins}, which is not given raw samples: {wanted}")
    return names[module], module


def _is_excerpt(excerpt: Array, wave: Array) -> bool:
    """Return whether `excerpt` is a piece of `wave`, up to its level: at the best place they correlate by 1."""
    energy = np.convolve(wave**2, np.ones(len(excerpt)), "valid") * (excerpt @ excerpt)
    return bool((np.correlate(wave, excerpt, "valid") ** 2 > 0.98 * energy).any())


def _bank_of(layer: Layer) -> Array:
    """Return a layer's weight as (filters, taps); a dilated convolution's taps with the zeros between them."""
    weight: Array = layer.weight.detach().flatten(1).cpu().numpy().astype(np.float64)
    dilation = layer.dilation[0] if isinstance(layer, nn.Conv1d) else 1
    bank = np.zeros((len(weight), dilation * (weight.shape[1] - 1) + 1))
    bank[:, ::dilation] = weight
    return bank


class _Heard(Exception):
    """Raised to leave a forward pass once the first layer has run."""


def _share_of_firing(model: nn.Module, layer: Layer, chunks: Batches) -> Array:
    """Return on which share of all patches each filter's output, before the activation, is positive: (filters,)."""
    fired, patches = torch.zeros(len(layer.weight), dtype=torch.int64), 0

    def count(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal patches
        units = output.movedim(1, -1) if isinstance(layer, nn.Conv1d) else output
        positive = units.reshape(-1, len(fired)) > 0
        fired.add_(positive.sum(dim=0).cpu())
        patches += len(positive)
        # the rest of the model would only take time
        raise _Heard

    with hooked(model, [layer], count):
        for ids in chunks.in_order(evaluation_batch_size(chunks.device)):
            with suppress(_Heard):
                model(chunks.waveforms(ids))
    return (fired / patches).numpy().astype(np.float64)
