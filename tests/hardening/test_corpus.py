"""A small part of the hostile corpus, and one stage killed."""

import tempfile

import pytest

from tests.hardening import frame
from tests.hardening.__main__ import KINDS, STAGED, module_of, try_kinds
from tests.hardening.stages import World

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in STAGED])
def test_a_part_of_every_kind_holds(kind):
    results = list(try_kinds([kind], seed=23, jobs=1, share=0.001, stride=40))
    assert [result for result in results if result.fault] == [] and results


def test_the_whole_is_as_large_as_promised():
    modules = [module_of(kind) for kind in KINDS]
    assert sum(getattr(module, "RANDOM", 0) for module in modules) >= 200_000
    names = [c.name for module in modules for c in module.cases() if c.num == 0]
    assert len(names) >= 1_500 and module_of("kills").TIMES >= 25


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_cases_of_a_kind_have_one_name(kind):
    names = [case.name for case in module_of(kind).cases()]
    assert len(set(names)) == len(names)


def test_a_stage_that_was_killed_ends_in_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    World().first_run("01_licenses")
    for share, how in ((0.5, "SIGKILL"), (0.8, "SIGINT")):
        World().kill("01_licenses", share, how)
    World().run("01_licenses")
    World().expect_as_before()


def test_the_runner_goes_on_after_a_fault(monkeypatch):
    module = module_of("pictures")
    cases = [frame.Case("pictures", name, lambda: 1 / 0, None) for name in "ab"]
    monkeypatch.setattr(module, "cases", lambda: iter(cases))
    found = list(try_kinds(["pictures"], seed=1, jobs=1, share=0))
    assert [result.fault[0] for result in found] == ["traceback"] * 2
