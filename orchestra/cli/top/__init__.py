"""`orchestra top`: what a served fleet does, in the terminal."""

from orchestra.cli.top.command import EXAMPLES, top

__all__ = ["EXAMPLES", "top"]
