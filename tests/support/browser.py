"""A real browser without a window, for pages that people use offline."""

import html
import json
import re
import shutil
import subprocess

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
PROFILE_IN_USE = 21  # its exit code
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

    Args:
        page: path of the HTML file; the driven copy and a profile go beside it.
        script: JavaScript that calls `tell` once, perhaps after a reload.
    """
    copy = page.with_name("driven.html")
    text = page.read_text(encoding="utf-8")
    copy.write_text(f"{text}{_TOOLS}<script>{script}</script>", encoding="utf-8")
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run dump-dom"
    flags += " disable-background-networking disable-component-update disable-sync"
    flags += " virtual-time-budget=5000"
    # On a busy machine Chromium may take its own new profile for one in use.
    for profile in ("profile", "another-profile"):
        own = f"{flags} user-data-dir={page.with_name(profile)}"
        command = [BROWSER, *(f"--{flag}" for flag in own.split()), copy.as_uri()]
        told = subprocess.run(command, capture_output=True, timeout=120)
        if told.returncode != PROFILE_IN_USE:
            break
    told.check_returncode()
    out = re.search(r'<pre id="out">(.*?)</pre>', told.stdout.decode(), re.DOTALL)
    return json.loads(html.unescape(out[1]))
