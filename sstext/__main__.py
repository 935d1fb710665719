"""`python -m sstext` is `sstext`."""

import sys

from sstext.cli import main

sys.exit(main())
