"""What a machine does in a second and what it costs, each number with its source.

`plan` computes with these. They were measured here (results/) or published; arithmetic
on a `Quantity` keeps the sources, so that no result can lose them.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import shown
from commoncanvas.core.settings import load_yaml, names_of
from commoncanvas.speed.ablation import FUSED
from commoncanvas.speed.clocks import peaks

MACHINES = ("cpu", *(name.lower() for name in peaks()))


@dataclass(frozen=True)
class Quantity:
    """A number, and in lines of text where it comes from.

    A sum, product or quotient with a number or another quantity has the sources of
    both.
    """

    value: float
    sources: tuple[str, ...] = ()

    def _with(self, other: "Number", operation: Callable) -> "Quantity":
        other = other if isinstance(other, Quantity) else Quantity(other)
        sources = tuple(dict.fromkeys(self.sources + other.sources))
        return Quantity(operation(self.value, other.value), sources)

    def noting(self, line: str) -> "Quantity":
        """Return the same number with one more line about where it comes from."""
        return self + Quantity(0, (line,))

    def __add__(self, other: "Number") -> "Quantity":
        return self._with(other, operator.add)

    def __mul__(self, other: "Number") -> "Quantity":
        return self._with(other, operator.mul)

    def __truediv__(self, other: "Number") -> "Quantity":
        return self._with(other, operator.truediv)

    def __rtruediv__(self, other: float) -> "Quantity":
        return Quantity(other / self.value, self.sources)

    __radd__, __rmul__ = __add__, __mul__


Number = float | Quantity


class Rates:
    """The numbers of results/rates.json, as they hold on one machine.

    Args:
        machine: one of `MACHINES`; "cpu" is one core.
        resolution_px: edge of the training pictures; a GPU's rate depends on it.
    """

    def __init__(self, machine: str, resolution_px: int = 256) -> None:
        self.machine, self.resolution_px = machine, resolution_px
        self._rates = load_yaml(paths.RESULTS / "rates.json")["rates"]

    def __contains__(self, name: str) -> bool:
        return name in self._rates

    def __getitem__(self, name: str) -> Quantity:
        """Return a number as it was measured or published.

        Raises:
            ParameterError: there is none of that name.
        """
        if name not in self:
            raise ParameterError(
                f"results/rates.json has no rate {name!r}; expected one of "
                f"{names_of(self._rates)}. Measure it and add it."
            )
        rate = self._rates[name]
        place = "" if rate["machine"] == "any" else f"{rate['machine']}, "
        line = f"{name}: {rate['value']:,g} {rate['unit']}, {place}{rate['date']}: "
        return Quantity(rate["value"], (f"{line}{rate['from']}",))

    def seconds(self, name: str, num: Quantity) -> Quantity:
        """Return how long `num` pictures, texts or rows take at a rate [s].

        An A100's time becomes another GPU's by their peaks, and a core's by their rates
        of training. A core's time is taken as it is, since what a GPU would do was not
        measured.
        """
        found = num / self[name]
        measured_on = self._rates[name]["machine"]
        if measured_on == "A100" and self.machine == "cpu":
            published = Rates("a100", self.resolution_px).training()
            found = (found * published / self.training()).noting(
                "an A100's time as a core's: by their rates of training"
            )
        elif measured_on == "A100" and self.machine != "a100":
            found = found * self["peak_a100"] / self[f"peak_{self.machine}"]
            found = found.noting(
                f"an A100's time as {self.machine}'s: by the peaks of both"
            )
        elif measured_on != "A100" and self.machine != "cpu":
            found = found.noting(
                f"a core's time as {self.machine}'s: not measured there, so at most"
            )
        return found

    def training(self) -> Quantity:
        """Return the arithmetic of a training step [FLOP/s].

        A CPU's as measured at `mini`; a GPU's as measured at Stable Diffusion 2's size,
        or else its data sheet's peak times the share that was published for it, or else
        that the authors reached.
        """
        is_cpu = self.machine == "cpu"
        file = paths.RESULTS / f"bench_train_{'mini' if is_cpu else 'sd2'}.json"
        found = load_yaml(file) if is_cpu or file.is_file() else None
        if found and (is_cpu or self.machine.upper() in found["hardware"]["device"]):
            row = next(row for row in found["rows"] if row["row"] == FUSED.name)
            rate = found["flops_per_image"] * row["images_per_second"]["value"]
            place = f"{found['hardware']['device']}: {shown(file)}"
            line = f"training: {rate / 1e9:,.4g} GFLOP/s, {place}, row {FUSED.name!r}"
            return Quantity(rate, (line,))
        share = "mfu_256" if self.resolution_px <= 256 else "mfu_512"
        if self.machine in ("h100", "h200") and self.resolution_px > 256:
            share = "mfu_512_h100"  # both reach the same peak
        return self[share] * self[f"peak_{self.machine}"] * 1e12

    def price(self, given: float | None = None) -> Quantity | None:
        """Return the price of an hour [dollars], or None where none is known."""
        if given is not None:
            return Quantity(given, (f"price: ${given:g} an hour, as given",))
        name = f"price_{self.machine}"
        return self[name] if name in self else None
