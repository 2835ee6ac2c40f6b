"""``python -m abmail`` and the console script."""

from abmail.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
