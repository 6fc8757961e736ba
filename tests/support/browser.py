"""A real browser without a window, for pages that people use offline."""

import contextlib
import html
import json
import re
import shutil
import subprocess
import tempfile
import time

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
PROFILE_IN_USE = 21  # its exit code
FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
    *("disable-background-networking", "disable-component-update", "disable-sync"),
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

# What every driver may use: real key events, and `tell` for what it found.
_TOOLS = """<script>
const press = (key, target = document.body, more = {}) => target.dispatchEvent(
  new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));
const where = () => document.getElementById("place").textContent;
function tell(found) {
  const out = document.createElement("pre");
  out.id = "out";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
}
</script>"""


def drive(page, script):
    """Open a page with a script at its end; return what the script told.

    Skips the test where Chromium cannot open a new profile of its own, which is no
    matter of the page.

    Args:
        page: path of the HTML file; the driven copy and a profile go beside it.
        script: JavaScript that calls `tell` once, perhaps after a reload.
    """
    copy = page.with_name("driven.html")
    text = page.read_text(encoding="utf-8")
    copy.write_text(f"{text}{_TOOLS}<script>{script}</script>", encoding="utf-8")
    told = opened(copy, "dump-dom", "virtual-time-budget=5000")
    out = re.search(r'<pre id="out">(.*?)</pre>', told.stdout.decode(), re.DOTALL)
    return json.loads(html.unescape(out[1]))


def opened(page, *more):
    """Return what a run of Chromium left behind that opened a page with more flags."""
    # On a busy machine Chromium may take its own new profile for one in use, or wait
    # for ever for one of its own processes.
    for wait_s in (0, 1, 5, 20):
        time.sleep(wait_s)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            own = [*FLAGS, *more, f"user-data-dir={profile}"]
            command = [BROWSER, *(f"--{flag}" for flag in own), page.as_uri()]
            try:
                told = subprocess.run(command, capture_output=True, timeout=60)
            except subprocess.TimeoutExpired as error:
                told = error
                continue
        if told.returncode != PROFILE_IN_USE:
            told.check_returncode()
            return told
    if isinstance(told, subprocess.TimeoutExpired):
        raise told
    pytest.skip(f"Chromium took four new profiles for ones in use: {told.stderr!r}")


@contextlib.contextmanager
def staying(address, profile):
    """Keep an address open in a Chromium with a profile folder of its own."""
    flags = (*FLAGS, "remote-debugging-port=0", f"user-data-dir={profile}")
    command = [BROWSER, *(f"--{flag}" for flag in flags), address]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    browser = subprocess.Popen(command, **quiet)
    try:
        yield
    finally:
        browser.terminate()
        browser.wait(30)
