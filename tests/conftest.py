"""Makes `import fakes` work from every folder of tests. Workers of pytest-xdist take one thread each."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch loads, and for the processes that tests start: workers share the cores already.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
