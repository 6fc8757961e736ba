"""Debian's packages: downloaded with `apt-get`, verified, and unpacked without `dpkg`.

Nothing needs root. Every error names the source, whose caller knows what to do.
"""

import hashlib
import io
import re
import subprocess
import tarfile
from pathlib import Path

from tqdm import tqdm

from commoncanvas.core.errors import SourceError
from commoncanvas.core.files import regular


def download(source: str, package: str, version: str, scratch: Path | str) -> Path:
    """Download the pinned package into the empty folder `scratch`; return its path.

    Args:
        source: what the package is for, in an error.

    Raises:
        SourceError: `apt-get` is not there, or knows no such package.
    """
    command = ["apt-get", "download", f"{package}={version}"]
    try:
        done = subprocess.run(
            command, cwd=scratch, stderr=subprocess.PIPE, text=True, timeout=600
        )
        problem = " ".join(re.findall("^E: (.*)", done.stderr, re.MULTILINE))
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = type(error).__name__
    found = sorted(Path(scratch).glob("*.deb"))
    if not found:
        raise SourceError(
            f"{source}: apt-get could not download {package} {version} "
            f"({problem[:200]!a}); expected Debian, a network and package lists that "
            "name it; run `apt-get update` as root, or give --deb FILE."
        )
    return found[0]


def unpack(source: str, deb: Path, sha256: str, inside: str, folder: Path) -> None:
    """Unpack a folder of a .deb, an `ar` archive, once its hash agrees.

    Args:
        source: for errors: the source, and the package with its version.
        inside: the folder in the package, such as ./usr/share/backgrounds/.
        folder: where to; a member that would leave it raises `tarfile.FilterError`.

    Raises:
        SourceError: the file's hash is another.
    """
    data = regular(deb).read_bytes()
    verify(source, ascii(deb.name), hashlib.sha256(data).hexdigest(), sha256)
    start = 8  # after the magic; a member has a header of 60 bytes, its data, a pad
    while not data.startswith(b"data.tar", start):
        size = int(data[start + 48 : start + 58])
        start += 60 + size + size % 2
    with tarfile.open(fileobj=io.BytesIO(data[start + 60 :])) as archive:
        for member in tqdm(archive, "unpacking", unit="file"):
            if member.name.startswith(inside) and member.name != inside:
                member.name = member.name.removeprefix(inside)
                archive.extract(member, folder, filter="data")


def verify(source: str, what: str, found: str, expected: str) -> None:
    """Raise SourceError where a SHA-256 is not the pinned one."""
    if found != expected:
        name, _, package = source.partition(": ")
        raise SourceError(
            f"{name}: sha256 of {what} is {found[:12]}…, expected "
            f"{expected[:12]}…; take {package} again."
        )
