"""Makes `import fakes` work from every folder of tests, whichever way pytest is called."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
