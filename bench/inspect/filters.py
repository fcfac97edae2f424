"""What the learned front end of a run listens to: its first layer as a bank of filters, before and after training.

A run folder gets filters.csv, a line for each state and filter, and filters.npz, the responses and the strongest
filters' shapes; bench.reporting.figures.filters draws and concludes from these two alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.data.audio import CHUNK_SECONDS
from bench.data.pack import Pack
from bench.errors import UserError
from bench.reporting.figures.filters import COLUMNS, FLOOR_DB, STATES, STEP_DB, summarise

if TYPE_CHECKING:  # a bank is measured without torch; what needs a model imports it there
    from torch import Tensor, nn

    from bench.protocol.batches import Chunks

    Layer: TypeAlias = nn.Linear | nn.Conv1d

Array = npt.NDArray[np.float64]

FFT_POINTS = 4096  # zero-padded, so that a maximum between two bins of a short filter is found where it is
BANDS = 200  # of a stored response
STRONGEST = 16
DEAD = 0.01  # a filter is dead if its norm is below this share of the median norm


def measure_filters(folder: Path, pack: Pack | None = None) -> dict[str, Any]:
    """Measure a run's first layer and write filters.csv and filters.npz; returns bench.reporting.figures.filters.summarise.

    Args:
        folder: a run folder, with run.json and model.safetensors.
        pack: the run's pack; given, it is also counted how often each filter fires on val.

    Raises:
        UserError: no finished run, no or damaged weights, another pack, or a first layer that is no bank of filters.
    """
    import torch

    from bench.protocol.build import build
    from bench.runner.weights import load_model, read_run

    run, spec = read_run(folder)
    if pack is not None and pack.fingerprint != spec.pack:
        raise UserError(f"{pack.folder}: not the pack that {folder} was trained on; give that one, or none")
    trained = load_model(folder, run, spec, torch.device("cpu"))
    untrained = build(spec, torch.device("cpu"))
    chunks = None
    if pack is not None:
        from bench.protocol.batches import chunks_of

        chunks = chunks_of(pack, "val", spec.recipe)
    try:
        table, arrays = measure(untrained, trained, spec.config["sample_rate"], chunks)
    except UserError as error:
        raise UserError(f"{folder}: {spec.name} {error}") from None
    write_filters(folder, f"{spec.name}, seed {spec.seed}", table, arrays)
    return summarise(folder)


def write_filters(folder: Path, title: str, table: pd.DataFrame, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write what `measure` gives; the same measurements are the same bytes (numpy dates what it zips 1980)."""
    np.savez_compressed(folder / "filters.npz", allow_pickle=False, title=np.array(title), **arrays)
    table.to_csv(folder / "filters.csv", index=False, float_format="%.6g", lineterminator="\n")


def measure(
    untrained: "nn.Module", trained: "nn.Module", sample_rate: int, chunks: "Chunks | None" = None
) -> tuple[pd.DataFrame, dict[str, npt.NDArray[Any]]]:
    """The table for filters.csv and the arrays for filters.npz, from one model in two states.

    Raises:
        UserError: the first layer with parameters is no bank of filters on raw samples.
    """
    tables, banks = [], {}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for state, model in zip(STATES, (untrained, trained), strict=True):
        name, layer = first_layer(model, sample_rate)
        banks[state] = filters_of(layer)
        fires = None if chunks is None else share_of_firing(model, layer, chunks)
        rows = measure_bank(banks[state], banks["untrained"], sample_rate, fires)
        tables.append(rows.assign(state=state)[list(COLUMNS)])
        gain = rows.loc[~rows["dead"], "gain"]
        strongest = gain.sort_values(ascending=False, kind="stable").index.to_numpy()[:STRONGEST]
        arrays |= {
            "layer": np.array(name),
            "sample_rate": np.array(sample_rate),
            "taps": np.array(banks[state].shape[1]),
            f"{state}_steps": quantise(power_responses(banks[state])),
            f"{state}_strongest": strongest,
            f"{state}_shapes": banks[state][strongest].astype(np.float16),
        }
    return pd.concat(tables, ignore_index=True), arrays


def measure_bank(bank: Array, before: Array, sample_rate: int, fires: Array | None = None) -> pd.DataFrame:
    """A row for each filter of a bank (filters, taps); `before` is the same bank untrained.

    peak_hz         frequency of the maximum of the magnitude response, to within sample_rate / 8192
    bandwidth_hz    width of the band around it in which the response is above -3 dB; it ends at 0 Hz and Nyquist
    gain            Euclidean norm
    change          norm of the difference from `before`, as a share of the norm of `before`
    fires           share of patches on which the unit's input is positive; NaN where that was not counted
    dead            gain below 1% of the median, or never fires; a filter of zeros has no maximum: NaN
    rank            place in the order of peak_hz, ties by number; the dead come last
    """
    power = power_responses(bank)
    step = sample_rate / 2 / (power.shape[1] - 1)  # Hz
    bands = np.array([band(row) for row in power])  # (filters, 2)
    gain, gain_before = np.linalg.norm(bank, axis=1), np.linalg.norm(before, axis=1)
    none = np.full(len(bank), np.nan)
    rows = pd.DataFrame(
        {
            "filter": np.arange(len(bank)),
            "peak_hz": np.where(gain > 0, step * power.argmax(axis=1), np.nan),
            "bandwidth_hz": step * (bands[:, 1] - bands[:, 0]),
            "in_band": [share_within(row, *ends) for row, ends in zip(power, bands, strict=True)],
            "gain": gain,
            "change": np.divide(np.linalg.norm(bank - before, axis=1), gain_before, out=none, where=gain_before > 0),
            "fires": np.nan if fires is None else fires,
        }
    )
    rows["dead"] = (gain <= DEAD * np.median(gain)) | (rows["fires"] == 0)
    order = np.lexsort((rows["peak_hz"], rows["dead"]))  # stable: ties stay by number
    rows["rank"] = np.argsort(order)
    return rows


def power_responses(bank: Array) -> Array:
    """Squared magnitude from 0 Hz to Nyquist: (filters, taps) -> (filters, bins)."""
    points = max(FFT_POINTS, 1 << (2 * bank.shape[1] - 1).bit_length())  # at least twice the taps
    power: Array = np.abs(np.fft.rfft(bank, points)) ** 2
    return power


def band(power: Array) -> tuple[float, float]:
    """Both ends, in bins, of the -3 dB band around the maximum of a response (bins,), interpolated in dB."""
    peak, half = int(power.argmax()), power.max() / 2
    if not half:
        return np.nan, np.nan
    return peak - _reach(power[peak::-1], half), peak + _reach(power[peak:], half)


def share_within(power: Array, low: float, high: float) -> float:
    """Share of a response's energy between two bins, from the bins between them."""
    if np.isnan(low):
        return np.nan
    return float(power[int(np.ceil(low)) : int(high) + 1].sum() / power.sum())


def _reach(power: Array, half: float) -> float:
    """How many bins from the first one the response falls to `half`; to the edge if it does not."""
    below = np.flatnonzero(power < half)
    if not len(below):
        return len(power) - 1.0
    inside, outside = np.log(np.maximum(power[below[0] - 1 : below[0] + 1], np.finfo(float).tiny))
    return float(below[0] - 1 + (inside - np.log(half)) / (inside - outside))


def quantise(power: Array) -> npt.NDArray[np.uint8]:
    """Responses as steps below each filter's maximum, in BANDS bands of equal width: (filters, bins) -> uint8.

    Of each band the maximum counts, so that a narrow peak does not fall between two of them.
    """
    edges = np.arange(BANDS) * power.shape[1] // BANDS
    bands = np.maximum.reduceat(power, edges, axis=1)
    highest = bands.max(axis=1, keepdims=True)
    ratios = np.divide(bands, highest, out=np.zeros_like(bands), where=highest > 0)
    decibels = 10 * np.log10(np.maximum(ratios, np.finfo(float).tiny))
    return np.rint(np.maximum(decibels, FLOOR_DB) / -STEP_DB).astype(np.uint8)


def first_layer(model: "nn.Module", sample_rate: int) -> "tuple[str, Layer]":
    """Name and module of the layer with parameters that runs first, if it is a bank of filters on raw samples.

    Which one that is, and what it is given, is asked of a forward pass over noise.

    Raises:
        UserError: it is anything else (the message lacks the model's name).
    """
    import torch
    from torch import nn

    met: list[tuple[str, nn.Module, Tensor]] = []
    hooks = [
        # after a module ran: its parts come before itself, should it have parameters of its own
        module.register_forward_hook(lambda module, inputs, _, name=name: met.append((name, module, inputs[0])))
        for name, module in model.named_modules()
        if list(module.parameters(recurse=False))
    ]
    noise = torch.randn(1, CHUNK_SECONDS * sample_rate, generator=torch.Generator().manual_seed(0))
    was_training = model.training
    try:
        with torch.inference_mode():
            model.eval()(noise)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    if not met:
        raise UserError("has no layer with parameters, and so no filters")
    name, module, given = met[0]
    wanted = "`bench filters` works for a Linear or Conv1d layer with one input channel on raw samples"
    if isinstance(module, nn.Conv1d) and module.in_channels == 1:
        row = given.flatten()[: max(64, module.kernel_size[0])]
    elif isinstance(module, nn.Linear):
        row = given.reshape(-1, module.in_features)[0]
    else:
        raise UserError(f"begins with {type(module).__name__} ({name}): {wanted}")
    if not _is_excerpt(row.numpy().astype(np.float64), noise[0].numpy().astype(np.float64)):
        raise UserError(f"begins with {type(module).__name__} ({name}), which is not given raw samples: {wanted}")
    return name, module


def _is_excerpt(row: Array, wave: Array) -> bool:
    """Whether `row` is a piece of `wave`, up to its level: their normalised correlation at the best place is 1."""
    energy = np.convolve(wave**2, np.ones(len(row)), "valid") * (row @ row)
    return bool((np.correlate(wave, row, "valid") ** 2 > 0.98 * energy).any())


def filters_of(layer: "Layer") -> Array:
    """A layer's weight as (filters, taps); a dilated convolution's taps with the zeros between them."""
    weight: Array = layer.weight.detach().cpu().numpy().astype(np.float64)
    weight = weight.reshape(len(weight), -1)
    dilation = getattr(layer, "dilation", (1,))[0]
    bank = np.zeros((len(weight), dilation * (weight.shape[1] - 1) + 1))
    bank[:, ::dilation] = weight
    return bank


class _Heard(Exception):
    """Raised to leave a forward pass once the first layer has run."""


def share_of_firing(model: "nn.Module", layer: "Layer", chunks: "Chunks") -> Array:
    """On which share of all patches of `chunks` each filter's output, before the activation, is positive: (filters,).

    The model is left in the mode it was in.
    """
    import torch

    from bench.protocol.evaluate import CPU_BATCH_SIZE

    fired, patches = torch.zeros(len(layer.weight), dtype=torch.int64), 0

    def count(_layer: "nn.Module", _inputs: object, output: "Tensor") -> None:
        nonlocal patches
        units = output.movedim(1, -1) if isinstance(layer, torch.nn.Conv1d) else output
        positive = units.reshape(-1, len(fired)) > 0
        fired.add_(positive.sum(dim=0).cpu())
        patches += len(positive)
        raise _Heard  # the rest of the model would only take time

    was_training = model.training
    hook = layer.register_forward_hook(count)
    try:
        with torch.inference_mode():
            model.eval()
            for ids in chunks.in_order(CPU_BATCH_SIZE):
                try:
                    model(chunks.waveforms(ids))
                except _Heard:
                    continue
    finally:
        hook.remove()
        model.train(was_training)
    share: Array = (fired / patches).numpy().astype(np.float64)
    return share
