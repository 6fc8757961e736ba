"""The named checks that close each notebook: all are run, then one failure lists all.

The `check` cell of every notebook is a few calls and a `close()`; its table is what the
report shows.
"""

import operator
from collections.abc import Callable
from typing import Any

import pandas as pd
from IPython.display import display

from commoncanvas.core.errors import CheckFailed

_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda found, bound: found in bound,
}


class ChecksTable(pd.DataFrame):
    """A table of checks that is shown whole: no index, no shortened cells."""

    @property
    def _constructor(self) -> Any:
        return ChecksTable

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return self.to_html(index=False, border=0, classes="checks")

    def __repr__(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return self.to_string(index=False)


class Checks:
    """Collect named checks; `close` shows them and fails if any is broken.

    Example: `check = Checks()`, `check.that("PSNR [dB]", psnr_db, ">=", 25)`,
    `check("ledger is complete", ledger.notna().all().all())`, `check.close()`.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def __call__(self, name: str, ok: Any, found: Any = "", bound: Any = "") -> None:
        """Record one check that was decided by the caller.

        Args:
            name: what must hold, in words; each name once.
            ok: one truth value, Python's or NumPy's.
            found, bound: what was found and what was expected, shown in the table.
        """
        if any(row["check"] == name for row in self._rows):
            raise CheckFailed(
                f"the check {name!r} was made twice; names are unique. Rename one."
            )
        value = ok.item() if getattr(ok, "size", 0) == 1 else ok
        if not isinstance(value, bool):
            raise CheckFailed(
                f"the check {name!r} got {type(ok).__name__}; one truth value is "
                "expected. Compare, and reduce with `.all()`."
            )
        self._rows.append(
            {"check": name, "found": _text(found), "bound": _text(bound), "ok": value}
        )

    def that(self, name: str, found: Any, relation: str, bound: Any) -> None:
        """Record one comparison, e.g. `that("rows", 10, "==", 7 + 3)`.

        The relation is one of == != < <= > >= in; NaN never passes an order relation.
        """
        if relation not in _RELATIONS:
            raise CheckFailed(
                f"the check {name!r} uses {relation!r}; the relations are "
                f"{', '.join(_RELATIONS)}. Use one of them."
            )
        ok = _RELATIONS[relation](found, bound)
        self(name, ok, found, f"{relation} {_text(bound)}")

    def close(self) -> ChecksTable:
        """Return the table of all checks; if one is broken, show it, then fail.

        Raises:
            CheckFailed: a check is broken, or none was made; lists all in one line.
        """
        if not self._rows:
            raise CheckFailed(
                "no check was made; a notebook closes with at least one. Add it."
            )
        table = ChecksTable(self._rows)
        table["ok"] = ["✓" if row["ok"] else "✗" for row in self._rows]
        if broken := [row for row in self._rows if not row["ok"]]:
            display(table)
            failures = "; ".join(
                f"{row['check']} (found {row['found'] or 'no'}, "
                f"expected {row['bound'] or 'yes'})"
                for row in broken
            )
            raise CheckFailed(
                f"{len(broken)} of {len(self._rows)} checks failed: {failures}. "
                "Look at the cells above that show these values."
            )
        return table


def _text(value: Any) -> str:
    """Write a value the same way every time: four significant digits, one line."""
    value = value.item() if getattr(value, "size", 0) == 1 else value
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(str(value).split())
