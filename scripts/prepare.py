"""The former name of `python -m dml.prepare`."""

import sys

from dml.prepare import main

if __name__ == "__main__":
    print("Note: scripts/prepare.py is now python -m dml.prepare and will be removed.", file=sys.stderr)
    main()
