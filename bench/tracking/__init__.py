"""MLflow: a results folder copied to a tracking server, by a process that has no part in training."""
