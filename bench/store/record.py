"""run.json: what a finished run was, what came of it, and where it comes from."""

from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from bench.protocol.spec import RunSpec

__all__ = ["FORMAT", "Provenance", "RunRecord"]

# of all files of a results folder; older ones are read through format1.py
FORMAT = 2


class _Record(BaseModel):
    # a later version may say more
    model_config = ConfigDict(frozen=True, extra="ignore")


class Provenance(_Record):
    """Where a number comes from."""

    # of the code: git's commit, whether it had been changed since, and digests of what decides numbers
    commit: str | None
    dirty: bool
    source: dict[str, str]
    command: str
    # when the run began, ISO 8601
    date: str
    versions: dict[str, str]
    device: str
    threads: int = 0
    # the installed package that the architecture is from, with its version; '' for one of the project, or of a file
    package: str = ""

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # trackers know a record by a digest of all that it says: those of before should not seem to be others
        return {name: value for name, value in serialize(self).items() if name != "package" or value}


class RunRecord(_Record):
    """A finished run."""

    format: int = FORMAT
    spec: RunSpec
    hash: str
    family: str
    # the architecture's figures in the literature, where there are any
    published: dict[str, Any] | None = None
    # on eval: of the trained model, of the one that the seed drew, and without any learning
    metrics: dict[str, float | int | None]
    untrained: dict[str, float | int | None]
    floors: dict[str, float] = {}
    # the task's class metric by class name, where it exists
    class_scores: dict[str, float] = {}
    # the primary metric on val at the step that was kept, and how many steps were done
    val_score: float
    best_step: int
    steps: int
    cost: dict[str, Any]
    data: dict[str, Any]
    provenance: Provenance

    @property
    def dataset(self) -> str:
        """A digest of the data set, the same at every sample rate."""
        return str(self.data["dataset"])
