"""How long each stage of one frame took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class StageClock:
    """Milliseconds spent in each stage of one frame."""

    started_s: float = field(default_factory=time.perf_counter)
    stages_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        before = time.perf_counter()
        yield
        self.stages_ms[name] = (time.perf_counter() - before) * 1e3

    @property
    def total_ms(self) -> float:
        """Since the frame came in."""
        return (time.perf_counter() - self.started_s) * 1e3
