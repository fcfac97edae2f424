"""What decides a run's numbers, as one value."""

from typing import Annotated, Any, Self

from pydantic import NonNegativeInt, model_validator

from bench.protocol.recipe import Recipe
from bench.schema import LATER, Strict, digest

__all__ = ["RunSpec"]

# what a run is called and compared with: no part of what it computes
_WORDS = ("name", "second_hand", "inferred", "base", "question")


class RunSpec(Strict):
    """One task, architecture, recipe, seed and pack: all that decides a run's numbers."""

    # of the entry in the suite
    name: str
    task: Annotated[str, LATER] = "tagging"
    # what the task leaves open, as `Task.checked_settings` has it
    task_settings: Annotated[dict[str, Any], LATER] = {}
    architecture: str
    # every field, defaults included
    config: dict[str, Any]
    # nothing in it is left open: neither `auto` nor a loss of None
    recipe: Recipe
    seed: NonNegativeInt
    # the pack's fingerprint
    pack: str
    # which part of the data is held out, in data sets that come in folds
    fold: Annotated[NonNegativeInt | None, LATER] = None
    # the hash of the run whose weights are the start, as far as they fit; '' draws them
    init: Annotated[str, LATER] = ""
    # the hash of the run whose weights are scored, by a recipe that differs in nothing else; '' trains some
    rescores: Annotated[str, LATER] = ""
    # digest of the architecture's text, if it is a plugin's
    source: Annotated[str, LATER] = ""
    # What values rest on, by field (train.FIELD of the recipe) or name of a choice that no field sets: those known from
    # others' accounts of a paper, and those that no source documents.
    second_hand: dict[str, str] = {}
    inferred: dict[str, str] = {}
    # the entry that this one is compared with, if it is an ablation, and the question that it answers
    base: str = ""
    question: str = ""

    @model_validator(mode="after")
    def _not_yet(self) -> Self:
        if self.fold is not None:
            raise ValueError(f"fold={self.fold!r} is not supported yet; leave it out")
        return self

    @property
    def hash(self) -> str:
        """Eight hex digits of everything that decides the numbers; name and footnotes do not."""
        return digest({name: value for name, value in self.identity().items() if name not in _WORDS})[:8]

    @property
    def system(self) -> str:
        """The hash that all seeds share: of everything but the seed, and whose weights are scored or the start."""
        others = {name: "another's" for name in ("rescores", "init") if getattr(self, name)}
        return self.model_copy(update={"seed": 0, **others}).hash

    @property
    def folder(self) -> str:
        return f"{self.name}-s{self.seed}-{self.hash}"
