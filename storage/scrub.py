"""Looking for rot in segments that nobody reads: every batch's checksums, one closed segment at a time (L13)."""

from dataclasses import dataclass

from storage.errors import CorruptBatch
from storage.index import SegmentSummary
from storage.pace import Pace, no_pace
from storage.segment import Segment


@dataclass(slots=True)
class ScrubRun:
    """One segment to verify. `run` on any thread, then back to `Log.complete_scrub`.

    Afterwards `damaged_at` is the offset of the first bad batch, or None; then `damage` says what is wrong with it and
    `good_bytes` how much of the file lies before it.
    """

    segment: Segment
    reader: Segment
    summary: SegmentSummary
    seed: int
    damaged_at: int | None = None
    damage: str = ""
    good_bytes: int = 0

    def run(self, pace: Pace = no_pace) -> None:
        """Reads the whole segment, a window at a time; `pace` is called after each batch. Raises OSError."""
        good_end = self.summary.base_offset
        try:
            for _, batch in self.reader.scan(self.seed, self.summary.size_bytes):
                good_end = batch.header.next_offset
                self.good_bytes += batch.end - batch.start
                pace()
        except CorruptBatch as error:
            self.damaged_at, self.damage = good_end, str(error)
        finally:
            self.reader.close()
