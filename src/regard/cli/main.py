"""`regard`: the application, and the one place where a user's mistake becomes a sentence and an exit code."""

import json
import sys
from typing import Annotated, NoReturn

import typer

import regard
from regard.cli import compare, data, doctor, explain, lab, review, run, tune, verify
from regard.errors import RegardError

app = typer.Typer(
    help="Train language models from human feedback, and review the training run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("report")(run.report)
app.command("review")(review.review)
app.command("compare")(compare.compare)
app.command("verify")(verify.verify)
app.command("tune")(tune.tune)
app.command("doctor")(doctor.doctor)
app.command("explain")(explain.explain)
app.add_typer(run.train_app, name="train")
app.add_typer(data.app, name="data")
app.add_typer(lab.app, name="lab")


INTERRUPTED = 130
"""What typer returns for a command that Ctrl-C ended: 128 + SIGINT."""


EXTRAS = {
    **dict.fromkeys(
        ("torch", "transformers", "tokenizers", "safetensors", "peft", "sklearn", "vaderSentiment"), "train"
    ),
    "optuna": "tune",
}
"""Packages that only some commands need, and the extra that installs them."""


def _version(show: bool) -> None:
    if show:
        print(regard.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    del version


def main() -> NoReturn:
    """Entry point: a RegardError is printed as it is, exit 2; a missing package names the extra to install."""
    try:
        code = app(standalone_mode=False)
    except RegardError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        _fail(f"This command needs {package}, which is not installed. Type: pip install 'regard[{EXTRAS[package]}]'.")
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
            _fail(f"{error.format_message()} Type regard --help.")  # type: ignore[attr-defined]
        raise
    if code == INTERRUPTED:
        _fail("Interrupted; every finished step is on disk. Type the same command with --resume.", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int = 2) -> NoReturn:
    if "--json" in sys.argv:
        print(json.dumps({"error": message}))
    print(f"regard: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
