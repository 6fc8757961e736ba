"""Guidance is tried and chosen on prompts that are never judged."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from toys import estimate

from commoncanvas.core.errors import ParameterError
from commoncanvas.evaluate import sweep

SETS = {
    name: pd.DataFrame({"prompt": list(ids), "id": list(ids)})
    for name, ids in {"human": "abc", "tried": "de", "gate": "fg"}.items()
}


def network(kernel, name="net"):
    return SimpleNamespace(name=name, frechet=f"fd_{name}", kernel=kernel)


def test_the_set_for_trying_is_apart_from_those_that_are_judged():
    tried, judged = sweep.part(SETS, "tried")
    assert list(tried) == ["tried"] and list(judged) == ["human", "gate"]


@pytest.mark.parametrize("name", ["human", "none"])
def test_a_set_that_leads_or_is_not_there_cannot_be_tried_on(name):
    with pytest.raises(ParameterError, match=f"sweep_prompts is '{name}', .*man` le"):
        sweep.part(SETS, name)


def test_a_prompt_that_is_tried_and_judged_is_one_line():
    both = {**SETS, "gate": pd.DataFrame({"prompt": ["x", "y"], "id": ["d", "g"]})}
    with pytest.raises(ParameterError, match="1 prompts of `gate` are in `tried` too"):
        sweep.part(both, "tried")


@pytest.mark.parametrize(
    ("of", "rows", "wanted"),
    [("a", [], [1.0, 3.0]), ("a", ["b", "a"], [1.0, 3.0]), ("a", ["b"], [])],
)
def test_a_repeat_is_tried_as_its_row_is(tmp_path, of, rows, wanted):
    told = json.dumps({"variant": f"{of}-18", "of": of})
    (tmp_path / "metrics.json").write_text(told)
    assert sweep.scales_of(tmp_path, rows, [3.0, 1.0, 3.0]) == wanted


def test_the_best_scale_has_the_least_kernel_distance_whatever_the_others_say():
    swept = {
        str(scale): {"kd_to_x": estimate(kd, 0, 9), "fd_net": estimate(fd, 0, 9)}
        for scale, kd, fd in [(1.0, 5, 1), (3.0, 2, 3), (8.0, 2, 0)]
    }
    extractors = [network(None, "other"), network("kd")]
    assert sweep.best(swept, extractors, "_to_x") == 3.0
    with pytest.raises(ParameterError, match="own_guidance is true, and none of `net`"):
        sweep.best(swept, [network(None)])
