"""A trained model on any sound file: what it hears, second by second."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.data.audio import CHUNK_SECONDS, blocks, packed_length, windows
from bench.data.dataset import AudioInfo
from bench.errors import UserError
from bench.protocol.batches import chunk_size, chunk_starts
from bench.protocol.build import fp32_means_fp32
from bench.protocol.evaluate import ACCELERATOR_BATCH_SIZE, CPU_BATCH_SIZE
from bench.reporting.figures.tags import Tags
from bench.reporting.systems import load_labels
from bench.runner.weights import load_model, read_run


class Tagger:
    """The model of a run. It decodes, cuts and scores a file as packing and evaluation do a clip of eval."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Raises UserError: no finished run, no or damaged weights, or no labels.npz beside the run's folder."""
        run, self.spec = read_run(folder)
        labels = folder.parent / "labels.npz"
        if not labels.is_file():
            raise UserError(f"{labels}: missing; the names of the classes stand in it: keep it beside the run's folder")
        known = load_labels(folder.parent)
        if known.dataset != run.get("data", {}).get("dataset"):
            raise UserError(f"{labels}: of other data than {folder}; move the run's folder back to where it was made")
        self.classes, self.device = known.classes, device
        fp32_means_fp32()
        self.model = load_model(folder, run, self.spec, device).eval()

    @property
    def name(self) -> str:
        return f"{self.spec.name}, seed {self.spec.seed}"

    @property
    def sample_rate(self) -> int:
        rate: int = self.spec.config["sample_rate"]
        return rate

    @property
    def least(self) -> float:
        """Seconds; less is repeated, by packing or by cutting."""
        return max(CHUNK_SECONDS, self.spec.recipe.chunk_seconds)

    @torch.inference_mode()
    def tag(
        self, file: Path, info: AudioInfo, progress: Callable[[float, float], None] = lambda done, total: None
    ) -> Tags:
        """Score a file's chunks, cut as the run's recipe says; `progress` is told of files of more than one batch.

        Raises:
            AudioError: the file is broken further on than its header.
        """
        recipe = self.spec.recipe
        size, hop = chunk_size(recipe, self.sample_rate), recipe.test_hop
        length = packed_length(info, self.sample_rate, self.least)
        _, starts = chunk_starts(np.array([0]), np.array([length]), size, round(hop * self.sample_rate))
        batch_size = CPU_BATCH_SIZE if self.device.type == "cpu" else ACCELERATOR_BATCH_SIZE
        # one array from the start: small ones, kept between the large ones of the batches, would let memory grow
        scores, done = np.empty((len(starts), len(self.classes)), dtype=np.float32), 0
        sum_of_logits = torch.zeros(len(self.classes), dtype=torch.float64)
        for chunks in windows(blocks(file, self.sample_rate, self.least), starts, size):
            for x in torch.from_numpy(chunks).split(batch_size):
                logits = self.model(x.to(self.device).float() / 32768).float()
                scores[done : done + len(x)] = torch.sigmoid(logits).cpu()
                sum_of_logits += logits.cpu().double().sum(dim=0)
                done += len(x)
                if len(starts) > batch_size:
                    progress(done, len(starts))
        clip = torch.sigmoid(sum_of_logits / len(starts)).float().numpy() if recipe.aggregate == "logits" else None
        seconds = starts / self.sample_rate
        return Tags(file, self.name, info.seconds, hop, self.classes, seconds, scores, recipe.chunk_seconds, clip)
