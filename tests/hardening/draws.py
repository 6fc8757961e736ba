"""Rows drawn as stage 01 draws them, together or one by one."""

from collections.abc import Callable, Sequence
from typing import Any

from commoncanvas.catalog.drawing import draw_rows
from tests.hardening.frame import Fault, Refused

Row = dict[str, Any]


def draw(rows: Sequence[Row], size: int = 16, keep_shape: bool = False) -> list[Any]:
    """Return (h, w, 4) pixels or a `Refused` for each row."""
    pixels, reasons = draw_rows(rows, size, keep_shape=keep_shape)
    if not len(rows) == len(pixels) == len(reasons):
        raise Fault("lost row", f"{len(rows)} in, {len(pixels)}, {len(reasons)} out")
    pairs = zip(pixels, reasons, strict=True)
    return [Refused(why) if why else picture for picture, why in pairs]


class Batch:
    """Rows drawn at once when the first is asked for; alone, should that raise."""

    def __init__(self, size: int = 16, keep_shape: bool = False) -> None:
        self.rows: list[Row] = []
        self.how = size, keep_shape
        self.found: list[Any] | None = None

    def add(self, **row: Any) -> Callable[[], Any]:
        """Take a row; the function returned gives what became of it."""
        place = len(self.rows)
        self.rows.append(row)

        def get() -> Any:
            if self.found is None:
                try:
                    self.found = draw(self.rows, *self.how)
                except BaseException:
                    self.found = []
            return self.found[place] if self.found else draw([row], *self.how)[0]

        return get
