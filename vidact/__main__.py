"""Run `python -m vidact`."""

import sys

from vidact.cli import main

sys.exit(main())
