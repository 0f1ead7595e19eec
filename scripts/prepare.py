"""Fetch or adopt a dataset and check it; see dml/prepare.py."""

import sys

from dml.prepare import main

if __name__ == "__main__":
    sys.exit(main())
