"""One run: architecture, recipe, seed, pack."""

from typing import Any

from pydantic import (
    NonNegativeInt,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from bench.protocol.recipe import Recipe
from bench.schema import Strict, digest


class RunSpec(Strict):
    """One architecture, one recipe, one seed, one pack: all that decides a run's numbers."""

    name: str  # of the row in the table
    architecture: str
    config: dict[str, Any]  # every field, defaults included
    recipe: Recipe  # its precision settled: not auto
    seed: NonNegativeInt
    pack: str  # fingerprint
    inferred: dict[str, str] = {}  # field -> what its value rests on, where no source documents it
    source: str = ""  # digest of the architecture's text, if it is from outside the project
    base: str = ""  # the row that this one is compared with, if it is an ablation
    question: str = ""  # that it is to answer

    @model_serializer(mode="wrap")
    def _no_empty_extras(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        return {k: v for k, v in values.items() if v or k not in ("source", "base", "question")}

    @property
    def hash(self) -> str:
        """Eight hex digits of everything that decides the numbers (name and footnotes do not)."""
        return digest(self.model_dump(mode="json", exclude={"name", "inferred", "base", "question"}))[:8]

    @property
    def folder(self) -> str:
        return f"{self.name}-s{self.seed}-{self.hash}"
