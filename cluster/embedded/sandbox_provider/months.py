"""Calendar months of a subscription."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime


def months_after(anchor: int, months: int) -> int:
    """The same day and time ``months`` later, or the month's last day; Unix seconds."""
    start = datetime.fromtimestamp(anchor, UTC)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def next_period(anchor: int, start: int, months: int) -> int:
    """The end of the period that begins at ``start``, counted from the anchor so that the 31st stays the 31st."""
    count = months
    while (end := months_after(anchor, count)) <= start:
        count += months
    return end
