"""Drawings of strangers are drawn as promised, or refused."""

import base64

import numpy as np
import pytest
from PIL import Image
from pixels import file_of

from commoncanvas.core import svg as drawings
from commoncanvas.core.errors import PictureError
from commoncanvas.core.svg import svg_to_pixels

NAMESPACES = (
    'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
)
RED = '<rect width="10" height="10" fill="#f00"/>'


def svg(body, w=10, h=10):
    return f'<svg {NAMESPACES} width="{w}" height="{h}">{body}</svg>'


def test_an_svg_fills_its_square():
    drawn = svg_to_pixels(svg(RED), 12)
    assert drawn.shape == (12, 12, 4) and drawn.dtype == np.uint8
    assert (drawn == [255, 0, 0, 255]).all()


@pytest.mark.parametrize(("w", "h"), [(10, 5), (5, 10)])
def test_an_svg_that_is_not_square_is_centred_on_nothing(w, h):
    opaque = svg_to_pixels(svg(RED, w, h), 16)[..., 3] > 127
    assert opaque.sum() == 128
    assert (opaque == opaque[::-1, ::-1]).all()


@pytest.mark.parametrize(
    "body",
    [
        '<image href="photo.png"/>',
        '<image xlink:href="file:///etc/passwd"/>',
        "<image xlink:href = 'https://example.org/a.png'/>",
        '<use href="other.svg#part"/>',
        '<image href="&#102;ile.png"/>',
        '<image href="data:text/html,x"/>',
        '<rect fill="url(https://example.org/a.svg#b)"/>',
        "<rect style=\"fill:url('other.svg#b')\"/>",
        "<style>@import 'other.css';</style>",
        "<style>@IMPORT url(other.css);</style>",
        "<style>@font-face{src:url(//example.org/f.woff)}</style>",
    ],
)
def test_an_svg_that_points_elsewhere_is_refused(body):
    with pytest.raises(PictureError, match="another file or address"):
        svg_to_pixels(svg(body + RED), 8)


@pytest.mark.parametrize("entity", ["SYSTEM 'file:///etc/passwd'", "'text'"])
def test_an_svg_with_entities_of_its_own_is_refused(entity):
    text = f"<!DOCTYPE svg [<!ENTITY e {entity}>]>" + svg("<text>&e;</text>")
    with pytest.raises(PictureError, match="another file or address"):
        svg_to_pixels(text, 8)


@pytest.mark.parametrize(
    "body",
    [
        '<g id="a">' + RED + '</g><use href="#a"/>',
        '<linearGradient id="a"><stop stop-color="#f00"/></linearGradient>'
        '<rect width="10" height="10" fill="url(#a)"/>',
        RED + '<g id="a"><use xlink:href="#a"/></g>',
    ],
)
def test_an_svg_may_point_at_its_own_parts(body):
    assert (svg_to_pixels(svg(body), 8)[..., 0] == 255).all()


@pytest.mark.parametrize("kind", ["image/png", ""])
def test_an_svg_may_carry_a_picture(kind):
    data = base64.b64encode(file_of(Image.new("RGB", (4, 4), "red"))).decode()
    body = f'<image width="10" height="10" href="data:{kind};base64,{data}"/>'
    assert (svg_to_pixels(svg(body), 8)[4, 4] == [255, 0, 0, 255]).all()


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("image/svg+xml", b"<svg><text>A</text></svg>", "another SVG"),
        ("image/png", b"no picture", "a picture that is broken"),
        (
            "image/png",
            file_of(Image.new("RGB", (64, 64)))[:-40],
            "a picture that is",
        ),
    ],
)
@pytest.mark.parametrize("element", ["image", "feImage"])
def test_a_carried_picture_that_would_be_left_out_is_refused(
    element, kind, data, reason
):
    text = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    body = f'{RED}<{element} width="10" height="10" xlink:href="{text}"/>'
    with pytest.raises(PictureError, match=f"SVG carries {reason}"):
        svg_to_pixels(svg(body), 8)


def bomb(reference, levels=9, times=10):
    """Return a short SVG whose parts each repeat the one before ten times."""
    parts = [f'<g id="p0">{RED}</g>']
    for i in range(1, levels):
        parts.append(f'<g id="p{i}">{reference.format(i - 1) * times}</g>')
    return svg(f"<defs>{''.join(parts)}</defs>" + reference.format(levels - 1))


@pytest.mark.parametrize(
    "reference", ['<use href="#p{}"/>', '<rect fill="url(#p{})"/>']
)
def test_an_svg_that_repeats_itself_a_billion_times_is_refused(reference):
    text = bomb(reference)
    assert len(text) < 5000
    with pytest.raises(PictureError, match="repeats itself"):
        svg_to_pixels(text, 8)


def test_an_svg_bomb_behind_a_style_sheet_is_refused():
    styled = bomb('<rect class="c{}"/>')
    rules = "".join(f".c{i}{{fill:url(#p{i})}}" for i in range(9))
    text = styled.replace("<defs>", f"<defs><style>{rules}</style>")
    with pytest.raises(PictureError, match="repeats itself"):
        svg_to_pixels(text, 8)


@pytest.mark.parametrize(
    "text",
    ["", "words", "<html/>", svg("<g>"), svg(RED, 0, 0), svg(RED, "nan", "1e39")]
    + [svg("<g>" * 5000 + "</g>" * 5000)],
    ids=["empty", "words", "html", "open tag", "no size", "no number", "deep"],
)
def test_an_svg_that_cannot_be_drawn_is_refused(text):
    with pytest.raises(PictureError, match="cannot be drawn"):
        svg_to_pixels(text, 8)


def test_an_svg_of_a_million_pixels_takes_no_more_than_its_square():
    wide = svg('<rect width="1000000" height="1000000"/>', 10**6, 10**6)
    assert svg_to_pixels(wide, 8).shape == (8, 8, 4)


@pytest.mark.parametrize("unit", ["in", "pt", "mm", "cm"])
def test_an_svg_may_measure_itself_in_other_units_than_pixels(unit):
    drawn = svg_to_pixels(svg('<path d="M0 0H999V999H0Z"/>', *[f"5{unit}"] * 2), 8)
    assert (drawn[..., 3] == 255).all()


@pytest.mark.parametrize("body", ["", f"<defs>{RED}</defs>", "<text>word</text>"])
def test_an_svg_that_draws_nothing_is_refused(body):
    with pytest.raises(PictureError, match="draws nothing"):
        svg_to_pixels(svg(body), 8)


def words(text, attributes=""):
    return svg(f'{RED}<text x="1" y="9" font-size="9" {attributes}>{text}</text>')


@pytest.mark.parametrize(
    "family", ["", "Arial", "serif", "sans-serif", "monospace", "cursive", "fantasy"]
)
def test_words_are_drawn_in_one_font_whatever_they_ask_for(family):
    drawn = svg_to_pixels(words("H", f'font-family="{family}"'), 32)
    assert (drawn == svg_to_pixels(words("H"), 32)).all()
    assert (drawn[..., 0] < 100).any()


def test_words_without_a_font_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(drawings, "_font_file", lambda: tmp_path / "none.ttf")
    with pytest.raises(PictureError, match="words, and no font is at hand"):
        svg_to_pixels(words("H"), 8)
    assert svg_to_pixels(words(" "), 8).any()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<text>\u6f22</text>", "signs that DejaVu Sans lacks"),
        ("<foreignObject><p>word</p></foreignObject>", "foreignObject"),
        ("<flowRoot><flowPara>word</flowPara></flowRoot>", "flowRoot"),
    ],
)
def test_words_that_would_be_left_out_are_refused(body, reason):
    with pytest.raises(PictureError, match=reason):
        svg_to_pixels(svg(RED + body), 8)


@pytest.mark.parametrize(
    "body",
    [
        f'<a xlink:href="https://example.org/author">{RED}</a>',
        f'<a href="author.html">{RED}</a>',
        '<linearGradient id="a" xlink:href=""><stop stop-color="#f00"/>'
        '</linearGradient><rect width="10" height="10" fill="url(#a)"/>',
        f'<title>href="a.png" url(b.png) @import</title>{RED}',
    ],
)
def test_a_link_and_mere_words_refer_to_nothing(body):
    assert (svg_to_pixels(svg(body), 8)[..., 0] == 255).all()


def test_a_style_sheet_beside_the_drawing_is_refused():
    head = '<?xml-stylesheet href="other.css"?>'
    with pytest.raises(PictureError, match="another file or address"):
        svg_to_pixels(head + svg(RED), 8)


def test_half_a_character_is_refused():
    with pytest.raises(PictureError, match="cannot be drawn"):
        svg_to_pixels(svg(RED + "<title>\ud800</title>"), 8)
