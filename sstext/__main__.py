"""`python -m sstext` is `sstext`."""

import sys

from sstext.cli.main import main

sys.exit(main())
