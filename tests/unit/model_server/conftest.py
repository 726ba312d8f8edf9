"""Makes the stand-in model server importable: it is an example, a folder of plain files beside the workspace."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "model-server"))
