"""What no text of a person may hold."""

from __future__ import annotations

import re
from typing import Final

CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Never stored: PostgreSQL takes no NUL, JSON no lone surrogate, and no screen the others."""
