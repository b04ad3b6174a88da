"""`python -m labbench` is `labbench`: nothing is taken from the folder where it is started."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # that folder; this package is found already, wherever it lies

from labbench.cli import main

sys.exit(main())
