"""The command, where it is not on PATH: python -m frazil.cli."""

from frazil.cli import script

if __name__ == "__main__":
    script()
