"""A spec comes back from its JSON as it was, and a wrong one is one line."""

import json
from dataclasses import asdict

import pytest
from toys import UNET, make_recipe

from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.files import write_json
from commoncanvas.train.recipe import Previews, TrainSpec, read_spec

SPEC = TrainSpec(
    key="key",
    folder="s3://bucket/run/03_latents",
    works={"licenses": ["c"], "caption_source": {"human": 1, "synthetic": 0.5}},
    unet_config=UNET,
    text_width=8,
    recipe=make_recipe(learning_rate=1e-4),
    description="toy",
    previews=Previews(["a", "b"], 4, ["vae", ""], ["text", ""], 12),
    latent_shape=[4, 8, 8],
)


@pytest.mark.parametrize("changes", [{}, {"previews": None, "latent_shape": None}])
def test_a_spec_comes_back_from_its_json(tmp_path, changes):
    spec = TrainSpec(**(vars(SPEC) | changes))
    write_json(tmp_path / "spec.json", asdict(spec))
    assert read_spec(tmp_path / "spec.json") == spec


@pytest.mark.parametrize("part", [None, "recipe", "previews"])
def test_unknown_and_missing_names_are_one_line(tmp_path, part):
    found = asdict(SPEC)
    names = found[part] if part else found
    lost = list(names)[0]
    del names[lost]
    names["x"] = 1
    (tmp_path / "spec.json").write_text(json.dumps(found))
    match = rf"lacks \['{lost}'\] and has the unknown \['x'\]; expected"
    with pytest.raises(ParameterError, match=match) as caught:
        read_spec(tmp_path / "spec.json")
    message = str(caught.value)
    assert "\n" not in message and (part or "spec.json") in message


@pytest.mark.parametrize("text", ["[]", "{", '{"recipe": 3}'])
def test_what_is_no_spec_is_one_line(tmp_path, text):
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises((ManifestError, ParameterError)) as caught:
        read_spec(tmp_path / "spec.json")
    assert "\n" not in str(caught.value)
