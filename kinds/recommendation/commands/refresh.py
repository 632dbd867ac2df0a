"""`pressroom refresh`: manage recommendations that are recomputed on a schedule."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.errors import ConfigurationError
from jobs.ranges import MAX_SECONDS
from kinds.recommendation.recommender import Recommender, ServingPlace
from pressroom.commands.options import DeviceOption, Json, Out, standing_path
from pressroom.commands.session import (
    altered_named,
    connected,
    devices_of_command,
    settings_of_command,
)
from pressroom.console import EXIT_FAILURE, errors_reported, print_json, print_line, say

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db import schedules
    from kinds.recommendation.show_recommenders import RecommenderState

app = typer.Typer(
    no_args_is_help=True,
    help="Manage recommendations that are refreshed by a schedule: their files, rules and releases.",
)

NUM_RUNS_SHOWN = 10

_STANDING_FILE = typer.Option(parser=standing_path, metavar="FILE")
Name = Annotated[str, typer.Argument(metavar="NAME")]
Number = Annotated[
    int | None, typer.Option(min=1, max=2**31 - 1, help="Number of a release, as `refresh show` lists it.")
]


@app.command()
def create(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE.toml",
            help="A name, together with options, or a TOML file that sets everything.",
        ),
    ],
    catalogue: Annotated[Path | None, _STANDING_FILE] = None,
    interactions: Annotated[Path | None, _STANDING_FILE] = None,
    cron: Annotated[
        str | None,
        typer.Option(
            help='When it runs, such as "0 3 * * *" for every night at three; unset: only by command.'
        ),
    ] = None,
    time_zone: Annotated[str, typer.Option(help="Time zone of the schedule, such as Europe/Berlin.")] = "UTC",
    json: Json = False,
) -> None:
    """Make a recommender, or change the one of this name."""
    from db import migrate
    from kinds.recommendation.recommender_file import make_recommender_file, read_recommender_file
    from kinds.recommendation.recommenders import make_recommender

    with errors_reported():
        if what.endswith(".toml"):
            if catalogue or interactions or cron:
                raise typer.BadParameter("give a file or options, not both", param_hint="FILE.toml")
            given = read_recommender_file(Path(what))
        else:
            options = {"name": what, "cron": cron, "time_zone": time_zone}
            files = {"catalogue": catalogue, "interactions": interactions}
            given = make_recommender_file({**options, **files}, folder=Path.cwd(), where="the options")
        name = given.name or Path(what).stem
        if given.catalogue is None or given.interactions is None:
            raise ConfigurationError(
                f"the recommender {name!r} names no files: give catalogue and interactions",
                code="refresh_without_sources",
            )
    with connected() as (database, _, settings):
        migrate.upgrade(database)
        made = make_recommender(database, given, name, settings, standing=True)
        say(f"{'Made' if made.is_new else 'Changed'} the recommender {name}.")
        _print(database, made.recommender, json=json)
    if given.cron is not None:
        say("It runs while `pressroom up`, or `pressroom beat` with dispatcher and workers, does.")


@app.command("list")
def list_recommenders(json: Json = False) -> None:
    """List the recommenders: when each runs, and which release stands."""
    from kinds.recommendation.show_recommenders import print_recommender_line
    from kinds.recommendation.store import recommenders

    with connected() as (database, _, _):
        states = [
            _state(database, recommender, num_runs=1)
            for recommender in recommenders.list_recommenders(database)
        ]
    if json:
        print_json({"recommenders": [state.as_json() for state in states]})
        return
    for state in states:
        print_recommender_line(state)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show a recommender: its files, its due times, its releases."""
    from kinds.recommendation.store import recommenders

    with connected() as (database, _, _):
        _print(database, recommenders.find_recommender(database, name), json=json)


@app.command()
def plan(name: Name, device: DeviceOption = "auto", json: Json = False) -> None:
    """Print what a run would write and why, before any text is paid for."""
    from kinds.recommendation.export.outcome import export_outcome, lines_of_stages, lines_of_texts
    from kinds.recommendation.runs import recommender_run
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
    from kinds.recommendation.runs import recommender_run
    from pressroom.run import run_on_demand

    with errors_reported():
        settings = settings_of_command()
        find = partial(recommender_run, name, settings, device, out)
        devices = partial(devices_of_command, device)
        result = run_on_demand(find, out, settings, devices, export_outcome)
    result.exported.print(result.summary, out, json=json)


@app.command("rollback")
def roll_back(name: Name, to: Number = None) -> None:
    """Publish an earlier release again; what is sold out by now stays off the lists."""
    from kinds.recommendation.recommenders import rollback
    from kinds.recommendation.store import recommenders
    from storage import open_store

    with connected() as (database, urls, _):
        recommender = recommenders.find_recommender(database, name)
        release = rollback(database, open_store(urls.s3_url), recommender, to)
    print_line(f"release {release.number} of {name} stands again")


@app.command()
def withdraw(
    name: Name,
    items: Annotated[list[str], typer.Argument(metavar="ITEM...")],
    reason: Annotated[
        str, typer.Option(help="Reason, which is kept with the withdrawal.")
    ] = "withdrawn by hand",
) -> None:
    """Take items off the standing lists at once; the next run decides anew by the catalogue."""
    from kinds.recommendation.store import recommenders, releases

    with connected() as (database, _, _):
        recommender = recommenders.find_recommender(database, name)
        number = releases.withdraw(database, recommender.id, dict.fromkeys(items, reason))
    print_line(f"{number} items withdrawn; `pressroom refresh serve {name}` takes them out of Redis")


@app.command()
def export(name: Name, out: Out = Path("out"), release: Number = None, json: Json = False) -> None:
    """Write a release, unset the one that stands, into a folder: JSONL, Parquet, texts, a page."""
    from kinds.recommendation.export.outcome import export_to_folder
    from kinds.recommendation.recommenders import standing_release
    from kinds.recommendation.store import recommenders, releases
    from storage import open_store

    with altered_named() as on_altered, connected() as (database, urls, _):
        recommender = recommenders.find_recommender(database, name)
        chosen = (
            standing_release(database, recommender)
            if release is None
            else releases.find_release(database, recommender.id, release)
        )
        if chosen is None:
            raise ConfigurationError(
                f"the recommender {name!r} has no release yet: run it", code="release_not_found"
            )
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
    """Compare two releases: diff.html to read, diff.jsonl to process."""
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
            print_line(f"{summary}; look at {out / 'diff.html'}")


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
        typer.Option(min=60, max=MAX_SECONDS, help="Time after which rows expire; unset: they do not."),
    ] = None,
    json: Json = False,
) -> None:
    """Write the release that stands to Redis as rec:USER, and switch to it at once."""
    from kinds.recommendation.recommenders import open_release, standing_release
    from kinds.recommendation.serving.follower import target_of
    from kinds.recommendation.serving.serving import serve_release
    from kinds.recommendation.store import recommenders
    from storage import open_store

    with altered_named() as on_altered, connected() as (database, urls, _):
        recommender = recommenders.find_recommender(database, name)
        options = {"url_variable": url_variable, "staging": staging, "expire_seconds": expire_seconds}
        own = recommender.serving or ServingPlace(url_variable="SERVING_REDIS_URL")
        given = {name: value for name, value in options.items() if value is not None}
        target = target_of(own.model_copy(update=given))
        release = standing_release(database, recommender)
        if release is None:
            raise ConfigurationError(
                f"the recommender {name!r} has no release yet: run it", code="release_not_found"
            )
        reader = open_release(database, open_store(urls.s3_url), release, on_altered)
        served = serve_release(reader, target)
        if json:
            print_json(
                {"release": served.release, "num_rows": served.num_rows, "num_written": served.num_written}
            )
        else:
            print_line(
                f"release {served.release} is served: {served.num_rows} rows, {served.num_written} written"
            )


@app.command()
def pause(name: Name) -> None:
    """Start a recommender by itself no more; a run under way goes on."""
    from db import schedules

    with connected() as (database, _, _):
        schedules.pause(database, _scheduled(database, name).id)
    say(f"{name} is paused; `pressroom refresh run {name}` runs it all the same.")


@app.command()
def resume(name: Name) -> None:
    """Start a paused recommender by itself again, from its next due time on."""
    from db import schedules
    from kinds.recommendation.show_recommenders import print_recommender_line
    from kinds.recommendation.store import recommenders

    with connected() as (database, _, _):
        schedules.resume(database, _scheduled(database, name).id)
        print_recommender_line(_state(database, recommenders.find_recommender(database, name), num_runs=0))


def _scheduled(database: Engine, name: str) -> schedules.Schedule:
    from db import schedules
    from kinds.recommendation.store import recommenders

    schedule = schedules.get_schedule(database, recommenders.find_recommender(database, name).id)
    if schedule.timing is None:
        raise ConfigurationError(
            f"the recommender {name!r} has no schedule: give it one with `pressroom refresh create --cron`",
            code="refresh_without_schedule",
        )
    return schedule


def _state(database: Engine, recommender: Recommender, *, num_runs: int) -> RecommenderState:
    from db import schedules
    from kinds.recommendation.show_recommenders import RecommenderState
    from kinds.recommendation.store import releases

    timing = schedules.get_schedule(database, recommender.id).timing
    runs = schedules.list_runs(database, recommender.id, limit=num_runs) if num_runs else []
    return RecommenderState(recommender, timing, runs, releases.list_releases(database, recommender.id))


def _print(database: Engine, recommender: Recommender, *, json: bool) -> None:
    from kinds.recommendation.show_recommenders import print_recommender

    state = _state(database, recommender, num_runs=NUM_RUNS_SHOWN)
    if json:
        print_json(state.as_json())
    else:
        print_recommender(state)
