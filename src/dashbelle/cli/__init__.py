"""The command line: one file per family of commands."""

from dashbelle.cli.main import main

__all__ = ["main"]
