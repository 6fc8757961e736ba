"""Markdown: what cards, documents and plans are written in."""

from decimal import Decimal


def table(head, rows):
    """Return a table; a bar within a cell stays a character.

    Args:
        head: texts of the columns.
        rows: iterables of as many cells each, of any type.
    """
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def digits(number):
    """Write a number to three digits, never with an exponent."""
    return f"{Decimal(f'{number:.3g}'):,f}"
