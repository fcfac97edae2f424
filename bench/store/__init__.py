"""The results folder: every file name, one format version, one reader, one wording for damage. No torch."""

from bench.store.contrasts import PlannedContrast
from bench.store.labels import Labels
from bench.store.record import FORMAT, RunRecord
from bench.store.results_folder import Plan, ResultsFolder
from bench.store.run_folder import RunFolder

__all__ = ["FORMAT", "Labels", "Plan", "PlannedContrast", "ResultsFolder", "RunFolder", "RunRecord"]
