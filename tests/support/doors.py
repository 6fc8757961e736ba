"""The command line, called in this process."""

from click.testing import CliRunner

from commoncanvas.__main__ import door


def call(*words, fails=False):
    """Call a verb and return what it printed: stdout, or the last line of a failure.

    What stands above that line is progress, never a traceback.
    """
    done = CliRunner().invoke(door, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert (done.exit_code == 1) == fails, done.output
    if not fails:
        return done.stdout
    assert done.stderr.endswith("\n") and "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]
