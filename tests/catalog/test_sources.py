"""Nothing is read from a package before its bytes are the pinned ones."""

import base64
import dataclasses
import hashlib
import io
import json
import sys
import tarfile

import pytest
from doors import call

from commoncanvas.catalog.sources import iconify
from commoncanvas.core import paths
from commoncanvas.core.errors import SourceError
from commoncanvas.models import weights as model_weights

MEMBERS = {"icons.json": {"icons": {"a": {"body": ""}}}, "info.json": {"name": "Toy"}}


def package_bytes(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, value in members.items():
            data = json.dumps(value).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def pin(tmp_path, monkeypatch):
    """A pinned set whose archive lies, whole, in a sources folder of its own."""
    monkeypatch.setattr(iconify, "SOURCES", tmp_path / "sources")
    data = package_bytes(MEMBERS)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    pin = iconify.Pin("toy", "1.2.3", integrity)
    pin.path.parent.mkdir()
    pin.path.write_bytes(data)
    return pin


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """Return a function that puts an `npm` of the given Python lines on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(lines):
        npm = folder / "npm"
        npm.write_text(f"#!{sys.executable}\nimport sys\n{lines}\n")
        npm.chmod(0o755)
        return npm

    return install


def message_of(call, *arguments):
    with pytest.raises(SourceError) as caught:
        call(*arguments)
    return str(caught.value)


def test_every_set_of_package_json_is_pinned_at_that_version():
    wanted = json.loads((paths.ROOT / "package.json").read_text())["dependencies"]
    pins = iconify.read_pins()
    assert {f"{iconify.SCOPE}{p.prefix}": p.version for p in pins.values()} == wanted


def test_every_pin_is_a_sha512():
    digests = [pin.integrity.partition("-") for pin in iconify.read_pins().values()]
    assert all(d[0] == "sha512" for d in digests)
    assert {len(base64.b64decode(d[2])) for d in digests} == {64}


def test_packages_outside_the_scope_are_not_sources(tmp_path):
    entry = {"version": "1.0.0", "integrity": "sha512-AA=="}
    names = ["", "node_modules/left-pad", "node_modules/@iconify-json/toy"]
    lock = tmp_path / "package-lock.json"
    lock.write_text(json.dumps({"packages": dict.fromkeys(names, entry)}))
    assert list(iconify.read_pins(lock)) == ["toy"]


def test_a_whole_archive_is_returned_as_it_lies(pin):
    assert iconify.verified_bytes(pin) == pin.path.read_bytes()


@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_changed_byte_is_one_line_that_names_the_set(pin, place):
    data = bytearray(pin.path.read_bytes())
    data[place] ^= 1
    pin.path.write_bytes(data)
    message = message_of(iconify.verified_bytes, pin)
    assert "\n" not in message and "source toy 1.2.3" in message
    assert "expected" in message and f"delete sources/{pin.path.name}" in message


def test_a_missing_archive_says_how_to_fetch_it(pin):
    pin.path.unlink()
    message = message_of(iconify.verified_bytes, pin)
    assert "\n" not in message and "toy 1.2.3" in message and "make sources" in message


def test_members_are_read_without_unpacking(pin, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    found = iconify.read_members(pin, "info.json", "icons.json")
    assert found == [MEMBERS["info.json"], MEMBERS["icons.json"]]
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_parsed_before_the_hash_agrees(pin):
    pin.path.write_bytes(package_bytes({"info.json": {"name": "Other"}}))
    assert "sha512" in message_of(iconify.read_members, pin, "info.json")


def pinned(pin, data, integrity=""):
    """Write an archive and return the pin of it."""
    pin.path.write_bytes(data)
    digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
    return dataclasses.replace(pin, integrity=integrity or f"sha512-{digest}")


@pytest.mark.parametrize(
    "data",
    [b"no archive", package_bytes({"icons.json": {}})],
    ids=["no archive", "no info.json"],
)
def test_a_package_that_cannot_be_read_is_one_line(pin, data):
    message = message_of(iconify.read_members, pinned(pin, data), "info.json")
    assert "\n" not in message and "source toy" in message and "expected" in message


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[" * 99_999])
def test_broken_json_is_one_line(pin, monkeypatch, text):
    monkeypatch.setattr(json, "dumps", lambda value: text.decode("latin-1"))
    packed = pinned(pin, package_bytes({"info.json": {}}))
    monkeypatch.undo()
    assert "source toy" in message_of(iconify.read_members, packed, "info.json")


def test_an_unknown_hash_is_one_line(pin):
    other = pinned(pin, b"", "md6-AA==")
    assert "'md6'; expected" in message_of(iconify.verified_bytes, other)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"packages": {"@iconify-json/a": 1}}']
)
def test_a_broken_lock_file_is_one_line(tmp_path, text):
    (tmp_path / "lock.json").write_text(text)
    message = message_of(iconify.read_pins, tmp_path / "lock.json")
    assert "\n" not in message and "lock.json cannot be read" in message


def test_without_npm_the_message_says_what_to_install(pin, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    message = message_of(iconify.fetch, pin)
    assert "\n" not in message and "toy" in message and "expected npm" in message


def test_an_npm_that_may_not_be_run_is_as_good_as_none(pin, fake_npm):
    fake_npm("").write_bytes(b"\x7fELF not a program")
    assert "npm gave no answer" in message_of(iconify.fetch, pin)


def test_a_failing_npm_is_one_line_without_its_output(pin, fake_npm):
    fake_npm("sys.stderr.write('npm ERR! at https://host/secret'); sys.exit(1)")
    message = message_of(iconify.fetch, pin)
    assert "\n" not in message and "secret" not in message
    assert "@iconify-json/toy@1.2.3" in message and "try again" in message


def test_an_npm_that_brings_nothing_is_found_out(pin, fake_npm):
    pin.path.unlink()
    fake_npm("sys.exit(0)")
    assert "is missing" in message_of(iconify.fetch, pin)


def test_wrong_bytes_from_npm_are_not_left_behind(pin, fake_npm):
    fake_npm(f"open({str(pin.path)!r}, 'wb').write(b'other')")
    assert "sha512" in message_of(iconify.fetch, pin)
    assert not pin.path.exists()


def test_npm_is_asked_for_the_pinned_version_and_place(pin, fake_npm, tmp_path):
    said = tmp_path / "said.json"
    fake_npm(f"import json; json.dump(sys.argv[1:], open({str(said)!r}, 'w'))")
    iconify.fetch(pin)
    words = json.loads(said.read_text())
    assert words[0] == "pack" and words[-1] == "@iconify-json/toy@1.2.3"
    assert str(pin.path.parent) in words


def test_what_is_there_is_verified_but_not_fetched_again(pin, fake_npm):
    fake_npm("sys.exit(1)")
    assert iconify.fetch_all({"toy": pin}) == pin.path.stat().st_size


def test_a_broken_archive_is_reported_rather_than_replaced(pin, fake_npm):
    pin.path.write_bytes(b"broken")
    fake_npm("sys.exit(0)")
    message = message_of(iconify.fetch_all, {"toy": pin})
    assert "toy" in message and pin.path.read_bytes() == b"broken"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Weights of a package of our own, with the cache of the true ones left alone."""
    (tmp_path / "toy_weights").mkdir()
    (tmp_path / "toy_weights" / "__init__.py").touch()
    file = tmp_path / "toy_weights" / "model.bin"
    file.write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    digest = hashlib.sha256(b"weights").hexdigest()
    table = {"Toy": ("toy_weights", "model.bin", digest)}
    table["None"] = ("no_such_package", "model.bin", digest)
    monkeypatch.setattr(model_weights, "WEIGHTS", table)
    monkeypatch.setattr(
        model_weights, "weights_path", model_weights.weights_path.__wrapped__
    )
    return file


def test_weights_that_hash_right_are_found(weights):
    assert model_weights.weights_path("Toy") == weights


@pytest.mark.parametrize("change", ["other bytes", "no file"])
def test_changed_weights_name_the_package_to_reinstall(weights, change):
    weights.write_bytes(b"other") if change == "other bytes" else weights.unlink()
    message = message_of(model_weights.weights_path, "Toy")
    assert "\n" not in message and "Toy" in message
    assert "reinstall toy_weights" in message


def test_a_package_that_is_not_installed_says_so(weights):
    message = message_of(model_weights.weights_path, "None")
    assert "no_such_package is not installed" in message and "make env" in message


def test_the_door_prints_one_line_and_fails(pin, monkeypatch):
    pin.path.write_bytes(b"broken")
    monkeypatch.setattr(iconify, "read_pins", lambda: {"toy": pin})
    assert "source toy" in call("fetch", fails=True)
