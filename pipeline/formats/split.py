"""Which videos are for training and which are held out: a hash of video_id, so it is the same in every export."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import UsageError

REST = "train"


@dataclass(frozen=True)
class Splits:
    """Shares of the videos by name; all other videos are `train`."""

    shares: tuple[tuple[str, float], ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Splits":
        """From `val=0.1`, as on a command line.

        Raises:
            UsageError: A text is not NAME=SHARE, or the shares add up to more than 1.
        """
        shares = []
        for text in texts:
            name, _, number = text.partition("=")
            try:
                share = float(number)
            except ValueError:
                share = -1.0
            if not (name.isidentifier() and 0 < share <= 1):
                raise UsageError(f"split {text!r} is not NAME=SHARE, as in val=0.1, with a share above 0 and up to 1")
            shares.append((name, share))
        names = [name for name, _ in shares]
        if len(set(names)) < len(names) or REST in names:
            raise UsageError(f"splits {', '.join(names)}: a name may be given once, and {REST} is implied")
        if sum(share for _, share in shares) > 1 + 1e-9:
            raise UsageError(f"splits add up to {sum(share for _, share in shares):g}; at most 1 is allowed")
        return cls(tuple(shares))

    @property
    def names(self) -> tuple[str, ...]:
        return (REST, *(name for name, _ in self.shares))

    def of(self, video_id: str) -> str:
        """The split of a video. Raising the share of the first split keeps the videos that it had."""
        place = int.from_bytes(hashlib.sha256(b"split:" + video_id.encode()).digest()[:8], "big") / 2**64
        edge = 0.0
        for name, share in self.shares:
            edge += share
            if place < edge:
                return name
        return REST
