"""The files of stage 05 say whose training was measured, in full and flat."""

import json

import numpy as np
import pandas as pd
from toys import estimate

from commoncanvas.evaluate import results


def test_metrics_name_their_training_and_a_flat_file_holds_their_values(tmp_path):
    folder, trained = tmp_path / "05/a-18", tmp_path / "04/a-18"
    for place in (folder, trained):
        place.mkdir(parents=True)
    learnt = {"variant": "a-18", "of": "a", "seed": 18, "num_train_pictures": 7}
    learnt["validation_loss"] = 0.25
    (trained / "metrics.json").write_text(json.dumps(learnt))
    values = {"fd": estimate(3, 2, 4), "alignment_shuffled": estimate(1, 0, 2)}
    metrics = {
        "variant": "a-18",
        "guidance_scale": 3.0,
        "common_guidance": 1.0,
        "sweep": {"1.0": {"fd": estimate(8, 7, 9)}, "3.0": {"fd": estimate(7, 6, 8)}},
        "by_prompt": {"human": values, "told": {"fd": estimate(9, 8, 10)}},
        "copies": {"threshold": 0.9, "copy_rate": estimate(0.01, 0, 0.02)},
    }
    results.write_metrics(folder, trained, metrics)
    written = json.loads((folder / "metrics.json").read_text())
    assert written == {"of": "a", "seed": 18, "num_train_pictures": 7, **metrics}
    assert list(written)[:3] == ["variant", "of", "seed"]
    flat = json.loads((tmp_path / "05/a-18.json").read_text())
    assert flat == {"validation_loss": 0.25, "fd": 3, "copy_rate": 0.01}
    del learnt["validation_loss"]  # a published pipeline was not trained
    (trained / "metrics.json").write_text(json.dumps(learnt))
    results.write_metrics(folder, trained, metrics)
    flat = json.loads((tmp_path / "05/a-18.json").read_text())
    assert flat == {"fd": 3, "copy_rate": 0.01}


def test_samples_lie_by_set_and_the_leading_set_s_are_read_by_default(tmp_path):
    folder, trained = tmp_path / "05/a", tmp_path / "04/a"
    for place in (folder, trained):
        place.mkdir(parents=True)
    learnt = {"of": "a", "seed": 1, "num_train_pictures": 7}
    (trained / "metrics.json").write_text(json.dumps(learnt))
    values = {"copies": {"copy_rate": estimate(0, 0, 0)}, "by_prompt": {"human": {}}}
    names = ["human", "gate", "validation", "untried"]
    prompts = {name: pd.DataFrame({"prompt": [name, "x"]}) for name in names}
    requests = [("human", 3.0), ("gate", 3.0), ("validation", 1.0), ("validation", 3.0)]
    drawn = {
        request: np.full((2, 4, 4, 3), number, np.uint8)
        for number, request in enumerate(requests)
    }
    given = {"variant": "a", **values}
    results.write_all(folder, trained, given, drawn, prompts, {"human": {}})
    assert not (folder / "untried").exists()
    for place, scale, number, name in [
        (folder, None, 0, "human"),
        (folder / "gate", None, 1, "gate"),
        (folder / "validation", 1.0, 2, "validation"),
        (folder / "validation", 3.0, 3, "validation"),
    ]:
        pixels, words = results.read_samples(place, scale)
        assert (pixels == number).all() and words == [name, "x"]


def test_prompts_are_read_with_the_ids_of_their_works(tmp_path):
    (tmp_path / "prompts.json").write_text('{"prompts": ["red apple", "tram"]}')
    (tmp_path / "prompt_ids.txt").write_text("set/apple\nset/tram\nset/not-kept\n")
    found = results.read_asked(tmp_path)
    assert found.to_dict("list") == {
        "prompt": ["red apple", "tram"],
        "id": ["set/apple", "set/tram"],
    }
