"""mien reads facial expressions: it trains the networks, measures them, shows what they look at, and runs them."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
