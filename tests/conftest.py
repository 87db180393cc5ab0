"""Makes `import fakes` work in every folder; pytest-xdist's workers get one thread each; examples
that are drawn are the same in each run."""

import os
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch loads, and for the processes that tests start: workers share the cores already.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A run tells of the change, not of its luck. `pytest --hypothesis-profile=search` draws others.
settings.register_profile("steady", derandomize=True)
settings.register_profile("search", derandomize=False, print_blob=True)
settings.load_profile("steady")
