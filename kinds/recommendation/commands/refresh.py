"""`pressroom refresh`: manages recommenders, their runs and their releases."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from jobs.errors import ConfigurationError
from jobs.ranges import MAX_SECONDS
from jobs.shown import plural
from kinds.recommendation.recommender import KIND, ServingPlace
from pressroom.commands.options import DeviceOption, Json, Out, reread_path
from pressroom.commands.schedule import (
    STARTS_UNDER_UP,
    ScheduleGroup,
    add_schedule_commands,
    print_schedule,
)
from pressroom.commands.session import (
    altered_named,
    connected,
    devices_of_command,
    settings_of_command,
)
from pressroom.console import EXIT_FAILURE, errors_reported, print_json, print_line, say

app = typer.Typer(
    no_args_is_help=True,
    help="Manage recommenders: their files, rules, schedules and releases.",
)

RECOMMENDERS = ScheduleGroup("refresh", "recommender", KIND, "refresh_without_schedule")

_REREAD_FILE = typer.Option(parser=reread_path, metavar="FILE")
Name = Annotated[str, typer.Argument(metavar="NAME")]
Number = Annotated[
    int | None,
    typer.Option(min=1, max=2**31 - 1, help="Number of a release, as listed by `pressroom refresh show`."),
]


@app.command()
def create(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE.toml",
            help="Name of the recommender, with its settings as options; or a TOML file with all settings.",
        ),
    ],
    catalogue: Annotated[Path | None, _REREAD_FILE] = None,
    interactions: Annotated[Path | None, _REREAD_FILE] = None,
    cron: Annotated[
        str | None,
        typer.Option(
            help='Cron expression, such as "0 3 * * *" for every night at three; by default, runs start '
            "only on demand."
        ),
    ] = None,
    time_zone: Annotated[str, typer.Option(help="Time zone of the schedule, such as Europe/Berlin.")] = "UTC",
    json: Json = False,
) -> None:
    """Create a recommender, or change the existing one with the same name."""
    from db import migrate
    from db.schedules import get_schedule
    from kinds.recommendation.recommender_file import make_recommender_file, read_recommender_file
    from kinds.recommendation.recommenders import make_recommender

    with errors_reported():
        if what.endswith(".toml"):
            if catalogue or interactions or cron:
                raise typer.BadParameter("give either a file or options, not both", param_hint="FILE.toml")
            file = read_recommender_file(Path(what))
        else:
            options = {"name": what, "cron": cron, "time_zone": time_zone}
            files = {"catalogue": catalogue, "interactions": interactions}
            file = make_recommender_file({**options, **files}, folder=Path.cwd(), where="the options")
        name = file.name or Path(what).stem
        if file.catalogue is None or file.interactions is None:
            raise ConfigurationError(
                f"the recommender {name!r} names no files: give --catalogue and --interactions",
                code="refresh_without_sources",
            )
    with connected() as (database, _, settings):
        migrate.upgrade(database)
        recommender, is_new = make_recommender(database, file, name, settings, has_sources=True)
        say(f"{'Created' if is_new else 'Changed'} the recommender {name}.")
        print_schedule(database, get_schedule(database, recommender.id), RECOMMENDERS.noun, json=json)
    if file.cron is not None:
        say(STARTS_UNDER_UP)


add_schedule_commands(app, RECOMMENDERS)


@app.command()
def plan(name: Name, device: DeviceOption = "auto", json: Json = False) -> None:
    """Print what a run would write and why, without writing any text."""
    from kinds.recommendation.export.outcome import export_outcome, lines_of_stages, lines_of_texts
    from kinds.recommendation.recommenders import recommender_run
    from pressroom.run import run_on_demand

    with errors_reported():
        settings = settings_of_command()
        find = partial(recommender_run, name, settings, device, None)
        devices = partial(devices_of_command, device)
        result = run_on_demand(find, None, settings, devices, export_outcome)
    texts = result.exported.texts
    if json:
        print_json({**result.summary.as_json(), **result.exported.as_json()})
    elif texts is not None:
        for line in (*lines_of_stages(result.exported.stages), *lines_of_texts(texts, is_plan=True)):
            print_line(line)
    if result.summary.report.counts.failed or texts is None:
        raise typer.Exit(EXIT_FAILURE)


@app.command()
def run(name: Name, out: Out = Path("out"), device: DeviceOption = "auto", json: Json = False) -> None:
    """Run a recommender once, now. Uses running workers if there are any; otherwise starts its own."""
    from kinds.recommendation.export.outcome import export_outcome
    from kinds.recommendation.recommenders import recommender_run
    from pressroom.run import run_on_demand

    with errors_reported():
        settings = settings_of_command()
        find = partial(recommender_run, name, settings, device, out)
        devices = partial(devices_of_command, device)
        result = run_on_demand(find, out, settings, devices, export_outcome)
    result.exported.print(result.summary, out, json=json)


@app.command("rollback")
def roll_back(name: Name, to: Number = None) -> None:
    """Publish an earlier release again; items that are sold out by now stay off the lists."""
    from kinds.recommendation.recommenders import rollback
    from kinds.recommendation.store import recommenders
    from storage import open_store

    with connected() as (database, urls, _):
        recommender = recommenders.find_recommender(database, name)
        release = rollback(database, open_store(urls.s3_url), recommender, to)
    print_line(f"release {release.number} of {name} is published again")


@app.command()
def withdraw(
    name: Name,
    items: Annotated[list[str], typer.Argument(metavar="ITEM...")],
    reason: Annotated[str, typer.Option(help="Reason to store with the withdrawal.")] = "withdrawn by hand",
) -> None:
    """Remove items from the published lists now; the next run decides again from the catalogue."""
    from kinds.recommendation.store import recommenders, releases

    with connected() as (database, _, _):
        recommender = recommenders.find_recommender(database, name)
        number = releases.withdraw(database, recommender.id, dict.fromkeys(items, reason))
    print_line(
        f"{plural(number, 'item', 'items')} withdrawn; `pressroom refresh serve {name}` removes them from "
        "Redis"
    )


@app.command()
def export(name: Name, out: Out = Path("out"), release: Number = None, json: Json = False) -> None:
    """Write a release, by default the published one, to a folder as JSONL, Parquet, texts and a page."""
    from kinds.recommendation.export.outcome import export_to_folder
    from kinds.recommendation.recommenders import require_release
    from kinds.recommendation.store import recommenders
    from storage import open_store

    with altered_named() as on_altered, connected() as (database, urls, _):
        recommender = recommenders.find_recommender(database, name)
        chosen = require_release(database, recommender, release)
        out.mkdir(parents=True, exist_ok=True)
        figures = export_to_folder(database, open_store(urls.s3_url), chosen, out, on_altered)
        if json:
            print_json(figures.as_json())
        else:
            print_line(f"release {figures.number} of {name} is in {out}")


@app.command()
def diff(
    name: Name,
    before: Annotated[int, typer.Argument(min=1, max=2**31 - 1)],
    after: Annotated[int, typer.Argument(min=1, max=2**31 - 1)],
    out: Out = Path("out"),
    json: Json = False,
) -> None:
    """Compare two releases: write diff.html for readers and diff.jsonl for programs."""
    from kinds.recommendation.export.diff import compare_releases
    from kinds.recommendation.recommenders import open_release
    from kinds.recommendation.store import recommenders, releases
    from storage import open_store

    with altered_named() as on_altered, connected() as (database, urls, _):
        recommender = recommenders.find_recommender(database, name)
        store = open_store(urls.s3_url)
        out.mkdir(parents=True, exist_ok=True)
        pair = [
            open_release(database, store, releases.find_release(database, recommender.id, number), on_altered)
            for number in (before, after)
        ]
        summary = compare_releases(pair[0], pair[1], out)
        if json:
            print_json(summary.as_json())
        else:
            print_line(f"{summary}; see {out / 'diff.html'}")


@app.command()
def serve(
    name: Name,
    url_variable: Annotated[
        str | None,
        typer.Option(
            help="Environment variable that holds redis://HOST:PORT/DATABASE; defaults to SERVING_REDIS_URL."
        ),
    ] = None,
    staging: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100_000,
            help="Second logical database of the server, where new rows are prepared; defaults to 15.",
        ),
    ] = None,
    expire_seconds: Annotated[
        int | None,
        typer.Option(
            min=60, max=MAX_SECONDS, help="Time after which rows expire; by default, they never expire."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write the published release to Redis under keys rec:USER, and switch to it in one step."""
    from kinds.recommendation.recommenders import open_release, require_release
    from kinds.recommendation.serving.follower import target_of
    from kinds.recommendation.serving.serving import serve_release
    from kinds.recommendation.store import recommenders
    from storage import open_store

    with altered_named() as on_altered, connected() as (database, urls, _):
        recommender = recommenders.find_recommender(database, name)
        options = {"url_variable": url_variable, "staging": staging, "expire_seconds": expire_seconds}
        own = recommender.serving or ServingPlace(url_variable="SERVING_REDIS_URL")
        changed = {name: value for name, value in options.items() if value is not None}
        target = target_of(own.model_copy(update=changed))
        release = require_release(database, recommender)
        reader = open_release(database, open_store(urls.s3_url), release, on_altered)
        served = serve_release(reader, target)
        if json:
            print_json(
                {"release": served.release, "num_rows": served.num_rows, "num_written": served.num_written}
            )
        else:
            print_line(
                f"release {served.release} is served: {plural(served.num_rows, 'row', 'rows')}, "
                f"{served.num_written:,} written"
            )
