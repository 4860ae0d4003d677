"""``python -m mien``: the program, where its command is not on the path."""

from mien.cli.main import run

run()
