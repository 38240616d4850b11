"""Machines that are saved, go on elsewhere, and are copied while they run."""
import sys

from e2e import main

sys.exit(main(globals()))
