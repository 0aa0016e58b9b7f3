"""``python -m gradwitness``: the command, without its script."""

import sys

from gradwitness_command import main

if __name__ == "__main__":
    sys.exit(main())
