"""The time that an exploration may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Time since the beginning, and when it is over."""

    minutes: float
    began: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return 60 * self.minutes - self.spent

    def say(self, line: str, report: Callable[[str], None]) -> None:
        """A line with the minutes that have gone by."""
        report(f"[{self.spent / 60:4.1f} of {self.minutes:g} min] {line}")
