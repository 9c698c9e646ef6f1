"""`python -m bench_parts`, as scripts/bench calls it."""

import sys

from .cli import main

sys.exit(main())
