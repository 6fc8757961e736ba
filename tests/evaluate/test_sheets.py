"""Samples stand beside the works that their prompts name."""

import numpy as np
import pandas as pd
import pytest
from toys import write_real_world

from commoncanvas.evaluate import sheets


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return (folder of stage 01, keys of its works)."""
    folder = tmp_path_factory.mktemp("licenses")
    frame = write_real_world(folder, ["twemoji"], 6)
    return folder, frame["key"].tolist()


def prompts(ids):
    return pd.DataFrame({"prompt": [f"prompt {i}" for i in range(len(ids))], "id": ids})


def samples(count):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_the_work_of_a_prompt_is_found_by_its_id_in_the_prompts_order(world):
    folder, keys = world
    first, none, second = sheets.named_works(folder, [keys[3], "gate/1", keys[0]], 32)
    assert none is None and first.shape == second.shape == (32, 32, 3)
    again = sheets.named_works(folder, [keys[0], keys[3]], 32)
    assert np.array_equal(again[0], second) and np.array_equal(again[1], first)


def test_each_sample_is_below_its_work_and_its_prompt_is_named_once(world):
    folder, keys = world
    found = sheets.below_works(
        samples(2), prompts([keys[0], "gate/1"]), folder, "seed"
    ).data
    assert found.count('width="32" height="64"') == 2
    assert found.count(">prompt 0<") == found.count(">prompt 1<") == 1
    assert "Above the work" in found


def test_samples_of_no_works_stand_alone(world):
    found = sheets.below_works(samples(2), prompts(["gate/1", "gate/2"]), world[0]).data
    assert found.count('width="32" height="32"') == 2 and "the work" not in found


def test_variants_stand_side_by_side_after_the_work(world):
    folder, keys = world
    drawn = {"a": samples(3), "b": samples(3)}
    found = sheets.side_by_side(drawn, prompts([keys[1], "gate/1"]), folder).data
    assert found.count("<img") == 5 and sheets.THE_WORK in found
    assert found.count(">prompt 0<") == 1
    alone = sheets.side_by_side(drawn, prompts(["gate/1"]), folder).data
    assert alone.count("<img") == 2 and sheets.THE_WORK not in alone
