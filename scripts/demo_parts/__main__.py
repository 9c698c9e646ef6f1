"""`python -m demo_parts`, as scripts/demo calls it."""

import sys

from demo_parts.cli import main

sys.exit(main())
