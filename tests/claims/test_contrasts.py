"""A contrast is paired, over all trainings, and says why where there is none."""

import numpy as np
import pytest

from commoncanvas.analysis import distances, estimates, kernels
from commoncanvas.claims.contrasts import Run, contrast_of
from commoncanvas.claims.outcomes import Effect
from commoncanvas.core.errors import ShapeError

N = 200
RNG = np.random.default_rng(0)
PROMPTS = RNG.normal(0, 5, N)  # how easy each prompt is, for every model
REAL = RNG.normal(0, 1, (300, 8))
GAP = ["alignment_gap"]


def scores(mean, seed=0):
    return PROMPTS + np.random.default_rng(seed).normal(mean, 1, N)


def distance(shift, num=N, seed=1, real=REAL):
    samples = np.random.default_rng(seed).normal(shift, 1, (num, real.shape[1]))
    return kernels.kernel_replicates(samples, real).as_array()


def run(**rows):
    """Make a run of {name: {prompt set: {metric: values}}}; "a-18" is a's from 18."""
    metrics = {}
    for name in rows:
        of, _, seed = name.partition("_from_")
        metrics[name] = {"of": of, "seed": int(seed or 17)}
    return Run(metrics, rows)


def human(**values):
    return {"human": values}


def test_a_difference_is_paired_prompt_by_prompt():
    a, b = scores(2, 1), scores(1, 2)
    found = contrast_of(
        run(a=human(alignment_gap=a), b=human(alignment_gap=b)), GAP, {"a": 1, "b": -1}
    )
    expected = estimates.paired_difference(a, b)
    assert found.estimate == expected and found.unit == "prompts"
    alone = contrast_of(run(a=human(alignment_gap=a)), GAP, {"a": 1}).estimate
    assert expected.high - expected.low < (alone.high - alone.low) / 2
    assert found.text.startswith("alignment_gap ") and "(a)" in found.text


def test_an_interaction_is_paired_over_both_prompt_sets():
    rows = {
        name: {
            "human": {"alignment_gap": scores(mean, seed)},
            "synthetic": {"alignment_gap": scores(mean + 1, seed + 9)},
        }
        for name, mean, seed in (("a", 2, 1), ("b", 3, 2))
    }
    found = contrast_of(
        run(**rows),
        GAP,
        {"a/synthetic": 1, "b/synthetic": -1, "a/human": -1, "b/human": 1},
    )
    gaps = {n: {p: rows[n][p]["alignment_gap"] for p in rows[n]} for n in rows}
    by_prompt = gaps["a"]["synthetic"] - gaps["b"]["synthetic"]
    by_prompt = by_prompt - gaps["a"]["human"] + gaps["b"]["human"]
    assert found.estimate == estimates.mean_interval(by_prompt)


def test_distances_subtract_replicate_by_replicate():
    near, far = distance(0.1), distance(0.5)
    rows = {
        name: human(**{"replicates/kd_efficientnet": values, "alignment_gap": PROMPTS})
        for name, values in (("far", far), ("near", near))
    }
    found = contrast_of(run(**rows), ["kd_efficientnet"], {"far": 1, "near": -1})
    whole = [estimates.Replicates.from_array(x).estimate() for x in (far, near)]
    assert found.estimate.value == pytest.approx(whole[0].value - whole[1].value)
    assert found.estimate.low > 0 and found.estimate.n == N
    # The same samples and reference: what they share cancels.
    same = contrast_of(run(**rows), ["kd_efficientnet"], {"far": 1, "far/human": -1})
    assert same.estimate.high == same.estimate.low == 0


def test_a_paired_distance_is_the_jackknife_of_the_difference():
    a, b = (RNG.normal(s, 1, (60, 5)) for s in (0.0, 0.4))
    real = RNG.normal(0, 1, (90, 5))
    rows = {
        name: human(**{
            "replicates/fd": distances.frechet_replicates(x, real).as_array()
        })
        for name, x in (("a", a), ("b", b))
    }  # fmt: skip
    found = contrast_of(run(**rows), ["fd"], {"a": 1, "b": -1}).estimate

    def difference(pair, real):
        return distances.frechet_distance(pair[:, 0], real) - (
            distances.frechet_distance(pair[:, 1], real)
        )

    whole = estimates.jackknife(difference, np.stack([a, b], 1), real)
    assert found.low == pytest.approx(whole.low) and found.n == 60
    assert found.high == pytest.approx(whole.high)


def test_trainings_from_all_shared_seeds_count():
    rows = {
        "a": human(alignment_gap=scores(2, 1)),
        "b": human(alignment_gap=scores(1, 2)),
        "a_from_18": human(alignment_gap=scores(4, 3)),
        "b_from_18": human(alignment_gap=scores(1, 4)),
        "a_from_19": human(alignment_gap=scores(9, 5)),  # b has no 19
    }
    found = contrast_of(run(**rows), GAP, {"a": 1, "b": -1})
    assert [round(value) for value in found.by_training] == [1, 3]
    assert found.estimate.value == pytest.approx(np.mean(found.by_training))
    # Student's with one degree of freedom: two trainings that differ tell little.
    assert found.estimate.high - found.estimate.low > 12
    assert "of the first trainings" in found.text


def test_the_first_metric_that_all_cells_have_counts():
    rows = {
        "a": human(clip_score_gap=scores(2), alignment_gap=scores(1)),
        "b": human(clip_score_gap=scores(2)),
    }
    of = ["alignment_gap", "clip_score_gap"]
    found = contrast_of(run(**rows), of, {"a": 1, "b": -1})
    assert found.text.startswith("clip_score_gap")


@pytest.mark.parametrize(
    ("contrast", "words"),
    [
        ({"a": 1, "c": -1}, "`c` is no row of this run's experiment."),
        ({"c": 1, "d": -1}, "`c`, `d` are no rows of this run's experiment."),
        ({"a/marks": 1}, "The profile has no prompts of the sets `marks`."),
        ({"a": 1, "b": -1}, "unequal numbers of prompts"),
        ({"a/others": 1}, "only alignment_gap_to_held_out was taken"),
        ({"a/empty": 1}, "`a` were measured without alignment_gap."),
    ],
)
def test_where_there_is_none_it_says_why(contrast, words):
    rows = {
        "a": {
            "human": {"alignment_gap": PROMPTS},
            "others": {"replicates/alignment_gap_to_held_out": PROMPTS},
            "empty": {},
        },
        "b": human(alignment_gap=PROMPTS[:-1]),
    }
    found = contrast_of(run(**rows), GAP, contrast)
    assert isinstance(found, str) and words in found


def test_distances_to_unequal_references_are_refused():
    rows = {
        "a": human(**{"replicates/kd": distance(0)}),
        "b": human(**{"replicates/kd": distance(0, real=REAL[:299])}),
    }
    with pytest.raises(ShapeError, match="equal counts expected"):
        contrast_of(run(**rows), ["kd"], {"a": 1, "b": -1})


def test_an_effect_is_what_comes_back():
    assert isinstance(contrast_of(run(a=human(m=PROMPTS)), ["m"], {"a": 1}), Effect)
