"""What a suite may say of training."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from bench.schema import LATER, Strict

__all__ = ["OF_SELECTION", "SCORING", "Recipe"]

Hop = Annotated[float, Field(ge=0.01)]  # seconds
# the fields by which scores of val decide what becomes of a training: they mean nothing where the last weights are kept
OF_SELECTION = ("schedule", "patience", "early_stop")
# the fields that only say how weights that are there score a clip: training takes the same steps, though by its scores
# of val it may keep others, halve the rate or end
SCORING = ("eval_hop_seconds", "aggregate", "top_k", "last_chunk_weight")


class Recipe(Strict):
    """How an architecture is trained and how clips are cut; the same fields for all."""

    # one of the task's; None: its first
    loss: str | None = None
    learning_rate: PositiveFloat = 5e-4
    # decoupled (AdamW, arXiv:1711.05101), of matrices and kernels only
    weight_decay: NonNegativeFloat = 0.0
    batch_size: Annotated[int, Field(gt=0, le=1_000_000_000)] = 64
    max_steps: Annotated[int, Field(gt=0, le=1_000_000_000)] = 10_000
    schedule: Literal["cosine", "plateau"] = "cosine"
    # share of the steps
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    # val is scored this many times, evenly spread; the best of these is kept
    evaluations: Annotated[int, Field(gt=0, le=10_000)] = 10
    # evaluations without a better score on val until the rate is halved (plateau), and until training ends (0: never)
    patience: PositiveInt = 3
    early_stop: NonNegativeInt = 0
    # how clips are cut, for training and evaluation; those shorter than a chunk are repeated, or filled up with zeros
    chunk_seconds: Annotated[float, Field(ge=0.1, le=30)] = 1.0
    short_clips: Annotated[Literal["repeat", "zeros"], LATER] = "repeat"
    # from one chunk of a clip to the next: in training, and on val and eval (None: the same)
    hop_seconds: Hop = 1.0
    eval_hop_seconds: Hop | None = None
    # an epoch: every chunk of every clip, or one of each clip, drawn anew
    crops: Literal["all", "one_per_clip"] = "all"
    # a clip's score: the mean of its chunks' scores, or the score of their mean logit; or class by class the highest of
    # its chunks' scores, or the mean of the top_k highest, of all where there are fewer
    aggregate: Literal["mean", "logits", "max", "top_k"] = "mean"
    top_k: Annotated[int, Field(gt=0, le=1_000_000), LATER] = 3
    # what a clip's last chunk counts in a mean: as much as any other; or by its new samples, since it ends with the
    # clip, and so may begin in the chunk before it
    last_chunk_weight: Annotated[Literal["one", "new_samples"], LATER] = "one"
    # of training; evaluation is always fp32. tf32: fp32 whose products an NVIDIA GPU (Ampere or later) reads with 10
    # bits of mantissa. auto: bf16 where the device computes in it, else fp32
    precision: Literal["fp32", "tf32", "bf16", "auto"] = "fp32"
    # memory layout of convolutions: speed, not arithmetic
    channels_last: bool = False
    # forward and loss by torch.compile: speed, and numbers equal but for rounding. auto: on a GPU, where it is measured
    # to pay within the run
    compile: Annotated[Literal["auto", "on", "off"], LATER] = "off"
    # augmentation of training chunks, as PaSST does it (arXiv:2110.05069); nothing at 0, see augment.py:
    # louder or softer by up to this much, shifted in a circle by up to this share of the chunk, and chunks and labels
    # mixed in pairs by shares from Beta(mixup, mixup)
    gain_db: Annotated[float, Field(ge=0, le=120)] = 0.0
    time_shift: Annotated[float, Field(ge=0, le=1)] = 0.0
    mixup: NonNegativeFloat = 0.0
    # share of the train clips whose labels are used: of all classes the same, see subsets.py
    label_share: Annotated[float, Field(gt=0, le=1), LATER] = 1.0
    # only what depends on the number of classes is trained: the last layer, on what the weights before it hear
    freeze: Annotated[bool, LATER] = False

    @model_validator(mode="after")
    def _weights_are_of_means(self) -> Self:
        if self.highest and self.last_chunk_weight != "one":
            fix = "take aggregate = 'mean' or 'logits', or leave last_chunk_weight out"
            raise ValueError(f"last_chunk_weight={self.last_chunk_weight!r} has no place in {self.aggregate!r}: {fix}")
        return self

    @model_validator(mode="after")
    def _no_gaps(self) -> Self:
        for name in ("hop_seconds", "eval_hop_seconds"):
            if (getattr(self, name) or 0) > self.chunk_seconds:
                raise ValueError(f"{name}={getattr(self, name)} is more than chunk_seconds={self.chunk_seconds}")
        return self

    @property
    def eval_hop(self) -> float:
        return self.eval_hop_seconds or self.hop_seconds

    @property
    def highest(self) -> int:
        """How many of a clip's chunks count in its score, class by class the highest; 0: all of them."""
        return {"max": 1, "top_k": self.top_k}.get(self.aggregate, 0)

    def eval_chunks(self, seconds: float) -> int:
        """Return how many chunks evaluation cuts a clip of that length into."""
        return 1 + math.ceil(round(max(0.0, seconds - self.chunk_seconds) / self.eval_hop, 6))

    def settled(self, *, bf16: bool, loss: str) -> "Recipe":
        """Return the recipe with a precision instead of `auto`, by the device, and with the task's loss for None."""
        precision = self.precision if self.precision != "auto" else "bf16" if bf16 else "fp32"
        return self.model_copy(update={"precision": precision, "loss": self.loss or loss})

    def evaluation_steps(self) -> set[int]:
        """Return the steps (counted from 1) after which val is scored."""
        return {-(-self.max_steps * i // self.evaluations) for i in range(1, self.evaluations + 1)}
