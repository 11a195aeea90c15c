"""``python -m skillneurons`` is the command ``skillneurons``."""

from __future__ import annotations

import sys

from skillneurons.cli import main

if __name__ == "__main__":
    sys.exit(main())
