"""`python -m orchestra.cli` is the command `orchestra`."""

import sys

from orchestra.cli.main import main

sys.exit(main())
