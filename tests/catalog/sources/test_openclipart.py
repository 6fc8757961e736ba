"""A row is what the drawing's own RDF says; no file of strangers is lost or fatal."""

import hashlib
import io
import os
import sys
import tarfile
import time

import pytest
from click.testing import CliRunner
from doors import call
from hypothesis import example, given, settings
from hypothesis import strategies as st

from commoncanvas.__main__ import door
from commoncanvas.catalog.columns import STATED
from commoncanvas.catalog.sources import openclipart
from commoncanvas.core.errors import LicenseError, SourceError
from commoncanvas.core.svg import svg_to_pixels
from commoncanvas.licenses.license import read_license

OLD = "http://web.resource.org/cc/"
NEW = "http://creativecommons.org/ns#"
PUBLIC = "http://web.resource.org/cc/PublicDomain"
BY_SA = "http://creativecommons.org/licenses/by-sa/3.0/"
NAMESPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"'
)
CREATOR = "<dc:creator><cc:Agent><dc:title>{}</dc:title></cc:Agent></dc:creator>"
RIGHTS = "<dc:rights><cc:Agent><dc:title>{}</dc:title></cc:Agent></dc:rights>"
DRAWING = '<rect width="9" height="9"/>'
LIBRARY = pytest.mark.skipif(
    not openclipart.FOLDER.is_dir(),
    reason="sources/openclipart is absent: run `make openclipart`",
)


def license_of(url):
    return f'<cc:license rdf:resource="{url}"/>'


STATED_PUBLIC = license_of(PUBLIC)


def document(work=STATED_PUBLIC, cc=OLD, head="", behind=""):
    return (
        f'{head}<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><metadata>'
        f'<rdf:RDF {NAMESPACES} xmlns:cc="{cc}"><cc:Work rdf:about="">{work}</cc:Work>'
        f"{behind}</rdf:RDF></metadata>{DRAWING}</svg>"
    )


@pytest.fixture
def row_of(tmp_path):
    """Return a function that writes one drawing and reads its row."""

    def read(text, name="a.svg"):
        path = tmp_path / "svg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        (row,) = openclipart.read(tmp_path / "svg")
        assert set(row) == {*STATED, "svg"}
        assert all(isinstance(value, str) for value in row.values())
        return row

    return read


def brief(row):
    """Return the licence that the statements of a row are read as, "" if refused."""
    try:
        return read_license(row["license_text"], row["license_url"]).slug
    except LicenseError:
        return ""


def test_a_row_says_what_the_rdf_says(row_of):
    work = (
        "<dc:title>Red\n  apple</dc:title><dc:description>An apple.</dc:description>"
        "<dc:subject><rdf:Bag><rdf:li>fruit</rdf:li><rdf:li/><rdf:li>red</rdf:li>"
        "</rdf:Bag></dc:subject>" + CREATOR.format("Ann Bee") + license_of(PUBLIC)
    )
    row = row_of(document(work), "food/apple.svg")
    assert row["key"] == "openclipart/food/apple" and row["source"] == "openclipart"
    assert row["title"] == "Red apple" and row["author"] == "Ann Bee"
    assert row["alt_text"] == "An apple., fruit, red"
    assert row["license_url"] == PUBLIC and row["license_text"] == ""
    assert row["date_seen"] == openclipart.PACKED and row["reason"] == ""
    assert svg_to_pixels(row["svg"], 8).any()


@pytest.mark.parametrize("cc", [OLD, NEW])
@pytest.mark.parametrize("url", [PUBLIC, BY_SA])
def test_the_licence_is_read_in_the_old_and_the_new_vocabulary(row_of, cc, url):
    assert row_of(document(license_of(url), cc))["license_url"] == url


def test_a_licence_described_beside_the_work_is_a_statement(row_of):
    behind = f'<cc:License rdf:about="{BY_SA}"/>'
    assert brief(row_of(document("", behind=behind))) == "by-sa"
    assert brief(row_of(document(behind=behind))) == ""


@pytest.mark.parametrize("others", [[BY_SA], [BY_SA, "Public Domain"], ["GPL"]])
def test_statements_that_differ_are_refused_by_the_reader(row_of, others):
    said = "".join(map(license_of, [PUBLIC, *others]))
    row = row_of(document(said))
    assert brief(row) == "" and row["reason"] == ""
    assert all(one in row["license_text"] + row["license_url"] for one in others)


def test_statements_that_agree_are_accepted(row_of):
    said = license_of(PUBLIC) + license_of("Public Domain") + license_of(PUBLIC)
    assert brief(row_of(document(said))) == "pdm"


def test_no_licence_is_invented_for_the_library(row_of):
    assert brief(row_of(document(license_of("")))) == ""


@pytest.mark.parametrize(
    ("holder", "slug"),
    [("Ann Bee", "pdm"), ("Public Domain", "pdm"), ("copyleft", ""), ("(c) 2005", "")],
)
def test_a_rights_holder_who_speaks_of_rights_must_be_understood(row_of, holder, slug):
    row = row_of(document(license_of(PUBLIC) + RIGHTS.format(holder)))
    assert brief(row) == slug


def test_rights_outside_an_agent_are_the_licence_text(row_of):
    row = row_of(document("<dc:rights>CC BY 4.0</dc:rights>"))
    assert row["license_text"] == "CC BY 4.0" and brief(row) == "by"


@pytest.mark.parametrize(
    ("page", "taken"),
    [("https://a.example", True), (PUBLIC, False), ("javascript:x", False)],
)
def test_an_author_s_page_is_an_address_and_not_the_licence_s(row_of, page, taken):
    agent = f'<dc:creator><cc:Agent rdf:about="{page}"/></dc:creator>'
    row = row_of(document(agent + license_of(PUBLIC)))
    assert row["author_url"] == (page if taken else "")


def test_titles_of_strangers_stay_text(row_of):
    title = "&lt;script&gt;alert(1)&lt;/script&gt;"
    row = row_of(document(f"<dc:title>{title}</dc:title>"))
    assert row["title"] == "<script>alert(1)</script>"


@pytest.mark.parametrize("name", ["utf-8", "iso-8859-1", "windows-1252"])
def test_a_declared_encoding_is_followed(row_of, name):
    head = f'<?xml version="1.0" encoding="{name}"?>'
    text = document(f"<dc:title>Müller</dc:title>{license_of(PUBLIC)}", head=head)
    row = row_of(text.encode(name))
    assert row["title"] == "Müller" and svg_to_pixels(row["svg"], 8).any()


def test_a_byte_order_mark_is_no_part_of_the_document(row_of):
    assert row_of(b"\xef\xbb\xbf" + document().encode())["svg"] == document()


NAMED = '<!DOCTYPE svg [<!ENTITY ns_x "http://x.example/">\n{}]>'
BOMB = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))


def test_entities_of_plain_text_are_put_in_their_places(row_of):
    head = NAMED.format('<!ENTITY ns_x "the first declaration binds">')
    row = row_of(document("<dc:title>&ns_x; &amp;</dc:title>", head=head))
    assert row["title"] == "http://x.example/ &" and row["reason"] == ""
    assert svg_to_pixels(row["svg"], 8).any()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\x1f\x8b\x08rest", "compressed"),
        (b"<svg", "XML"),
        (b"<html/>", "root element"),
        (b"<svg>&ns_svg;</svg>", "undefined entity"),
        (b"<svg>\xff</svg>", "encoding"),
        (b'<?xml version="1.0" encoding="rot13"?><svg/>', "encoding"),
        (b'<?xml version="1.0" encoding="nosuch"?><svg/>', "encoding"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no RDF"),
        (document(head=NAMED.format('<!ENTITY f SYSTEM "a.txt">')), "plain text"),
        (document(head=NAMED.format('<!ENTITY % p "x">')), "plain text"),
        (document(head=NAMED.format(BOMB)), "plain text"),
        (document(head="<!-- <!DOCTYPE [ ]> -->" + NAMED.format("")), "plain text"),
        (document("&ns_x;" * 250_000, head=NAMED.format("")), "without end"),
        (document("<dc:title/>" * 2_001), "RDF of over"),
        (b"<svg>" + b" " * openclipart.MAX_BYTES + b"</svg>", "at most"),
    ],
)
def test_what_cannot_be_read_is_a_row_with_its_reason(row_of, data, reason):
    row = row_of(data)
    assert reason in row["reason"] and "\n" not in row["reason"]
    assert row["key"] == "openclipart/a" and brief(row) == ""


@pytest.mark.parametrize("part", [b"<!DOCTYPE[", b"<r:RDF>", b"&a;", b"]"])
def test_a_hostile_file_costs_no_time(row_of, part):
    start = time.perf_counter()
    assert row_of(b"<!DOCTYPE svg [" + part * (3_000_000 // len(part)))["reason"]
    assert time.perf_counter() - start < 20


def test_links_and_odd_names_are_rows_like_others(tmp_path):
    folder = tmp_path / "svg"
    folder.mkdir()
    (tmp_path / "secret.svg").write_text(document())
    (folder / "a.svg").write_text(document())
    (folder / "b.svg").symlink_to("a.svg")
    (folder / "c.svg").symlink_to("nowhere.svg")
    (folder / "d.svg").symlink_to("../secret.svg")
    (folder / "e.svg").symlink_to("e.svg")
    (folder / "f.svg").mkdir()
    os.mkfifo(folder / "g.svg")
    odd = os.fsencode(folder) + b"/h\xff.svg"
    with open(odd, "w") as file:
        file.write(document())
    rows = {row["key"]: row for row in openclipart.read(folder)}
    assert [key[-1] for key in sorted(rows)] == [*"abcdefg", "f"]
    good = {key for key, row in rows.items() if not row["reason"]}
    assert good == {"openclipart/a", "openclipart/b", "openclipart/h\\xff"}
    assert rows["openclipart/d"]["svg"] == ""


@given(st.binary() | st.text(alphabet='<>&;![]"% aENTIYDOCP').map(str.encode))
@example(document(STATED_PUBLIC + "<dc:title>\u2028</dc:title>").encode())
@settings(max_examples=60, deadline=None)
def test_arbitrary_bytes_give_one_row(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("svg")
    (folder / "a.svg").write_bytes(data)
    (row,) = openclipart.read(folder)
    assert row["reason"] or row["license_url"]


def test_an_empty_folder_says_what_to_run(tmp_path):
    with pytest.raises(SourceError, match="python -m commoncanvas fetch openclipart"):
        openclipart.read(tmp_path)


def deb_bytes(members):
    """Return a .deb whose data.tar.xz holds the members, {name: text}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    parts = {b"debian-binary": b"2.0", b"data.tar.xz": buffer.getvalue()}
    deb = b"!<arch>\n"
    for name, data in parts.items():
        deb += name.ljust(48) + str(len(data)).encode().ljust(10) + b"`\n" + data
        deb += b"\n" * (len(data) % 2)
    return deb


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that writes a .deb, pins it, and returns its path."""

    def write(members):
        drawn = tmp_path / "drawn"
        for name, text in members.items():
            path = drawn / name.removeprefix(openclipart.INSIDE)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        deb = tmp_path / "toy.deb"
        deb.write_bytes(deb_bytes(members))
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        monkeypatch.setattr(openclipart, "DEB_SHA256", digest)
        digest = openclipart.tree_sha256(drawn)
        monkeypatch.setattr(openclipart, "TREE_SHA256", digest)
        return deb

    return write


MEMBERS = {f"{openclipart.INSIDE}{name}.svg": document() for name in ("a", "b/c")}


def test_a_package_is_unpacked_once_and_mended(package, tmp_path):
    deb, folder = package(MEMBERS), tmp_path / "sources" / "openclipart"
    assert openclipart.fetch(deb, folder=folder) == 2
    assert list(openclipart.drawings(folder)) == ["a", "b/c"]
    deb.unlink()
    assert openclipart.fetch(deb, folder=folder) == 2
    deb = package(MEMBERS)
    (folder / "a.svg").write_text("spoilt")
    assert openclipart.fetch(deb, folder=folder) == 2
    assert (folder / "a.svg").read_text() == document()
    assert [path.name for path in folder.parent.iterdir()] == ["openclipart"]
    other = tmp_path / "other"
    assert openclipart.fetch(unpacked=tmp_path / "drawn", folder=other) == 2


def test_bytes_that_are_not_the_pinned_ones_are_refused(package, tmp_path):
    deb = package(MEMBERS)
    deb.write_bytes(deb.read_bytes() + b"\n")
    with pytest.raises(SourceError, match="sha256 of 'toy.deb'.*expected.*again"):
        openclipart.fetch(deb, folder=tmp_path / "new")
    (tmp_path / "drawn" / "a.svg").write_text("spoilt")
    with pytest.raises(SourceError, match="sha256 of the drawings"):
        openclipart.fetch(unpacked=tmp_path / "drawn", folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_member_cannot_leave_the_folder(package, tmp_path):
    deb = package(MEMBERS)
    deb.write_bytes(deb_bytes({**MEMBERS, f"{openclipart.INSIDE}../../x.svg": "x"}))
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openclipart, "DEB_SHA256", digest)
        with pytest.raises(SourceError, match="outside") as error:
            openclipart.fetch(deb, folder=tmp_path / "deep" / "new")
    assert "\n" not in str(error.value) and not list(tmp_path.glob("**/x.svg"))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (None, "FileNotFoundError"),
        ("sys.exit('E: Unable to locate package')", "Unable to locate.*apt-get update"),
        ("open('x.deb', 'w').write('no')", "sha256 of 'x.deb'"),
    ],
)
def test_a_download_that_fails_says_why_in_one_line(tmp_path, monkeypatch, lines, said):
    monkeypatch.setenv("PATH", str(tmp_path))
    if lines:
        apt = tmp_path / "apt-get"
        apt.write_text(f"#!{sys.executable}\nimport sys\n{lines}\n")
        apt.chmod(0o755)
    with pytest.raises(SourceError, match=said) as error:
        openclipart.fetch(folder=tmp_path / "new")
    assert "\n" not in str(error.value)


def test_the_command_says_what_it_takes_and_what_failed(tmp_path):
    printed = call("fetch", "--help")
    assert "--deb" in printed and "--folder" in printed
    library = tmp_path / "no library"
    library.mkdir()
    printed = call("fetch", "openclipart", "--folder", library, fails=True)
    assert printed.startswith("openclipart: sha256 of the drawings is ")
    both = ["fetch", "openclipart", "--folder", library, "--deb", library]
    assert CliRunner().invoke(door, [str(word) for word in both]).exit_code == 2


@LIBRARY
@pytest.mark.slow
def test_the_whole_library_is_read_and_no_statement_is_lost():
    rows = openclipart.read()
    assert len({row["key"] for row in rows}) == len(rows) == 8121
    assert not [row["key"] for row in rows if row["reason"] or not row["svg"]]
    slugs = [brief(row) for row in rows]
    assert slugs.count("pdm") == 8019 and slugs.count("") == 102
    assert sum(not row["author"] for row in rows) == 61
    assert sum(not row["title"] for row in rows) == 62
