"""The referee: one data path, one training loop and one evaluator for every contestant."""
