"""What a scale's settings mean is checked before anything runs, and without models."""

import pytest
import yaml

from commoncanvas import checking
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError

OPEN = {"captioner": "open"}
ENDPOINT = {"captioner": "endpoint", "url": "http://host:8000/v1", "model": "qwen"}
HUB = {"captioner": "transformers", "model": "someone/vlm", "revision": "5" * 40}


@pytest.mark.parametrize("settings", [OPEN, ENDPOINT, HUB, {"captioner": "blip2"}])
def test_whole_settings_fit_though_the_models_are_not_here(settings):
    checking.check_captioners({"synthetic": settings}, {})
    checking.check_captioners({"synthetic": OPEN}, settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"captioner": "parrots"}, "has 'parrots'; expected one of open, "),
        ({"captioner": "endpoint", "model": "m"}, "lacks `url`"),
        (ENDPOINT | {"url": "gpu1:8000/v1"}, "gpu1:8000"),
        (ENDPOINT | {"question": "x"}, "does not take `question`"),
        (HUB | {"strip": ["(abc"]}, r"\(abc"),
        (HUB | {"cut": "maybe"}, "`cut` of a captioner is 'maybe'"),
        (HUB | {"revision": None}, "is no folder here and has no revision"),
        (HUB | {"revision": "main"}, "is 'main'; expected a commit"),
        (HUB | {"longest_edge": "x"}, "`longest_edge` .* expected a whole number"),
    ],
)
def test_impossible_captioners_are_refused_in_one_line(settings, message):
    for captioners, second in (
        ({"synthetic": settings}, {}),
        ({"synthetic": OPEN, "mine": settings}, {}),
        ({"synthetic": OPEN}, settings),
    ):
        with pytest.raises(ParameterError, match=message) as refused:
            checking.check_captioners(captioners, second)
        assert "\n" not in str(refused.value)


def test_one_captioner_leads():
    with pytest.raises(ParameterError, match="expected one called 'synthetic'"):
        checking.check_captioners({"mine": OPEN}, {})


@pytest.mark.parametrize(
    ("source", "weights", "unknown"),
    [
        ("recap", {}, "`recap`"),
        ("synthetic", {"synthetic": 0.5, "recap": 0.5}, "`recap`"),
        ("synthetic", {}, ""),
        ("alt_text", {}, ""),
        ("recap", {"human": 0.5, "synthetic": 0.5}, ""),
    ],
)
def test_a_training_on_captions_that_nobody_writes_is_refused(source, weights, unknown):
    values = {"caption_source": source, "caption_weights": weights}
    if not unknown:
        checking.check_caption_sources(values, {"synthetic": OPEN})
        return
    with pytest.raises(ParameterError, match=f"captions {unknown}; expected one of"):
        checking.check_caption_sources(values, {"synthetic": OPEN})


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("captions", {"second_captioner": {"captioner": "parrot"}}, "02_.*'parrot'"),
        ("licenses", {"cc_sources": ["foldr:a.csv"]}, "01_.*write folder:a.csv"),
        ("licenses", {"web_sources": ["megalith:x"]}, "01_.*no licence"),
        ("train", {"caption_source": "recap"}, r"04_train@tiny-\w+: .*`recap`"),
    ],
)
def test_the_command_says_so(section, changes, message, tmp_path, monkeypatch):
    profile = yaml.safe_load((paths.PROFILES / "tiny.yaml").read_text())
    profile[section] |= changes
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(profile))
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    with pytest.raises(ParameterError, match=message):
        checking.check_settings("tiny")
