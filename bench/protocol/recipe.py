"""How an architecture is trained and how clips are cut."""

import math
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from bench.schema import Strict


class Recipe(Strict):
    """How a contestant is trained and how its chunks are cut; the same fields for all."""

    loss: Literal["bce", "huber"] = "bce"
    learning_rate: PositiveFloat = 5e-4
    weight_decay: NonNegativeFloat = 0.0  # decoupled (AdamW, arXiv:1711.05101), of matrices and kernels only
    batch_size: PositiveInt = 64
    updates: PositiveInt = 10_000
    schedule: Literal["cosine", "plateau"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05  # of the updates
    # val is scored this many times, evenly spread; the best of these is kept
    evaluations: PositiveInt = 10
    # evaluations without a better val mAP until the rate is halved (plateau) and until training ends (0: never)
    patience: PositiveInt = 3
    early_stop: NonNegativeInt = 0
    # how clips are cut, for training and evaluation; clips shorter than a chunk are repeated
    chunk_seconds: Annotated[float, Field(ge=0.1, le=30)] = 1.0
    hop_seconds: Annotated[float, Field(ge=0.01)] = 1.0  # from one chunk of a clip to the next
    test_hop_seconds: Annotated[float, Field(ge=0.01)] | None = None  # on val and eval; None: hop_seconds
    chunks: Literal["all", "one"] = "all"  # an epoch: every chunk of every clip, or one of each clip, drawn anew
    aggregate: Literal["scores", "logits"] = "scores"  # a clip's score: mean of scores, or score of the mean logit
    # of training; evaluation is always fp32. auto: bf16 where the device computes in it, else fp32
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    channels_last: bool = False  # memory layout of convolutions: speed, not arithmetic
    # augmentation of training chunks, as PaSST does it (arXiv:2110.05069); nothing at 0, see augment.py
    gain_db: NonNegativeFloat = 0.0  # louder or softer by up to this much
    time_shift: Annotated[float, Field(ge=0, le=1)] = 0.0  # shifted in a circle by up to this share of the chunk
    mixup: NonNegativeFloat = 0.0  # chunks and labels mixed in pairs, by shares from Beta(mixup, mixup)

    @model_validator(mode="after")
    def _no_gaps(self) -> Self:
        for name in ("hop_seconds", "test_hop_seconds"):
            if (getattr(self, name) or 0) > self.chunk_seconds:
                raise ValueError(f"{name}={getattr(self, name)} is more than chunk_seconds={self.chunk_seconds}")
        return self

    @property
    def test_hop(self) -> float:
        """Seconds from one chunk of a clip to the next, in evaluation."""
        return self.test_hop_seconds or self.hop_seconds

    def test_chunks(self, seconds: float) -> int:
        """How many chunks evaluation cuts a clip of that length into."""
        return 1 + math.ceil(round(max(0.0, seconds - self.chunk_seconds) / self.test_hop, 6))

    def on(self, *, bf16: bool) -> "Recipe":
        """What `auto` means on a device that computes in bf16, or does not."""
        if self.precision != "auto":
            return self
        return self.model_copy(update={"precision": "bf16" if bf16 else "fp32"})

    def evaluation_updates(self) -> set[int]:
        """After which updates (counted from 1) val is scored."""
        return {-(-self.updates * i // self.evaluations) for i in range(1, self.evaluations + 1)}
