"""What the command line takes besides click's own: names of scales, prices."""

import re
from typing import Any

import click


class Name(click.ParamType):
    """The name of a scale or a variant, which names folders: letters, digits, _, -."""

    name = "text"

    def convert(self, value: str, param: Any, ctx: Any) -> str:
        if len(value) > 100 or not re.fullmatch("[A-Za-z0-9_-]+", value):
            self.fail(f"{value[:100]!r} names no scale or variant.", param, ctx)
        return value


class Price(click.FloatRange):
    """A number from 0 that is one: NaN lies in every range."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = super().convert(value, param, ctx)
        return self.fail("nan is no price.", param, ctx) if number != number else number
