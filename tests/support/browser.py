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


# Put before and after a page's own text: what it said, fetched, and how wide it is.
_BEFORE = """<script>window.said = [];
addEventListener("error", (event) => said.push(String(event.message)));
for (const level of ["error", "warn", "log"])
  console[level] = (...words) => said.push(words.join(" "));
</script>"""
_AFTER = """<script>addEventListener("load", () => setTimeout(() => {
  const root = document.documentElement;
  const asked = performance.getEntriesByType("resource").map((one) => one.name)
    .filter((name) => !name.startsWith("data:"));
  parent.postMessage({ said, asked, over: root.scrollWidth - root.clientWidth }, "*");
}, 100));</script>"""
_COLLECTOR = """<body><script>
const jobs = JOBS, told = [];
let frame = null;
function next() {
  if (frame) frame.remove();
  if (told.length === jobs.length) {
    const out = document.createElement("pre");
    out.id = "out";
    out.textContent = JSON.stringify(told);
    return document.body.append(out);
  }
  frame = document.createElement("iframe");
  frame.style.cssText = `width: ${jobs[told.length][1]}px; height: 900px`;
  frame.src = jobs[told.length][0];
  document.body.append(frame);
}
addEventListener("message", (event) => { told.push(event.data); next(); });
next();
</script>"""


def laid_out(folder, pages, widths):
    """Open pages at several widths; return {(name, width): what happened}.

    That is what the page said on the console, which addresses it asked for, and by how
    many pixels it is wider than the window.

    Args:
        folder: an empty one, for copies whose security policy lets them be asked.
        pages: {name: HTML}.
        widths: of the window [pixels].
    """
    jobs = []
    for number, (name, text) in enumerate(pages.items()):
        text = re.sub(
            r'<meta http-equiv="Content-Security-Policy"[^>]*>', _BEFORE, text
        )
        (folder / f"{number}.html").write_text(text + _AFTER, encoding="utf-8")
        jobs += [(f"{number}.html", width, name) for width in widths]
    collector = folder / "collector.html"
    collector.write_text(_COLLECTOR.replace("JOBS", json.dumps(jobs)), encoding="utf-8")
    more = ("window-size=1600,1000", "dump-dom", "virtual-time-budget=60000")
    told = opened(collector, "allow-file-access-from-files", *more).stdout.decode()
    out = re.search(r'<pre id="out">(.*?)</pre>', told, re.DOTALL)
    found = json.loads(html.unescape(out[1]))
    return {(name, w): f for (_, w, name), f in zip(jobs, found, strict=True)}


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
