"""Makes `import fakes` work in every folder; pytest-xdist's workers get one thread each."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch loads, and for the processes that tests start: workers share the cores already.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
