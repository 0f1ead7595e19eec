"""Fetch or adopt a dataset and check it; see dml/data/prepare.py."""

import sys

from dml.data.prepare import main

if __name__ == "__main__":
    sys.exit(main())
