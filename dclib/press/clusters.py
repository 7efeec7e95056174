"""What a book shows of its clusters besides its pages: the explorer, and the slider over a run's clusterings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dclib.config import Preset
from dclib.press.explorer import Kept, kept_clusterings, write_book_explorer
from dclib.press.pool import Pool, shown_pool
from dclib.press.slider import pages_about, write_forming
from dclib.report.forming import Course, courses


@dataclass(frozen=True)
class Clusters:
    """Clusterings of one set of images."""

    kept: Sequence[Kept]  # of finished networks
    courses: Sequence[Course]  # of networks in training
    pool: Pool | None  # None where the images are not here: there is no explorer then, and no pictures

    def write(self, html: Path, preset: str) -> None:
        """Put what there is into a book about a preset. Raises OSError if it cannot be written."""
        if self.pool:
            write_book_explorer(html, self.pool, self.kept, self.courses)
        if self.courses and pages_about(html, preset):
            write_forming(html, preset, self.courses, self.pool.thumbs() if self.pool else None)


def clusters_of_book(preset: Preset, own: Path, published: Path | None) -> Clusters:
    """Of the runs in the workspace ``own``, else of ``published`` pictures; those of other images are left out."""
    kept, found = kept_clusterings(preset, own / "pictures", published), courses(preset, own / "runs", published)
    pool = shown_pool(preset.data) if kept or found else None
    n = pool.n if pool else found[0].n if found else 0
    kept = [one for one in kept if pool and len(one.clusterings[0]) == n]
    found = [course for course in found if course.n == n]
    return Clusters(kept, found, pool if kept or found else None)
