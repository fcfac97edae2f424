"""What codes of patches are asked for: how many, of which sounds, and how they are found."""

from typing import Annotated, Literal

from pydantic import Field

from bench.protocol.sounds.levels import ChosenClips

__all__ = ["PatchSettings"]


class PatchSettings(ChosenClips):
    """All that decides a patch's code, beside the sounds."""

    # how many there are
    codes: Annotated[int, Field(ge=2, le=4096)] = 256
    # steps that their autoencoder is trained for, and bands of its frames
    code_steps: Annotated[int, Field(gt=0, le=1_000_000)] = 500
    mels: Annotated[int, Field(gt=0, le=1024)] = 80
    # what codes are found on, and models trained on: the pack's train split, or notes that are played anew for each
    # step, see bench.data.synthetic
    data: Literal["pack", "generated"] = "pack"
