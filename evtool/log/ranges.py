"""Sets of offsets as ranges, which is what the handled ones are: long runs with a few holes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Ranges:
    """A set of offsets. Written ``5-7,9``; both ends of a range belong to it."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in pairs:
            self.add(first, last)

    @classmethod
    def of(cls, offsets: Iterable[int]) -> Ranges:
        """The set of these offsets, which rise."""
        ranges = cls()
        firsts, lasts = ranges._firsts, ranges._lasts
        end = -2
        for offset in offsets:
            if offset == end + 1:
                lasts[-1] = offset
            else:
                firsts.append(offset)
                lasts.append(offset)
            end = offset
        return ranges

    @classmethod
    def parse(cls, text: str) -> Ranges:
        """Read what `str` has written. Raises ValueError."""
        ranges = cls()
        for part in text.split(",") if text else ():
            first, dash, last = part.partition("-")
            low, high = int(first), int(last if dash else first)
            if low > high:
                raise ValueError(part)
            ranges.add(low, high)
        return ranges

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._firsts, self._lasts, strict=True))

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __len__(self) -> int:
        """How many ranges there are; see `count` for the offsets in them."""
        return len(self._firsts)

    def __contains__(self, offset: int) -> bool:
        at = bisect_right(self._firsts, offset) - 1
        return at >= 0 and offset <= self._lasts[at]

    def count(self) -> int:
        """How many offsets are in the set."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    @property
    def end(self) -> int:
        """The offset behind the last one of the set; 0 if there is none."""
        return self._lasts[-1] + 1 if self._lasts else 0

    def offsets(self) -> Iterator[int]:
        """Each offset, rising."""
        for first, last in self:
            yield from range(first, last + 1)

    def add(self, first: int, last: int) -> None:
        """Put all offsets from `first` to `last` into the set."""
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def remove(self, first: int, last: int) -> None:
        """Take all offsets from `first` to `last` out of the set."""
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        if low >= high:
            return
        kept = []
        if self._firsts[low] < first:
            kept.append((self._firsts[low], first - 1))
        if self._lasts[high - 1] > last:
            kept.append((last + 1, self._lasts[high - 1]))
        self._firsts[low:high] = [one[0] for one in kept]
        self._lasts[low:high] = [one[1] for one in kept]

    def update(self, other: Ranges) -> None:
        """Put all offsets of another set into this one."""
        for first, last in other:
            self.add(first, last)

    def subtract(self, other: Ranges) -> None:
        """Take all offsets of another set out of this one."""
        for first, last in other:
            self.remove(first, last)

    def take_from(self, offset: int) -> int:
        """The first offset at or above `offset` that is not in the set; what lies below it is taken out."""
        at = bisect_right(self._firsts, offset)
        if at and self._lasts[at - 1] >= offset:
            offset = self._lasts[at - 1] + 1
        elif at == 0:
            return offset
        del self._firsts[:at], self._lasts[:at]
        return offset
