"""What the command line has besides click's own: names, prices, how a verb ends."""

import os
import re
import signal
import sys
from typing import Any

import click

from commoncanvas.core.errors import CommonCanvasError, in_one_line


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


class Door(click.Group):
    """Turns our errors and Ctrl-C into one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # or it warns of parts
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader has seen enough (`| head`): click ends in silence
        except (CommonCanvasError, OSError, MemoryError) as error:
            stop(in_one_line(error))
        except KeyboardInterrupt as signals:
            code = 128 + (signals.args[0] if signals.args else signal.SIGINT)
            stop("interrupted; run the same command again to go on.", code)


def stop(line: str, code: int = 1) -> None:
    """End the process with a line on stderr, which steers no terminal."""
    from commoncanvas.core.text import printable

    click.echo(printable(line), err=True)
    sys.exit(code)
