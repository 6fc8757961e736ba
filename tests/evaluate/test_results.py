"""The files of stage 05 say whose training was measured, in full and flat."""

import json

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
        "common_guidance": 3.0,
        "guidance": {"1.0": {}, "3.0": {**values, "by_prompt": {"human": values}}},
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
