"""The check for a GPU runs whole with toys, and a part that fails costs no other."""

import json
import time

import pytest

from benchmarks import gpu_check


def late(sizes, save):
    save({"first": 1})
    time.sleep(60)


def broken(sizes, save):
    save({"first": 1})
    raise RuntimeError("no kernel\nfor this")


@pytest.mark.parametrize(
    ("check", "ended"),
    [(late, "at its limit of 1 s"), (broken, "no kernel"), (lambda *_: None, "whole")],
)
def test_a_part_keeps_what_it_has_and_says_how_it_ended(monkeypatch, check, ended):
    limit_s = 1 if check is late else 30
    monkeypatch.setattr(gpu_check, "PARTS", {"one": (check, limit_s)})
    found = gpu_check.run_part("one", gpu_check.tiny_sizes())
    assert ended in found["ended"] and "\n" not in found["ended"]
    assert found.get("first") == (1 if check in (late, broken) else None)
    assert found["seconds"] < 30


def test_all_parts_end_within_twelve_minutes():
    assert sum(limit for _, limit in gpu_check.PARTS.values()) <= 12 * 60


def test_what_was_not_measured_is_neither_reached_nor_missed():
    row = {"row": "x", "mfu": 0.5, "images_per_second": {"value": 99.0}, "ratio": None}
    found = gpu_check.judged({"ablation_256": {"rows": [row]}})
    assert found["mfu_256"]["holds"] is True
    assert found["images_per_second_512"]["holds"] is None
    assert found["ratio_256"]["holds"] is None
    slow = gpu_check.judged({"ablation_512": {"rows": [row]}})
    assert slow["images_per_second_512"]["holds"] is False


@pytest.mark.slow
def test_toys_run_every_part_whole(tmp_path, capsys):
    file = tmp_path / "found.json"
    gpu_check.main(["--tiny", "--json", str(file)])
    found = json.loads(file.read_text())
    assert found["is_tiny"] and found["hardware"]["device"]
    parts = found["parts"]
    assert [part["ended"] for part in parts.values()] == ["whole"] * len(parts)
    assert parts["training"]["same_bits"] and parts["training"]["went_on_from_snapshot"]
    assert parts["captions"]["pictures_per_second, greedy"] > 0
    assert parts["numbers"]["bfloat16"]["gradient_off_by"] < 0.2
    assert parts["numbers"]["float32"]["gradient_off_by"] == 0
    assert parts["sampling"]["images_per_second_16"] > 0
    assert "mfu_256" in capsys.readouterr().out


def test_a_part_that_is_not_there_is_refused():
    with pytest.raises(SystemExit, match="no part nonsense; expected some of ablation"):
        gpu_check.main(["--tiny", "--parts", "nonsense"])
