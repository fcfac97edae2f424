"""The command line: parse, call bench.api, print. No logic."""

from bench.cli.app import app, main

__all__ = ["app", "main"]
