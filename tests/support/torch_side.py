"""`benchmarks/parity.py`: the side of PyTorch."""

import sys

from tests.support.tiny import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import parity

__all__ = ["parity"]
