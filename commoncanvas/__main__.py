"""The door: every verb of the command line, `commoncanvas VERB`.

A verb imports its room when it is called, so help is instant. Errors that the package
raises on purpose, and Ctrl-C, end here: in one line, with an exit code.
"""

import atexit
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from commoncanvas import __version__
from commoncanvas.core.arguments import Door, Name, Price, stop
from commoncanvas.core.errors import CommonCanvasError, in_one_line

NAME = "commoncanvas"
EXISTING = click.Path(exists=True, path_type=Path)
ANY = click.Path(path_type=Path)
NAMED = Name()
POSITIVE = click.IntRange(1, 1_000_000)
PRICE = Price(0, 1e9)


def chosen() -> str:
    """Return the scale that plain `dvc repro` runs."""
    from commoncanvas.parameters import chosen_scale

    return chosen_scale()


# Options that several verbs share.
PROFILE = "Profile: a file in profiles/."
OF_PARAMS: dict[str, Any] = {"default": chosen, "show_default": "that of params.yaml"}
SCALE = click.option("--scale", type=NAMED, help=PROFILE, **OF_PARAMS)
ROW = "Row of the experiment."
VARIANT = click.option("--variant", required=True, type=NAMED, help=ROW)
OUT = click.option("--out", required=True, type=ANY, help="Folder to write.")
REPO = click.option("--repo", help="Then upload it to this repository of the Hub.")
DATE = click.option("--date", help="ISO date of publication. Default: today, UTC.")


HELP = {"help_option_names": ["-h", "--help"], "show_default": True}


@click.group(NAME, cls=Door, context_settings=HELP)
@click.version_option(__version__, prog_name=NAME)
def door() -> None:
    """CommonCanvas, replicated: licences, captions, latents, training, evaluation.

    Plain `dvc repro` runs every stage that changed; these are the verbs behind it, and
    what one does with its results.
    """


@door.command()
@click.argument("stage")
@click.option("--scale", help="Profile; default: that of params.yaml. None for 00.")
@click.option("--variant", help="Row of the experiment, for 04_train and 05_evaluate.")
def run(stage: str, scale: str | None, variant: str | None) -> None:
    """Run one STAGE: execute its notebook with the profile's values.

    Example: commoncanvas run 04_train --scale mini --variant cc_synthetic
    """
    from commoncanvas.run import run_stage

    run_stage(stage, scale, variant)


@door.command()
@click.argument("scale", type=NAMED)
def choose(scale: str) -> None:
    """Let `dvc repro` run SCALE, with the rows that its profile plans.

    Changes params.yaml, which `git restore params.yaml` undoes.
    Example: commoncanvas choose full
    """
    from commoncanvas.parameters import choose as write

    click.echo(f"params.yaml: scale {scale}, {len(write(scale))} rows")


@door.command()
@click.argument("stages", nargs=-1)
@click.option("--lanes", type=POSITIVE, help="Stages at once. Default: 2 on 2 cores.")
@click.option("--force", is_flag=True, help="Run what has not changed, too.")
@click.option("--no-run-cache", is_flag=True, help="Take nothing from earlier runs.")
def repro(stages: tuple[str, ...], lanes: int | None, **options: bool) -> None:
    """Run the STAGES that changed, and what they need, side by side; default: all.

    As `dvc repro`, which finds nothing to do afterwards. What each stage prints is in
    runs/lanes. Example: commoncanvas repro --lanes 1 06_figures@mini
    """
    from commoncanvas.lanes import repro as run_lanes

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    run_lanes(stages, lanes, **options)


@door.command()
def status() -> None:
    """Say which stages are done, stale or missing, and why."""
    from commoncanvas.status import report

    report()


@door.command()
@SCALE
def check(scale: str) -> None:
    """Check the settings of all stages of a scale, and the names of the variants."""
    from commoncanvas.checking import check_settings

    click.echo(f"the settings of {check_settings(scale)} runs fit")


@door.command()
@SCALE
def pages(scale: str) -> None:
    """Write an offline page for every notebook that has run, and the explorer."""
    from commoncanvas.publish.explorer import write_explorer
    from commoncanvas.publish.pages import write_pages

    written = [*write_pages(scale), *filter(None, [write_explorer(scale)])]
    click.echo(f"wrote {len(written)} pages")


@door.command()
@SCALE
def index(scale: str) -> None:
    """Write the front page."""
    from commoncanvas.core.determinism import settle
    from commoncanvas.core.files import shown
    from commoncanvas.publish.index import write_index

    settle()
    click.echo(f"wrote {shown(write_index(scale))}")


@door.command()
@SCALE
@click.option("--out", type=ANY, help="PNG to write. Default: docs/pipeline.png.")
def diagram(scale: str, out: Path | None) -> None:
    """Draw the pipeline as one picture, with a real work in it, for the README."""
    from commoncanvas.core.determinism import settle
    from commoncanvas.core.files import shown
    from commoncanvas.publish.diagram import write_diagram

    settle()
    click.echo(f"wrote {shown(write_diagram(scale, out))}")


@door.command()
@click.option("--check", is_flag=True, help="Write nothing; fail where one is stale.")
def documents(check: bool) -> None:
    """Write the generated documents from their files."""
    from commoncanvas.publish.documents import write_documents

    write_documents(check)


@door.command()
@SCALE
@click.option("--variants", help="Some of params.yaml: a,b. Default: all that run.")
@click.option("--machine", default="cpu", help="Of results/rates.json; cpu: one core.")
@click.option(
    "--seeds", "num_seeds", default=1, type=POSITIVE, help="Runs of each variant."
)
@click.option("--price", type=PRICE, help="Dollars per machine hour.")
@click.option("--pictures", type=click.IntRange(1), help="Their number; else counted.")
@click.option("--here", is_flag=True, help="Refuse what this machine lacks.")
@click.option("--json", "file", type=ANY, help="Write the plan to this file, too.")
def plan(scale: str, variants: str | None, file: Path | None, **options: Any) -> None:
    """Say what a scale will cost before it runs, and refuse what cannot fit.

    Example: commoncanvas plan --scale paper --variants cc_synthetic --machine a100
    """
    from commoncanvas.speed.plan import report

    if report(scale, variants or "", file, **options):
        stop("the run would not fit; mend what is named above, then plan again.")


@door.command()
@click.argument("what", default="icons", type=click.Choice(["icons", "openclipart"]))
@click.option("--deb", type=EXISTING, help="Open Clip Art's package; no apt-get then.")
@click.option("--folder", type=EXISTING, help="Its usr/share/openclipart/svg, instead.")
def fetch(what: str, deb: Path | None, folder: Path | None) -> None:
    """Fetch and verify the pinned sources: `icons` (the default) or `openclipart`."""
    if deb and folder:
        raise click.UsageError("--deb and --folder exclude each other; give one.")
    from commoncanvas.catalog.sources.pinned import report

    report(what, deb, folder)


@door.command()
@click.argument("source")
@click.option("--html", default="audit.html", type=ANY, help="Page to write.")
@click.option("--limit", type=click.IntRange(1), help="Look at the first rows only.")
@click.option(
    "--pictures/--no-pictures",
    default=True,
    help="Look at pictures: reject what cannot be opened, find copies.",
)
def audit(source: str, html: Path, limit: int | None, pictures: bool) -> None:
    """Count a SOURCE's licences, credits, captions and copies, before it is used.

    SOURCE is an entry of a profile's sources, or of one shard of it.

    Example: commoncanvas audit gpic:shards/gpic_train_00000.tar
    """
    from commoncanvas.catalog.audit import audit
    from commoncanvas.publish.audit import as_page, as_text
    from commoncanvas.publish.pages import write_page

    found = audit(source, limit, pictures)
    click.echo(as_text(found))  # first, as a page may be refused
    write_page(html, as_page(found))
    click.echo(f"wrote {html}", err=True)


class Download(click.Command):
    """A command that takes its settings, with defaults, from the downloader."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from commoncanvas.catalog.downloads import SETTINGS

        options: list[click.Parameter] = [
            click.Option(
                ["--" + setting.name.replace("_", "-")],
                type=type(setting.default),
                default=setting.default,
                help=setting.metadata["help"],
            )
            for setting in SETTINGS
        ]
        return [*super().get_params(ctx), *options]


@door.command(cls=Download)
@click.argument("catalog", type=ANY)
@click.argument("folder", type=ANY)
@click.option(
    "--from",
    "origin",
    default="flickr",
    type=click.Choice(["flickr", "multimedia-commons"]),
    help="Where the pictures are.",
)
@click.option("--limit", type=int, help="Look at the first rows only.")
@click.option("--verify", is_flag=True, help="First hash the pictures in FOLDER.")
def download(
    catalog: Path, folder: Path, limit: int | None, verify: bool, **settings: Any
) -> None:
    """Fetch the pictures of a CATALOG (parquet) into FOLDER; run it again to go on."""
    from commoncanvas.catalog.outcomes import report

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    try:
        failed = report(catalog, folder, limit, verify, **settings)
    except (CommonCanvasError, OSError, ValueError) as error:
        stop(f"downloads stopped: {in_one_line(error)}")
    sys.exit(min(failed, 1))


@door.command()
@click.argument("entry", nargs=-1, required=True)
@click.option("--add", is_flag=True, help="Put them on the list, docs/takedown.txt.")
def takedown(entry: tuple[str, ...], add: bool) -> None:
    """Say which works an ENTRY (key or SHA-256) names, and which models used them.

    Example: commoncanvas takedown twemoji/red-apple --add
    """
    from commoncanvas.licenses.takedown import report

    report(entry, add)


@door.command()
@click.argument("prompt")
@click.option("--out", default="sample.png", type=ANY, help="PNG to write.")
@click.option("--seed", default=0, help="Of the starting noise.")
@click.option("--num", default=1, help="Pictures, of this seed and the next ones.")
@click.option("--strip", is_flag=True, help="All in one PNG, side by side.")
@click.option(
    "--guidance",
    "guidance_scale",
    type=float,
    metavar="SCALE",
    help="How closely to follow the prompt; 1 is off. Default: as measured.",
)
@click.option(
    "--steps", "num_inference_steps", type=int, help="DDIM steps. Default: as measured."
)
@click.option("--model", type=ANY, help="Its folder. Default: results/model.")
@click.option(
    "--scale", type=NAMED, help="The model's profile, to name the closest works."
)
@click.pass_obj
def sample(
    alone: bool, prompt: str, out: Path, model: Path | None, **options: Any
) -> None:
    """Draw a PROMPT with a released model, on the CPU, in seconds.

    The PNG's metadata holds prompt, model, seed, settings and attribution; the same
    command gives the same bytes. Short names work best (red apple, blue heart): the
    model was trained on such captions. Of several pictures each file's name ends in
    its seed: apple-0.png, apple-1.png. With --scale, whose stages 01 to 05 have run,
    the closest training works are named, in the PNG too.

    Example: commoncanvas sample "red apple" --seed 0 --out apple.png
    """
    if alone:
        quick_start()
    from commoncanvas.release.sample import report

    report(prompt, out, model, **options)


@door.command()
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="0: any.")
@click.option("--model", type=ANY, help="Its folder. Default: results/model.")
@click.pass_obj
def demo(alone: bool, port: int, model: Path | None) -> None:
    """Open a page on this machine on which one draws any prompt; Ctrl-C ends it."""
    if alone:
        quick_start()
    from commoncanvas.release.demo import serve

    serve(port, model)


@door.command()
@click.argument("picture", type=ANY)
@SCALE
@click.option(
    "--variant", default="cc_synthetic", type=NAMED, help="Whose works are searched."
)
@click.option(
    "-k", default=5, type=POSITIVE, metavar="WORKS", help="How many works to name."
)
@click.option("--html", type=ANY, help="Write a page with pictures, too.")
def credits(picture: Path, scale: str, variant: str, k: int, html: Path | None) -> None:
    """Name the training works closest to a PICTURE, with author, licence and link.

    Says whether it copies one, and prints an attribution. Only the picture's centre
    square is compared. Example: commoncanvas credits sample.png --variant cc_human
    """
    from commoncanvas.evaluate.credits import report

    report(picture, scale, variant, k, html)


@door.command()
@click.option("--scale", default="full", type=NAMED, help=PROFILE)
@click.option("--variant", default="cc_emoji", type=NAMED, help=ROW)
@click.option("--out", type=ANY, help="Folder to write. Default: results/model.")
@click.option("--limit", default=25, type=POSITIVE, help="Megabytes at most.")
@click.option("--yes", is_flag=True, help="Replace another release without asking.")
@REPO
def release(yes: bool, **options: Any) -> None:
    """Turn a trained variant into a small model that plain diffusers loads.

    With card, attribution and pictures; stages 01 to 05 have run.
    """
    from commoncanvas.release.model import report

    report(**options, ask=None if yes else confirmed)


@door.command()
@click.option("--scale", default="full", type=NAMED, help=PROFILE)
@click.option(
    "--rows", default="", help="Rows, commas between. Default: all but repeats."
)
@click.option("--out", type=ANY, help="Folder to write. Default: results/SCALE/site.")
def site(**options: Any) -> None:
    """Keep a finished run's pages as a static site that any host can serve.

    The front page and the pages of its rows, as `pages` and `index` wrote them.
    """
    from commoncanvas.release.site import report

    report(**options)


@door.command("release-data")
@SCALE
@OUT
@DATE
@REPO
def release_data(**options: Any) -> None:
    """Write a scale's catalogue with its captions as a data set that others load.

    In CommonCatalog's columns and folders, with ledger, card and Croissant; stages 01
    and 02 have run. A run that was stopped goes on.
    """
    from commoncanvas.release.dataset import report

    report(**options)


@door.command()
@OUT
@click.option("--model", type=ANY, help="A released one. Default: results/model.")
@click.option("--answers", type=EXISTING, help="YAML: what only a person can say.")
@DATE
def rights(**options: Any) -> None:
    """Write a released model's rights in the forms that organisations ask for.

    Croissant and SPDX of its works, the AI Act's public summary of training content,
    and a page of them. Example: commoncanvas rights --out rights --answers answers.yaml
    """
    from commoncanvas.release.rights import report

    report(**options)


@door.command()
@SCALE
def keep(scale: str) -> None:
    """Keep a finished run's results, small, in results/SCALE."""
    from commoncanvas.core.files import shown
    from commoncanvas.release.reference import keep as keep_results

    click.echo(f"wrote {shown(keep_results(scale))}")


@door.command()
@SCALE
@VARIANT
def recognise(scale: str, variant: str) -> None:
    """Measure whether a variant's pictures of held-out names are recognised."""
    from commoncanvas.core.determinism import settle
    from commoncanvas.release.recognition import report

    settle()
    report(scale, variant)


@door.command()
@click.option(
    "--questions", required=True, type=EXISTING, help="Your geneval2_data.jsonl."
)
@click.option(
    "--judge", required=True, help="Model that reads pictures: folder, or ID@COMMIT."
)
@click.option("--model", type=ANY, help="A released one. Default: results/model.")
@click.option(
    "--num", type=click.IntRange(2), help="Prompts, spread over the file. Default: all."
)
@click.option("--seed", default=0, help="Of the starting noise.")
@click.option("--out", default="geneval.json", type=ANY, help="JSON to write.")
def geneval(**options: Any) -> None:
    """Score a released model by GenEval 2: is what a prompt asks for in the picture?

    Draws each prompt and asks a judge about objects, attributes, counts, positions and
    verbs. Soft-TIFA is how probable the judge finds the right answers. AM, their
    arithmetic mean, says whether single things are right; GM, the geometric mean,
    whether a whole prompt is.

    The questions, geneval2_data.jsonl, are in the repository facebookresearch/GenEval2
    on GitHub, at commit c088ab7. They are under CC BY-NC 4.0, so neither they nor the
    scores may be used commercially. The judge of published scores is
    Qwen/Qwen3-VL-8B-Instruct, which needs a GPU and torchvision; scores of other judges
    cannot be compared with them. After Ctrl-C the same command goes on.

    Example: commoncanvas geneval --questions geneval2_data.jsonl --judge qwen3-vl-8b
    """
    from commoncanvas.release.geneval import report

    report(**options)


@door.command()
@SCALE
def marks(scale: str) -> None:
    """Measure how closely all variants draw trademarks; keep and print the results."""
    from commoncanvas.release.marks import report

    report(scale)


@door.command()
@click.argument("spec", type=EXISTING)
def launch(spec: Path) -> None:
    """Train as one of several processes by a SPEC.json that stage 04 wrote.

    For torchrun and `accelerate launch`: `-m commoncanvas launch SPEC.json`.
    """
    from commoncanvas.train.launch import join

    join(spec)


def confirmed(question: str) -> bool:
    """Ask, and say whether the answer is yes; nobody to answer is no."""
    try:
        return click.confirm(question)
    except click.Abort:
        return False


def quick_start() -> None:
    """Import the parts of a model quickly, in a process that does nothing but draw."""
    from commoncanvas.release.light import start

    start()


def main() -> None:
    """Run the command line; a stopped run waits for none of its threads."""
    try:
        door(prog_name=NAME, obj=True)  # True: the process is this verb's alone
    except SystemExit as end:
        if end.code not in (130, 143):  # of Ctrl-C and SIGTERM
            raise
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(end.code)


if __name__ == "__main__":
    main()
