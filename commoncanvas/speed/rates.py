"""What a machine does in a second and what it costs, each figure with its source.

`plan` reckons with these. They were measured here (results/) or published; arithmetic
on a `Figure` keeps the sources, so that no result can lose them.
"""

import operator
from dataclasses import dataclass

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import shown
from commoncanvas.core.settings import load_yaml, names_of
from commoncanvas.speed.ablation import FUSED
from commoncanvas.speed.clocks import PEAKS

MACHINES = ("cpu", *(name.lower() for name in PEAKS))


@dataclass(frozen=True)
class Figure:
    """A number, and in lines of text where it comes from.

    A sum, product or quotient with a number or another figure has the sources of both.
    """

    value: float
    sources: tuple = ()

    def _with(self, other, operation):
        other = other if isinstance(other, Figure) else Figure(other)
        sources = tuple(dict.fromkeys(self.sources + other.sources))
        return Figure(operation(self.value, other.value), sources)

    def __add__(self, other):
        return self._with(other, operator.add)

    def __mul__(self, other):
        return self._with(other, operator.mul)

    def __truediv__(self, other):
        return self._with(other, operator.truediv)

    __radd__, __rmul__ = __add__, __mul__


class Rates:
    """The figures of results/rates.json, as they hold on one machine.

    Args:
        machine: one of `MACHINES`; "cpu" is one core.
        resolution_px: edge of the training pictures, which a GPU's rate hangs on.
    """

    def __init__(self, machine, resolution_px=256):
        self.machine, self.resolution_px = machine, resolution_px
        self._told = load_yaml(paths.RESULTS / "rates.json")["rates"]

    def __contains__(self, name):
        return name in self._told

    def __getitem__(self, name):
        """Return a figure as it was measured or published.

        Raises:
            ParameterError: there is none of that name.
        """
        if name not in self:
            raise ParameterError(
                f"results/rates.json has no rate {name!r}; expected one of "
                f"{names_of(self._told)}. Measure it and add it."
            )
        told = self._told[name]
        place = "" if told["machine"] == "any" else f"{told['machine']}, "
        line = f"{name}: {told['value']:,g} {told['unit']}, {place}{told['date']}: "
        return Figure(told["value"], (f"{line}{told['from']}",))

    def seconds(self, name, num):
        """Return how long `num` pictures, texts or rows take at a rate [s].

        An A100's time becomes another machine's by their rates of training. A core's
        is taken as it is, since what a GPU would do was not measured.
        """
        found = num / self[name]
        if self._told[name]["machine"] == "A100" and self.machine != "a100":
            line = f"an A100's time as {self.machine}'s: by their rates of training"
            published = Rates("a100", self.resolution_px).training()
            found *= published / self.training() * Figure(1, (line,))
        elif self._told[name]["machine"] != "A100" and self.machine != "cpu":
            line = f"a core's time as {self.machine}'s: not measured there, so at most"
            found *= Figure(1, (line,))
        return found

    def training(self):
        """Return the arithmetic of a training step [FLOP/s].

        A CPU's as measured at `mini`; a GPU's as measured at Stable Diffusion 2's size,
        or else its data sheet's peak times the share that the authors reached.
        """
        is_cpu = self.machine == "cpu"
        file = paths.RESULTS / f"bench_train_{'mini' if is_cpu else 'sd2'}.json"
        found = load_yaml(file) if is_cpu or file.is_file() else None
        device = found and found["hardware"]["device"]
        if is_cpu or (found and self.machine.upper() in device):
            row = next(row for row in found["rows"] if row["row"] == FUSED.name)
            rate = found["flops_per_image"] * row["images_per_second"]["value"]
            line = f"training: {rate / 1e9:,.4g} GFLOP/s, {device}: {shown(file)}, "
            return Figure(rate, (f"{line}row {FUSED.name!r}",))
        peak = PEAKS[self.machine.upper()]
        line = f"peak: {peak / 1e12:g} TFLOP/s, {self.machine.upper()}: data sheet"
        share = self["mfu_256" if self.resolution_px <= 256 else "mfu_512"]
        return share * Figure(peak, (f"{line}, dense bfloat16",))

    def price(self, given=None):
        """Return the price of an hour [dollars], or None where none is known."""
        if given is not None:
            return Figure(given, (f"price: ${given:g} an hour, as given",))
        name = f"price_{self.machine}"
        return self[name] if name in self else None
