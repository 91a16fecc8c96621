"""``python -m edge_tse`` is ``edge-tse``."""

import sys

from edge_tse.cli import main

sys.exit(main())
