"""A trained model on any sound file: what it hears, second by second."""

import errno
import hashlib
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from architectures import configure
from bench.data.audio import CHUNK_SECONDS, Samples, blocks, packed_length, probe_file, sound_files, windows
from bench.data.dataset import AudioError, AudioInfo, Progress
from bench.errors import UserError
from bench.protocol.batches import chunk_size, chunk_starts, chunk_weights
from bench.protocol.evaluate import evaluation_batch_size, mean_of_highest
from bench.protocol.precision import fp32_means_fp32
from bench.protocol.task import get_task
from bench.reporting.tags import Tags
from bench.runner.weights import load_model, require_waveforms, weights_folder
from bench.schema import digest
from bench.store import ResultsFolder, RunFolder

__all__ = ["Tagger", "cause_of", "probe_files"]

# what the system says of every file where it has run out of something
_OF_ALL_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)


def probe_files(
    paths: Iterable[Path], progress: Progress = lambda *_: None
) -> tuple[dict[Path, AudioInfo], dict[Path, AudioError]]:
    """Probe files, and of folders all sound files in them at any depth; one that is named twice counts once.

    Returns what was found, and what is wrong with the others, in their order. `progress` counts files.
    """
    files: dict[str, Path] = {}
    for path in paths:
        # a folder without any is itself what is wrong
        for file in (sound_files(path) if path.is_dir() else []) or [path]:
            files.setdefault(os.path.abspath(file), file)
    infos, errors = {}, {}
    for done, file in enumerate(files.values(), 1):
        try:
            infos[file] = probe_file(file)
        except (AudioError, OSError) as error:
            errors[file] = cause_of(error)
        progress(done, len(files))
    return infos, errors


def cause_of(error: AudioError | OSError) -> AudioError:
    """Return why a file cannot be heard; what would be so of the next one too, for want of handles, is raised."""
    if isinstance(error, AudioError):
        return error
    if error.errno in _OF_ALL_FILES:
        raise error
    return AudioError(f"unreadable: {error.strerror or error}")


class Tagger:
    """The model of a run. It decodes, cuts and scores a file as packing and evaluation do a clip of eval."""

    def __init__(self, folder: RunFolder, device: torch.device) -> None:
        """Load a run's model. Raises UserError for no finished run, weights or labels.npz, or damaged ones."""
        record, results = folder.record(), ResultsFolder(folder.path.parent)
        labels = results.labels_file
        if not labels.is_file():
            raise UserError(f"{labels}: missing; the names of the classes stand in it: keep it beside the run's folder")
        known = results.labels()
        if known.dataset != record.dataset:
            fix = "move the run's folder back to where it was made"
            raise UserError(f"{labels}: of other data than {folder.path}; {fix}")
        self.folder, self.spec, self.classes, self.device = folder, record.spec, known.classes, device
        self.name = f"{self.spec.name}, seed {self.spec.seed}"
        fp32_means_fp32()
        self.model = load_model(folder, record, device).eval()
        require_waveforms(folder, record)
        # as many codes as there are classes would be taken for these
        if "chunk_seconds" in get_task(self.spec.task).without:
            raise UserError(f"{folder.path}: of task {self.spec.task}, which has no classes; give a run of tagging")
        config = configure(self.spec.architecture, **self.spec.config)
        if config.num_classes != len(self.classes):
            fix = "put that of its results folder beside it"
            raise UserError(f"{labels}: {len(self.classes)} classes, the model has {config.num_classes}; {fix}")
        self.sample_rate = config.sample_rate
        self.weights = weights_folder(folder, record).weights_file
        # seconds; shorter files are repeated, by packing or by cutting, or filled up with zeros
        self.least = max(CHUNK_SECONDS, self.spec.recipe.chunk_seconds)
        self.activation = get_task(self.spec.task).activation

    @cached_property
    def identity(self) -> str:
        """A digest of all that decides a file's scores: the run's settings, its weights, the names of its classes."""
        with self.weights.open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
        return digest({"run": self.spec.hash, "weights": weights, "classes": self.classes})

    def tag(self, file: Path, info: AudioInfo, progress: Progress = lambda *_: None) -> Tags:
        """Score a file's chunks, cut as the recipe says.

        Raises AudioError where it is broken behind its header, UserError if the model gives no numbers.
        """
        return self._tag(file, info, blocks(file, self.sample_rate, self.least, info), progress)

    def tag_clip(self, name: str, samples: Samples) -> Tags:
        """Score a clip of a pack at the model's sample rate as `tag` does a file; `samples` are not yet repeated."""
        info = AudioInfo(len(samples), self.sample_rate)
        return self._tag(Path(name), info, [self.repeated(samples)])

    def repeated(self, samples: Samples) -> Samples:
        """Return a clip's samples, repeated up to what the model hears at once."""
        length = packed_length(AudioInfo(len(samples), self.sample_rate), self.sample_rate, self.least)
        return np.resize(samples, length)

    @torch.inference_mode()
    def _tag(
        self, file: Path, info: AudioInfo, pieces: Iterable[Samples], progress: Progress = lambda *_: None
    ) -> Tags:
        recipe, real = self.spec.recipe, packed_length(info, self.sample_rate, 0)
        size, hop = chunk_size(recipe, self.sample_rate), round(recipe.eval_hop * self.sample_rate)
        fills = recipe.short_clips == "zeros"
        length = max(real, size) if fills else packed_length(info, self.sample_rate, self.least)
        clip, starts = chunk_starts(np.array([0]), np.array([length]), size, hop)
        weights = torch.ones(len(starts), dtype=torch.float64)
        if recipe.last_chunk_weight == "new_samples":
            weights = torch.from_numpy(chunk_weights(clip, starts, hop)).double()
        batch_size = evaluation_batch_size(self.device)
        # one array from the start: small ones, kept between the large ones of the batches, would let memory grow
        scores, done = np.empty((len(starts), len(self.classes)), dtype=np.float32), 0
        sum_of_logits = torch.zeros(len(self.classes), dtype=torch.float64)
        try:
            for chunks in windows(pieces, starts, size):
                if fills:
                    chunks[:, real:] = 0
                for x in torch.from_numpy(chunks).split(batch_size):
                    logits = self.model(x.to(self.device).float() / 32768).float()
                    scores[done : done + len(x)] = self.activation(logits).cpu()
                    sum_of_logits += weights[done : done + len(x)] @ logits.cpu().double()
                    done += len(x)
                    if len(starts) > batch_size:
                        progress(done, len(starts))
        except OSError as error:
            raise cause_of(error) from None
        if not np.isfinite(scores).all():
            raise UserError(f"{self.folder.path}: its model gives scores that are not finite; make the run again")
        of_clip = self._of_clip(torch.from_numpy(scores), sum_of_logits, weights)
        seconds, how = starts / self.sample_rate, (recipe.chunk_seconds, of_clip, recipe.short_clips)
        return Tags(file, self.name, info.seconds, recipe.eval_hop, self.classes, seconds, scores, *how)

    def _of_clip(self, scores: torch.Tensor, sum_of_logits: torch.Tensor, weights: torch.Tensor) -> np.ndarray | None:
        """Return the whole file's scores (k,), of its chunks' scores (n, k); None where they are their mean."""
        recipe = self.spec.recipe
        if recipe.highest:
            return mean_of_highest(scores, recipe.highest).numpy()
        if recipe.aggregate == "logits":
            return self.activation(sum_of_logits / weights.sum()).float().numpy()
        if recipe.last_chunk_weight == "new_samples":
            return (weights @ scores.double() / weights.sum()).float().numpy()
        return None
