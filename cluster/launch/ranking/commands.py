"""`sugar ranking`: from rows to a model on running shards, and what it does there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.launch.state import api_root, read_state, running_settings
from configs.contracts.errors import ConfigurationError
from configs.contracts.ranking import (
    SPLITS,
    WAITING_LIKE,
    WAITING_LIKE_MOST,
    Arm,
    ConfigurationRefused,
    Experiment,
    RankingConfiguration,
)

if TYPE_CHECKING:
    from cluster.launch.ranking.operating import RankingOperator, Serving

# scipy and scikit-learn are imported by the commands that need them: `sugar --help` must not wait for them.

app = typer.Typer(
    no_args_is_help=True,
    help="Models that rank cards: export, train, evaluate, deploy, test against each other, explain. A round: "
    "`export`, `train`, `refresh --for VERSION`, `deploy VERSION`, look with `list`, back with `rollback`.",
)
experiment = typer.Typer(no_args_is_help=True, help="A/B tests of models on the running platform.")
app.add_typer(experiment, name="experiment")
console = Console(highlight=False)
DataDir = Annotated[Path, typer.Option("--data-dir", envvar="SUGAR_DATA_DIR", help="Directory of the platform.")]
DEFAULT_DATA_DIR = Path(".sugar")
AsJson = Annotated[bool, typer.Option("--json", help="The answer as one JSON document.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="As `sugar ranking list` names it; `baseline` is always there.")]


def _columns() -> tuple[Any, ...]:
    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()


def _since(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter("a date like 2026-11-01, or a time like 2026-11-01T12:00+00:00") from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


@app.command("export")
def export_rows(
    since: Annotated[str, typer.Option(help="First day of swipes, matches and shown cards, e.g. 2026-11-01 (UTC).")],
    out: Annotated[Path, typer.Option(help="Directory to make.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Write people, swipes, matches and shown cards as pseudonymous Parquet, without names, texts or exact places."""
    from writers.export import export

    at = _since(since)
    with Progress(*_columns(), console=console, disable=as_json) as progress:
        tasks = {name: progress.add_task(name, total=None) for name in ("people", "swipes", "matches", "impressions")}
        rows = export(
            running_settings(data_dir), out, at, progress=lambda name, done: progress.update(tasks[name], completed=done)
        )
    if as_json:
        typer.echo(json.dumps({"out": str(out), "rows": rows}))
    else:
        console.print(f"{out}: " + ", ".join(f"{count} {name}" for name, count in rows.items()))


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Directory that `sugar ranking export` made.")],
    model: Annotated[str, typer.Option(help="Model of one direction's like: logistic, boosted.")] = "logistic",
    rule: Annotated[str, typer.Option(help="How both directions become one score: product, harmonic, blend (with --exposure).")] = "product",
    exposure: Annotated[float, typer.Option(help="Strength of the exposure price in the score; 0: none.", min=0)] = 0.0,
    recency: Annotated[
        float | None,
        typer.Option("--recency-half-life", help="Days away that halve what somebody counts; 0: none. Default: as the baseline.", min=0),
    ] = None,
    feature: Annotated[list[str] | None, typer.Option(help="A feature to read; repeat. Default: a documented list.")] = None,
    grid: Annotated[
        list[str] | None, typer.Option(help="NAME=V1,V2,… to search over (l2, trees, depth, model, …); repeat.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for the saved model.")] = Path("models"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.")] = 0,
    publish: Annotated[bool, typer.Option(help="Put the best into the platform's store, ready to deploy.")] = True,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Train rankers on an export and keep the best by log loss on the newest fifth of swipes.

    Trials run as Ray tasks on the running platform's cluster; without one, here, one after another.
    """
    from actors.training.search import recipes
    from cluster.launch.ranking import job, showing
    from cluster.launch.ranking.operating import RankingOperator
    from recommender.learning import LIKE_FEATURES, Recipe

    base = Recipe(model, rule, tuple(feature or LIKE_FEATURES), exposure)  # type: ignore[arg-type]
    if recency is not None:
        base = replace(base, recency_half_life_days=recency)
    try:
        wanted = recipes(base, dict(map(_grid_line, grid or ())))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    running = read_state(data_dir).running()
    with Progress(*_columns(), console=console, disable=as_json) as progress:
        task = progress.add_task("trials " + ("on the cluster" if running else "here"), total=len(wanted))

        def done(count: int, of: int) -> None:
            progress.update(task, completed=count, total=of)

        if running:
            found = job.on_cluster(data_dir, "search", {
                "data": str(data.resolve()), "out": str(out.resolve()), "seed": seed,
                "recipes": [showing.plain(recipe) for recipe in wanted],
            }, done)
        else:
            found = job.search(data, wanted, out, seed=seed, remote=False, progress=done)
    if publish and running:
        operator = RankingOperator(running_settings(data_dir))
        if found["version"] not in operator.store.versions("models"):
            operator.publish(Path(found["artifact"]))
    if as_json:
        typer.echo(showing.document(found))
        return
    console.print(showing.trials(found["trials"]))
    where = "in the platform's store" if publish and running else f"saved in {found['artifact']}"
    console.print(f"best: [bold]{found['version']}[/bold], {where}; deploy it with `sugar ranking deploy {found['version']}`")


def _grid_line(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise typer.BadParameter(f"{text!r}: write NAME=V1,V2,…")
    return name, [_value(value) for value in values.split(",")]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@app.command("evaluate")
def evaluate_model(
    data: Annotated[Path, typer.Option(help="Directory that `sugar ranking export` made.")],
    version: Annotated[list[str] | None, typer.Argument(metavar="[VERSION]…", help="Versions in the store; default: all.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Judge stored models on an export: how well each orders what people were shown and swiped.

    All are judged by the same swipes: those after the newest that taught any of them. Name versions to leave others out.
    """
    from cluster.launch.ranking import job, showing
    from cluster.launch.ranking.operating import RankingOperator
    from recommender import artifacts
    from recommender.datasets import exported
    from recommender.learning import evaluate

    operator = RankingOperator(running_settings(data_dir))
    wanted = version or operator.store.versions("models")
    found = exported.read(data)
    places = {name: operator.store.fetch("models", name) for name in wanted}
    cuts = [cut for place in places.values() if (cut := job.taught_until(artifacts.read_manifest(place))) is not None]
    after = max(cuts, default=None)
    figures = {
        name: evaluate(artifacts.load(place), found, None if after is None else after.timestamp()) for name, place in places.items()
    }
    if as_json:
        typer.echo(showing.document(figures))
    else:
        console.print(showing.figures(figures))
        if after is not None:
            console.print(f"judged by swipes after {after:%Y-%m-%d %H:%M:%S} UTC; those until then taught one of these or may have", markup=False)


@app.command("publish")
def publish_model(
    directory: Annotated[Path, typer.Argument(help="Directory of a saved model (`recommender.artifacts.save`).")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Put a saved model into the platform's store; prints its version."""
    from cluster.launch.ranking.operating import RankingOperator

    typer.echo(RankingOperator(running_settings(data_dir)).publish(directory))


@app.command("list")
def list_versions(data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> None:
    """Show models, what serves where, what shards refused and why, and the last changes."""
    from cluster.launch.ranking import showing
    from cluster.launch.ranking.operating import RankingOperator

    operator = RankingOperator(running_settings(data_dir))
    found = showing.overview(operator)
    if as_json:
        typer.echo(showing.document(found))
    else:
        showing.show_overview(console, found)


@app.command()
def deploy(version: Version, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Rank everybody's cards with a version; refused when this code cannot serve it. Shards follow within seconds.

    What it reads of people's history and prices comes from the people table: `refresh` it first.
    """
    from cluster.launch.ranking.operating import RankingOperator

    operator = RankingOperator(running_settings(data_dir))
    _followed(operator, operator.deploy(version))


@app.command()
def rollback(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Take the last deploy back, and with each further call the one before it; a running experiment ends."""
    from cluster.launch.ranking.operating import RankingOperator

    operator = RankingOperator(running_settings(data_dir))
    _followed(operator, operator.rollback())


@app.command()
def refresh(
    priced_for: Annotated[
        str | None,
        typer.Option("--for", metavar="VERSION", help="Model that exposure prices are made for, before it serves; default: the one"
                     " that serves and reads prices, else the default version."),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Use no people table any more.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make a new people table (swipe history, exposure prices) as a Ray task and hand it to the shards.

    Trained models read it: do this before the first `deploy`, and with `--for VERSION` before one with exposure prices.
    """
    from cluster.launch.ranking import job
    from cluster.launch.ranking.operating import RankingOperator

    operator = RankingOperator(running_settings(data_dir))
    version = None if off else str(job.on_cluster(data_dir, "refresh", {"priced_for": priced_for})["version"])
    _followed(operator, operator.use_table(version))


@app.command()
def explore(
    rate: Annotated[float, typer.Argument(help="Probability, 0 to 0.5, that every fifth place shows somebody from below.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Try people whom the model does not put first; what was shown is logged with its exact propensity."""
    from cluster.launch.ranking.operating import RankingOperator

    operator = RankingOperator(running_settings(data_dir))
    _followed(operator, operator.explore(rate))


@app.command("waiting-likes")
def waiting_likes(
    boost: Annotated[float, typer.Argument(help=f"Added to the score, 0 to {WAITING_LIKE_MOST:g}; 0: not put forward.")] = WAITING_LIKE,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Put people whose like waits for the viewer's answer forward in decks, at most at every second place."""
    from cluster.launch.ranking.operating import RankingOperator

    operator = RankingOperator(running_settings(data_dir))
    _followed(operator, operator.put_forward(boost))


def _followed(operator: RankingOperator, configuration: RankingConfiguration) -> None:
    from cluster.launch.ranking import showing

    serving = operator.wait(configuration)
    console.print(f"configuration {configuration.number}: {showing.sentence(configuration)}", markup=False)
    for caution in operator.cautions(configuration):
        console.print(f"warning: {caution}", style="yellow", markup=False)
    _report(serving, configuration)


def _report(serving: Serving, configuration: RankingConfiguration) -> None:
    from cluster.launch.ranking.operating import behind

    problems = behind(serving, configuration)
    if not serving.shards:
        problems.append("no card shard has reported yet; look at `sugar ranking list`")
    for problem in problems:
        console.print(f"[red]{problem}[/red]")
    if problems:
        raise typer.Exit(1)
    console.print(f"{len(serving.shards)} card shards serve by it", markup=False)


@app.command()
def explain(
    viewer: Annotated[str, typer.Option(help="Whose cards: a person's id.")],
    candidate: Annotated[str, typer.Option(help="Who is on the card: a person's id.")],
    version: Annotated[str, typer.Option(help="A loaded version; default: the one that the viewer gets now.")] = "",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Show the exact terms of one card's score, from the shard that holds the candidate."""
    from cluster.launch.ranking import asking, showing

    settings = running_settings(data_dir)
    found = asking.explain(settings, api_root(data_dir, settings), viewer, candidate, version)
    if as_json:
        typer.echo(showing.document(found))
    else:
        showing.show_explanation(console, found)


@experiment.command("start")
def start_experiment(
    name: Annotated[str, typer.Argument(help="Names the split: another name is another split, and a name is used once.")],
    arm: Annotated[list[str], typer.Option(help="ARM=VERSION:SHARE; repeat. Shares sum to 1.")],
    split: Annotated[str, typer.Option(help=f"By what arms are split: {', '.join(SPLITS)}.")] = "user",
    period_s: Annotated[int, typer.Option(help="Seconds of one period of the split `time`.")] = 3_600,
    waiting_likes: Annotated[list[str] | None, typer.Option(help="ARM=BOOST of waiting likes, of that arm only; repeat.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Split viewers among versions: by a hash of the user, by region (H3 cells 120 km across) or by time.

    Arms that share receivers interfere: a liked person answers both. Regions and times interfere less, users most.
    """
    from cluster.launch.ranking.operating import RankingOperator

    operator = RankingOperator(running_settings(data_dir))
    arms = _boosted(tuple(_arm(text) for text in arm), waiting_likes or ())
    _followed(operator, operator.start_experiment(Experiment(name, split, arms, period_s)))  # type: ignore[arg-type]


def _arm(text: str) -> Arm:
    name, _, rest = text.partition("=")
    version, _, share = rest.rpartition(":")
    try:
        return Arm(name, version, float(share))
    except ValueError as error:
        raise ConfigurationRefused("an arm is written NAME=VERSION:SHARE", arm=text) from error


def _boosted(arms: tuple[Arm, ...], texts: Sequence[str]) -> tuple[Arm, ...]:
    """The arms with the boosts of waiting likes that ARM=BOOST texts give some of them."""
    boosts = {}
    for text in texts:
        name, _, boost = text.partition("=")
        try:
            boosts[name] = float(boost)
        except ValueError as error:
            raise ConfigurationRefused("a boost is written ARM=BOOST", boost=text) from error
    if unknown := boosts.keys() - {arm.name for arm in arms}:
        raise ConfigurationRefused("a boost names one of the arms", unknown=sorted(unknown))
    return tuple(msgspec.structs.replace(arm, waiting_like=boosts.get(arm.name)) for arm in arms)


@experiment.command("stop")
def stop_experiment(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """End the running experiment: everybody gets the default version."""
    from cluster.launch.ranking.operating import RankingOperator

    operator = RankingOperator(running_settings(data_dir))
    _followed(operator, operator.stop_experiment())


@experiment.command("report")
def report_experiment(
    data: Annotated[Path, typer.Option(help="Directory that `sugar ranking export` made.")],
    name: Annotated[str, typer.Option(help="Which experiment; default: the newest in the export.")] = "",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Compare the arms by what was shown and answered, with a check that units were split as configured."""
    from cluster.launch.ranking import showing
    from cluster.launch.ranking.operating import RankingOperator
    from recommender.datasets import exported
    from recommender.online import report

    operator = RankingOperator(running_settings(data_dir))
    found = exported.read(data)
    known = operator.experiments()
    chosen = name or next(iter(reversed(known)), "")
    if chosen not in known:
        raise ConfigurationError("no such experiment", name=chosen, known=sorted(known))
    figures = report(found, known[chosen])
    if as_json:
        typer.echo(showing.document(figures))
    else:
        showing.show_experiment(console, figures)


