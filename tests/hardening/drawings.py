"""SVG drawings: colours, units, references, words, bombs, and what is no SVG."""

# ruff: noqa: E501  # pieces of SVG stay whole

import base64
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.hardening.draws import Batch, draw
from tests.hardening.frame import Case, Fault, Refused, handled, refused
from tests.hardening.pictures import file_of

KIND = "drawings"
HOW = "SVG texts, drawn as stage 01 draws its rows"
RANDOM, BATCH = 15_000, 1_500
SPACE = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
MAGENTA = (255, 0, 255)  # of pictures and parts that lie elsewhere
RED = '<rect width="8" height="8" fill="#f00"/>'
SIZE = 16


def svg(body: str, size: str = 'width="8" height="8"', before: str = "") -> str:
    """Return an SVG document of 8 x 8."""
    return f"{before}<svg {SPACE} {size}>{body}</svg>"


def coloured(*colour: int, tolerance: int = 3) -> Callable[[Any], bool]:
    """Expect an opaque colour in the middle."""

    def has_colour(found: Any) -> bool:
        if isinstance(found, Refused):
            return False
        middle = found[SIZE // 2, SIZE // 2].astype(int)
        return bool(np.abs(middle - [*colour, 255]).max() <= tolerance)

    has_colour.__name__ = f"colour {colour}"
    return has_colour


def refused_or_unseen(found: Any) -> bool:
    """Accept a refusal, or a drawing without a trace of what lies elsewhere."""
    if isinstance(found, Refused):
        return refused(found)
    traces = np.abs(found[..., :3].astype(int) - MAGENTA).max(-1) < 40
    return not (traces & (found[..., 3] > 40)).any()


def cases() -> Iterator[Case]:
    """Yield all named cases; harmless ones in batches, bombs alone."""
    batch = Batch(SIZE)
    for family in (_colours, _shapes, _own, _foreign, _words, _malformed):
        for name, text, expect in family():
            title = f"{family.__name__[1:]}: {name}"
            yield Case(KIND, title, batch.add(svg=text), expect)
            if len(batch.rows) == 60:
                batch = Batch(SIZE)
    for name, make in _bombs().items():
        act = lambda made: draw([{"svg": made}])[0]  # noqa: E731
        yield Case(KIND, f"bomb: {name}", act, handled, make=make)


Family = Iterator[tuple[str, str, Any]]


def _colours() -> Family:
    names = {
        "red": (255, 0, 0), "lime": (0, 255, 0), "navy": (0, 0, 128),
        "#0f0": (0, 255, 0),
        "#102030": (16, 32, 48), "#ABCDEF": (171, 205, 239), "rgb(1,2,3)": (1, 2, 3),
        "rgb(100%,0%,50%)": (255, 0, 128), "rgb( 9 , 9 , 9 )": (9, 9, 9),
        "hsl(120,100%,50%)": (0, 255, 0), "tomato": (255, 99, 71),
        "currentColor": (0, 0, 255), "RED": (255, 0, 0), "rgba(0,0,255,1)": (0, 0, 255),
        "#ff0000ff": (255, 0, 0), "inherit": (0, 128, 0),
    }  # fmt: skip
    rect = '<rect width="8" height="8"'
    for text, colour in names.items():
        forms = {
            "attribute": f'{rect} fill="{text}"/>',
            "style": f'{rect} style="fill:{text}"/>',
            "class": f'<style>.a{{fill:{text}}}</style>{rect} class="a"/>',
            "stroke": f'<path d="M0 4H8" stroke-width="8" stroke="{text}"/>',
            "single quotes": f"{rect} fill='{text}'/>",
        }  # fmt: skip
        for name, body in forms.items():
            group = f'<g fill="green" stroke="green" color="blue">{body}</g>'
            yield f"{text} in {name}", svg(group), coloured(*colour)


def _shapes() -> Family:
    def covers(height: int, width: int) -> Callable[[Any], bool]:
        def is_centred(found: Any) -> bool:
            if isinstance(found, Refused):
                return False
            opaque = found[..., 3] > 127
            rows, columns = opaque.any(1).sum(), opaque.any(0).sum()
            middle = np.argwhere(opaque).mean(0) - (SIZE - 1) / 2
            off = abs(rows - height), abs(columns - width), *abs(middle)
            return max(off) <= 1

        is_centred.__name__ = f"{height} x {width}, centred"
        return is_centred

    full = '<rect x="-999" y="-999" width="2999" height="2999" fill="#f00"/>'
    for unit in ("", "px", "pt", "pc", "in", "cm", "mm"):
        for w, h in ((6, 6), (8, 4), (4, 8), (8, 2)):
            size = f'width="{w}{unit}" height="{h}{unit}"'
            shape = covers(round(16 * min(1, h / w)), round(16 * min(1, w / h)))
            yield f"{w} x {h} {unit or 'without unit'}", svg(full, size), shape
    for box, h, w in (("0 0 8 8", 16, 16), ("0 0 8 4", 8, 16), ("-4 -2 4 8", 16, 8)):
        yield f"viewBox {box}", svg(full, f'viewBox="{box}"'), covers(h, w)
        comma = box.replace(" ", ",")
        yield f"viewBox {comma}", svg(full, f'viewBox="{comma}"'), covers(h, w)
    for size in (
        'width="0" height="0"', 'width="-4" height="4"', 'viewBox="0 0 0 0"',
        'width="nan" height="8"', 'width="1e39" height="1e39"', 'viewBox="0 0 x 8"',
        'width="inf" height="8"', 'width="1e-30" height="1e-30"',
    ):  # fmt: skip
        yield f"no shape: {size}", svg(full, size), handled
    for name, body in {
        "nothing": "", "clear": f'<g opacity="0">{RED}</g>',
        "hidden": f'<g display="none">{RED}</g>',
        "only parts": f"<defs>{RED}</defs>",
        "far away": '<rect x="99" width="8" height="8"/>',
        "no paint": '<rect width="8" height="8" fill="none"/>', "no size": "<rect/>",
        "a comment": "<!-- red -->", "a title": "<title>red</title>",
    }.items():  # fmt: skip
        yield f"empty: {name}", svg(body), refused


def _own() -> Family:
    red = base64.b64encode(file_of(np.full((4, 4, 3), [255, 0, 0], np.uint8))).decode()
    stop = '<stop stop-color="#f00"/>'
    rect = '<rect width="8" height="8" '
    bodies = {
        "use": f'<defs><g id="a">{RED}</g></defs><use HREF="#a"/>',
        "gradient": f'<linearGradient id="a">{stop}</linearGradient>{rect} fill="url(#a)"/>',
        "linked gradient": f'<linearGradient id="b">{stop}</linearGradient><linearGradient '
        f'id="a" HREF="#b"/>{rect} fill="url(#a)"/>',
        "radial": f'<radialGradient id="a">{stop}</radialGradient>{rect} fill="url(#a)"/>',
        "pattern": f'<pattern id="a" width="1" height="1">{RED}</pattern>{rect} fill="url(#a)"/>',
        "mask": f'<mask id="a">{rect} fill="#fff"/></mask><g mask="url(#a)">{RED}</g>',
        "clip": f'<clipPath id="a">{RED}</clipPath><g clip-path="url(#a)">{RED}</g>',
        "filter": '<filter id="a"><feFlood flood-color="#f00"/></filter>'
        f'{rect} fill="#00f" filter="url(#a)"/>',
        "marker": f'<marker id="a" markerWidth="8" markerHeight="8" refX="4" refY="4" '
        f'markerUnits="userSpaceOnUse">{RED}</marker><path d="M4 4H4.1" '
        'marker-start="url(#a)"/>',
        "picture": f'<image width="8" height="8" HREF="data:image/png;base64,{red}"/>',
        "picture without kind": f'<image width="8" height="8" HREF="data:;base64,{red}"/>',
        "to itself": f'{RED}<g id="a"><use HREF="#a"/></g>',
        "to nothing": f'{RED}<use HREF="#gone"/>',
        "fallback": f'{rect} fill="url(#gone) #f00"/>',
        "link home": f'<a HREF="https://example.org/">{RED}</a>',
        "link to a mail": f'<a HREF="mailto:a@example.org">{RED}</a>',
        "empty link": f'<a HREF="">{RED}</a>',
        "empty reference": f'<g HREF="">{RED}</g>',
    }  # fmt: skip
    for name, body in bodies.items():
        for form in ("href", "xlink:href") if "HREF" in body else ("",):
            text = svg(body.replace("HREF", form))
            yield f"{name} {form}", text, coloured(255, 0, 0, tolerance=5)
            yield (
                f"{name} {form}, single quotes",
                text.replace('"', "'"),
                coloured(255, 0, 0, tolerance=5),
            )


def _foreign() -> Family:
    folder = Path(tempfile.mkdtemp())
    picture = file_of(np.full((8, 8, 3), MAGENTA, np.uint8))
    (folder / "a.png").write_bytes(picture)
    (folder / "a.svg").write_text(
        svg('<rect id="b" width="8" height="8" fill="#f0f"/>')
    )
    (folder / "a.css").write_text("rect{fill:#f0f}")
    places = {
        "file address": f"file://{folder}/a.", "path": f"{folder}/a.",
        "other drive": f"//localhost{folder}/a.", "https": "https://127.0.0.1:9/a.",
        "relative": "../a.", "ftp": "ftp://127.0.0.1/a.",
        "upper case": f"FILE://{folder}/a.",
        "local": f"file:{folder}/a.",
    }  # fmt: skip
    rect = '<rect width="8" height="8"'
    users = {
        "image": ('<image width="8" height="8" href="{}png"/>', refused),
        "image, xlink": ('<image width="8" height="8" xlink:href="{}png"/>', refused),
        "use": ('<use href="{}svg#b"/>', refused),
        "filter image": ('<filter id="f"><feImage href="{}png"/></filter>' + rect
                         + ' filter="url(#f)"/>', refused),
        "gradient": ('<linearGradient id="g" href="{}svg#b"/>' + rect
                     + ' fill="url(#g)"/>', refused),
        "fill": (rect + ' fill="url({}svg#b)"/>', refused),
        "style": (rect + ' style="fill:url({}svg#b)"/>', refused),
        "quoted style": (rect + " style=\"fill:url('{}svg#b')\"/>", refused),
        "import": ("<style>@import '{}css';</style>" + RED, refused),
        "import of url": ("<style>@import url({}css);</style>" + RED, refused),
        "font": ("<style>@font-face{{font-family:a;src:url({}png)}}</style>" + RED,
        refused),
        "entity": ('<!DOCTYPE svg [<!ENTITY e SYSTEM "{}svg">]>', refused),
        "sheet": ('<?xml-stylesheet href="{}css"?>', refused_or_unseen),
        "script": ('<script href="{}png"/>' + RED, refused),
        "foreign object": ('<foreignObject width="8" height="8"><img xmlns='
                           '"http://www.w3.org/1999/xhtml" src="{}png"/></foreignObject>'
                           + RED, refused_or_unseen),
        "include": ('<include xmlns="http://www.w3.org/2001/XInclude" href="{}svg"/>'
                    + RED, refused),
        "changed later": ('<image width="8" height="8"><set attributeName="href" '
                          'to="{}png"/></image>' + RED, refused_or_unseen),
        "mask": ('<g mask="url({}svg#b)">' + RED + "</g>", refused),
        "marker": ('<path d="M0 0H8" marker-end="url({}svg#b)"/>' + RED, refused),
        "cursor": ('<g cursor="url({}png)">' + RED + "</g>", refused_or_unseen),
    }  # fmt: skip
    for user, (body, expect) in users.items():
        for place, address in places.items():
            text = body.format(address)
            is_head = user in ("entity", "sheet")
            whole = svg(RED, before=text) if is_head else svg(text)
            yield f"{user} from {place}", whole, expect
    image = '<image width="8" height="8" {}/>'
    address = f"file://{folder}/a.png"
    hex_text = "".join(f"&#{ord(c)};" for c in address)
    nested = base64.b64encode(svg(image.format(f'href="{address}"')).encode()).decode()
    css = "".join(f"\\{ord(c):x} " for c in "url")
    for name, body in {
        "character references": image.format(f'href="{hex_text}"'),
        "spaces about =": image.format(f'href \n = \t"{address}"'),
        "space before": image.format(f'href=" {address}"'),
        "new line within": image.format(f'href="fi\nle://{folder}/a.png"'),
        "other prefix": image.format(f'xmlns:q="http://www.w3.org/1999/xlink" q:href="{address}"'),
        "xml:base": f'<g xml:base="file://{folder}/">' + image.format('href="a.png"') + "</g>",
        "CSS escapes": f'<rect width="8" height="8" style="fill:{css}({address})"/>',
        "CSS comment": f'<rect width="8" height="8" style="fill:url(/**/{address})"/>',
        "CSS import escaped": f"<style>@\\69mport '{folder}/a.css';</style>{RED}",
        "CDATA": f"<style><![CDATA[@import '{folder}/a.css';]]></style>{RED}",
        "svg in data": image.format(f'href="data:image/svg+xml;base64,{nested}"'),
        "data text": image.format('href="data:text/html,x"'),
        "data, upper case": image.format('href="DATA:text/html,x"'),
        "both links": image.format(f'href="#a" xlink:href="{address}"'),
        "percent": image.format(f'href="file:%2f%2f{folder}/a.png"'),
        "javascript": image.format('href="javascript:alert(1)"'),
    }.items():  # fmt: skip
        yield f"hidden: {name}", svg(body), refused_or_unseen


def _words() -> Family:
    disc = '<circle cx="4" cy="4" r="4" fill="#f00"/>'
    plain = draw([{"svg": svg(disc)}], SIZE)[0]

    def shown_or_refused(found: Any) -> bool:
        return refused(found) or not np.array_equal(found, plain)

    def as_plain(found: Any) -> bool:
        return np.array_equal(found, plain)

    text = '<text x="0" y="7" font-size="6" fill="#fff">{}</text>'
    carried = base64.b64encode(svg(text.format("STOP")).encode()).decode()
    for name, body in {
        "text": text.format("STOP"), "tspan": text.format("<tspan>STOP</tspan>"),
        "deep": f"<g><g>{text.format('STOP')}</g></g>",
        "CDATA": text.format("<![CDATA[STOP]]>"),
        "reference": text.format("&#83;TOP"), "own font": text.format("STOP").replace(
            "<text", '<text font-family="Nowhere"'),
        "use": f'<defs><g id="t">{text.format("STOP")}</g></defs><use href="#t"/>',
        "path": '<path id="p" d="M0 6H8" fill="none"/><text font-size="6" fill="#fff">'
        '<textPath href="#p">STOP</textPath></text>',
        "Greek": text.format("ΣΤΟΠ"), "stroke": text.format("STOP").replace(
            'fill="#fff"', 'fill="none" stroke="#fff"'),
        "link": f'<a href="https://example.org">{text.format("STOP")}</a>',
        "carried": '<image width="8" height="8" '
        f'href="data:image/svg+xml;base64,{carried}"/>',
    }.items():  # fmt: skip
        yield f"seen, {name}", svg(disc + body), shown_or_refused
    for name, body in {
        "empty": "<text/>", "space": text.format(" \n "),
        "hidden": text.format("STOP").replace(
            "<text", '<text display="none"'),
        "in parts": f"<defs>{text.format('STOP')}</defs>",
        "title": "<title>STOP</title>",
        "description": "<desc>STOP</desc>", "metadata": "<metadata>STOP</metadata>",
        "comment": "<!--STOP-->",
    }.items():  # fmt: skip
        yield f"unseen, {name}", svg(disc + body), as_plain


def _malformed() -> Family:
    whole = svg(f"<g>{RED}</g>")
    for tenth in range(10):
        yield f"cut at {tenth}/10", whole[: len(whole) * tenth // 10], refused
    red = coloured(255, 0, 0)
    declared = '<?xml version="1.0" encoding="{}"?>'
    for encoding in (
        "UTF-8",
        "utf-8",
        "ISO-8859-1",
        "US-ASCII",
        "windows-1252",
        "UTF-16",
    ):
        yield f"says {encoding}", declared.format(encoding) + whole, handled
    yield from (
        ("byte order mark", "\ufeff" + whole, red),
        ("CRLF", whole.replace(">", ">\r\n"), red),
        ("comment before", "<!-- a -->" + whole, red),
        ("instruction", "<?a b?>" + whole, red),
        ("plain doctype", "<!DOCTYPE svg>" + whole, red),
        ("other elements", svg('<a:b xmlns:a="urn:x"><a:c/></a:b>' + RED), red),
        ("script", svg("<script>alert(1)</script>" + RED), red),
        ("event", svg(RED).replace("<rect", '<rect onload="alert(1)"'), red),
        ("no namespace", whole.replace(SPACE, ""), handled),
        ("other namespace", whole.replace("2000/svg", "1999/xhtml"), refused),
        ("html", "<html><body>404</body></html>", refused), ("text", "a cat", refused),
        ("json", '{"a": 1}', refused), ("nothing", "", refused),
        ("space", " \n", refused),
        ("NUL", whole.replace("<g>", "<g>\0"), refused),
        ("control", whole.replace("<g>", "<g>\x01"), refused),
        ("lone surrogate", whole.replace("<g>", "<g>\ud800"), refused),
        ("lone surrogate in attribute", whole.replace("#f00", "\udfff"), handled),
        ("not a character", whole.replace("<g>", "<g>\uffff"), refused),
        ("two roots", whole + whole, refused), ("text behind", whole + "x", refused),
        ("attribute twice", whole.replace("<g>", '<g id="a" id="b">'), refused),
        ("unknown entity", whole.replace("<g>", "<g>&nbsp;"), refused),
        ("unbound prefix", whole.replace("<g>", '<g q:a="b">'), refused),
        ("same id twice", svg(f'<g id="a">{RED}</g><g id="a"/><use href="#a"/>'),
        handled),
        ("bad path", svg(RED + '<path d="M0 0 L oops"/>'), handled),
        ("bad number", svg(RED + '<rect width="1e999" height="-inf"/>'), handled),
        ("bad transform", svg(RED + '<g transform="rotate(x)"/>'), handled),
        ("not invertible",
        svg(RED + '<g transform="scale(0)"><rect width="9" height="9"/></g>'), red),
    )  # fmt: skip


def _bombs() -> dict[str, Callable[[], str]]:
    def laughs(reference: str, levels: int = 9, times: int = 10) -> str:
        parts = [f'<g id="p0">{RED}</g>']
        for n in range(1, levels):
            parts.append(f'<g id="p{n}">{reference.format(n - 1) * times}</g>')
        return svg(f"<defs>{''.join(parts)}</defs>" + reference.format(levels - 1))

    def filtered(inside: str, size: str = "") -> str:
        return svg(
            f'<filter id="f" {size}>{inside}</filter><rect width="8" height="8" '
            'filter="url(#f)"/>'
        )

    def nested(tag: str, depth: int, inside: str = RED) -> str:
        end = tag.split()[0]
        return svg(f"<{tag}>" * depth + inside + f"</{end}>" * depth)

    entities = "".join(
        f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(10)
    )
    mask = '<mask id="m{}"><g mask="url(#m{})">' + RED + "</g></mask>"
    huge = np.zeros((9000, 9000), np.uint8)
    image = '<image width="8" height="8" href="data:image/png;base64,{}"/>'
    points = " ".join(f"{n % 977} {n % 389}" for n in range(1_000_000))
    group = '<g filter="url(#f)">'
    blur = '<filter id="f"><feGaussianBlur stdDeviation="1"/></filter>'
    wide = 'x="-99999" y="-99999" width="199999" height="199999"'
    bombs: dict[str, Callable[[], str]] = {
        "use": lambda: laughs('<use href="#p{}"/>'),
        "fill": lambda: laughs('<rect width="8" height="8" fill="url(#p{})"/>'),
        "mask": lambda: laughs('<g mask="url(#p{})"/>'),
        "entities": lambda: svg("&e9;", before=f"<!DOCTYPE svg [{entities}]>"),
        "masks of masks": lambda: svg(
            "".join(mask.format(n, n + 1) for n in range(500))
            + f'<g mask="url(#m0)">{RED}</g>'
        ),
        "markers": lambda: svg(
            f'<marker id="a">{RED * 100}</marker><path marker-mid="url(#a)" '
            f'd="M0 0{"h1" * 100_000}"/>'
        ),
        "markers of markers": lambda: laughs(
            '<path d="M0 0h1h1h1h1h1h1h1h1" marker-mid="url(#p{})"/>'
        ).replace('<g id="p', '<marker id="p').replace("</g>", "</marker>"),
        "pattern of tiny tiles": lambda: svg(
            f'<pattern id="a" width="1e-7" height="1e-7" patternUnits="userSpaceOnUse">{RED}'
            '</pattern><rect width="8" height="8" fill="url(#a)"/>'
        ),
        "pattern of huge tiles": lambda: svg(
            f'<pattern id="a" width="1e7" height="1e7" patternUnits="userSpaceOnUse">{RED}'
            '</pattern><rect width="8" height="8" fill="url(#a)"/>'
        ),
        "wide blur": lambda: filtered('<feGaussianBlur stdDeviation="1e9"/>', wide),
        "wide erosion": lambda: filtered('<feMorphology radius="5000"/>', wide),
        "octaves": lambda: filtered('<feTurbulence numOctaves="100000000"/>'),
        "frequency": lambda: filtered('<feTurbulence baseFrequency="1e30"/>'),
        "kernel": lambda: filtered(
            f'<feConvolveMatrix order="1000" kernelMatrix="{"1 " * 1_000_000}"/>'
        ),
        "table": lambda: filtered(
            f'<feComponentTransfer><feFuncR type="table" tableValues="{"1 " * 999_999}"/>'
            "</feComponentTransfer>"
        ),
        "100,000 steps of a filter": lambda: filtered("<feOffset/>" * 100_000),
        "huge filter": lambda: filtered("<feFlood/>", wide),
        "a million points": lambda: svg(f'<polyline points="{points}" stroke="#f00"/>'),
        "a million dashes": lambda: svg(
            '<path d="M0 0H1e6" stroke="#f00" stroke-dasharray="1e-3"/>'
        ),
        "dashes far apart": lambda: svg(
            '<path d="M0 0H1e15" stroke="#f00" stroke-dasharray="1 1"/>'
        ),
        "a million selectors": lambda: svg(
            "<style>" + "".join(f".a{n},g .b{n}{{fill:#f00}}" for n in range(200_000))
            + "</style>" + '<g class="a b">' * 100 + RED + "</g>" * 100
        ),
        "deep selectors": lambda: svg(
            f"<style>{'g ' * 3000}rect{{fill:#f00}}</style>" + "<g>" * 200 + RED + "</g>" * 200
        ),
        "100,000 attributes": lambda: svg(
            "<g " + " ".join(f'a{n}="1"' for n in range(100_000)) + f">{RED}</g>"
        ),
        "a million elements": lambda: svg(RED * 1_000_000),
        "40,000 elements": lambda: svg(RED * 40_000),
        "40,000 filters": lambda: svg(blur + f"{group}{RED}</g>" * 40_000),
        "40,000 layers": lambda: svg(f'<g opacity=".5">{RED}</g>' * 40_000),
        "data picture of 81 million pixels": lambda: svg(
            image.format(base64.b64encode(file_of(huge)).decode())
        ),
        "60 of them": lambda: svg(
            image.format(base64.b64encode(file_of(huge)).decode()) * 60
        ),
        "40 MB of text": lambda: svg(f"<desc>{'a' * 40_000_000}</desc>{RED}"),
        "40 MB of a path": lambda: svg(f'<path d="M0 0{"h1v1" * 10_000_000}"/>'),
        "size of a billion": lambda: svg(RED, 'width="1e9" height="1e9"'),
        "one by a billion": lambda: svg(RED, 'width="1" height="1e9"'),
        "stroke of a billion": lambda: svg('<path d="M0 0H8" stroke="red" stroke-width="1e9"/>'),
    }  # fmt: skip
    for depth in (100, 470, 1_000, 5_000, 100_000):
        bombs[f"{depth} groups deep"] = partial(nested, "g", depth)
        bombs[f"{depth} filters deep"] = lambda d=depth: nested(
            'g filter="url(#f)"', d, blur + RED
        )
        bombs[f"{depth} layers deep"] = partial(nested, 'g opacity=".9"', depth)
        bombs[f"{depth} svgs deep"] = partial(nested, "svg", depth)
        bombs[f"{depth} uses in a chain"] = partial(
            laughs, '<use href="#p{}"/>', depth, 1
        )
    return bombs


def attack(rng: np.random.Generator, num: int) -> None:
    """Cut, swap and repeat pieces of good drawings."""
    pick = random.Random(int(rng.integers(1 << 60)))
    rows = []
    for _ in range(num):
        text = pick.choice(_seeds())
        for _ in range(pick.randint(1, 4)):
            a, b = sorted(pick.choices(range(len(text) + 1), k=2))
            b = min(b, a + 60)
            piece = pick.choice(
                ["", text[a:b] * 2, pick.choice("<>\"'&/#()%\0é￿"), "99999", "url(#a)",
                 '<use href="#a"/>', chr(pick.randrange(1, 0xD7FF)), "<text>a</text>",
                 "-1e9"]
            )  # fmt: skip
            text = text[:a] + piece + text[b:]
        rows.append({"svg": text})
    for row, found in zip(rows, draw(rows, 8), strict=True):
        if isinstance(found, Refused):
            if not refused(found):
                raise Fault("wrong outcome", f"reason {found!r} of {row['svg']!r}")
        elif found.shape != (8, 8, 4):
            raise Fault("wrong outcome", f"shape {found.shape} of {row['svg']!r}")


def _seeds() -> list[str]:
    if not _SEEDS:
        _SEEDS.extend(text for _, text, _ in _own())
    return _SEEDS


_SEEDS: list[str] = []
