"""``python -m head3d`` is the ``head3d`` command; so torchrun can start it: ``torchrun ... -m head3d train fusion``."""

import sys

from head3d.cli import main

if __name__ == "__main__":
    sys.exit(main())
