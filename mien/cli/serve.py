"""`mien serve`: the page in a browser, and the HTTP service behind it."""

from __future__ import annotations

import importlib.util
import threading
import webbrowser
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mien.analysis.detection.detectors import make_detector
from mien.cli.options import DetectorModel, Quiet
from mien.core.errors import MissingExtra, UsageError
from mien.core.progress import echo
from mien.service.config import DAY_S, Config, default_state_folder
from mien.service.logs import start_log

#: Shorter tokens can be guessed by trial.
MIN_TOKEN_LENGTH = 16

#: Packages of the extra, by the names of their modules.
PACKAGES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart",
          "prometheus_client": "prometheus-client", "websockets": "websockets"}  # fmt: skip


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen at; the default is reached from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free port.")] = 8000,
    token: Annotated[
        str, typer.Option(envvar="MIEN_TOKEN", help="Token that every request must have; required at other addresses.")
    ] = "",
    allow_insecure: Annotated[
        bool,
        typer.Option("--allow-insecure", help="Listen without a token at an address that other machines reach."),
    ] = False,
    root_path: Annotated[str, typer.Option(help="Prefix of all paths behind a proxy, as in /mien.")] = "",
    trusted_proxy: Annotated[
        list[str],
        typer.Option(help="Address or network of a proxy whose X-Forwarded-For and X-Forwarded-Proto are trusted."),
    ] = [],  # noqa: B006
    state: Annotated[
        Path | None, typer.Option(help="Folder of videos and their results. Default: the user's data folder.")
    ] = None,
    reports: Annotated[Path | None, typer.Option(help="Folder whose report.html files are shown.")] = None,
    model: Annotated[
        list[str],
        typer.Option(help="A model's name or an .onnx file; repeat it for several. The first is the default."),
    ] = ["base"],  # noqa: B006
    detector: Annotated[str, typer.Option(help="Default detector: auto, haar, yunet or none.")] = "auto",
    detector_model: DetectorModel = None,
    retention_days: Annotated[
        float, typer.Option(min=0, help="Days after which finished videos and their results are removed; 0: never.")
    ] = 7.0,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Number of videos that are analyzed at the same time.")] = 1,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = False,
    quiet: Quiet = False,
) -> None:
    """Serve the page for pictures, videos and the camera, and the HTTP API.

    No data leaves this machine: the page loads nothing from other hosts, and the default address is reached from this machine
    only. Videos stay in the state folder until they are removed, by hand or after --retention-days. /docs describes the API.
    Ctrl-C ends the service; the analysis of videos continues when it is started again.
    """  # fmt: skip
    _require_extra()
    from mien.service.access.addresses import clean_root_path

    config = Config(
        state=state or default_state_folder(), host=host, port=port, token=token, allow_insecure=allow_insecure, reports=reports,
        root_path=clean_root_path(root_path), proxies=tuple(trusted_proxy),
        models=tuple(model), detector=detector, detector_model=detector_model, retention_s=retention_days * DAY_S,
        workers=jobs,
    )  # fmt: skip
    check_config(config)
    run_server(config, open_page=open_page, quiet=quiet)


def _require_extra() -> None:
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(package, "serve", "for the service")


def check_config(config: Config) -> None:
    """Raise UsageError for a configuration that is unsafe or cannot work."""
    from mien.service.access.addresses import check_proxies

    if not config.is_loopback and not config.token and not config.allow_insecure:
        problem = "is reached by others, who could then read what is sent here"
        raise UsageError(f"--host {config.host}", problem, "give a --token that they must know, or --allow-insecure")
    if config.token and not (
        config.token.isascii() and config.token.isprintable() and not set(config.token) & set(' ",;\\')
    ):
        raise UsageError("--token", "holds letters that no HTTP header takes", "use letters, digits, - and _")
    if config.reports is not None and not config.reports.is_dir():
        raise UsageError(f"--reports {config.reports}", "is no folder", "name one with report.html files in it")
    check_proxies(config.proxies)
    make_detector(config.detector, config.detector_model)


def run_server(config: Config, *, open_page: bool, quiet: bool) -> None:
    """Serve until Ctrl-C. Raises UsageError where the address cannot be listened at."""
    from mien.service.server import create_app, make_server, open_listener

    try:
        listener = open_listener(config.host, config.port)
    except OSError as error:
        problem = f"cannot be listened at ({error.strerror})"
        raise UsageError(f"{config.host}:{config.port}", problem, "choose another --port or --host") from error
    start_log()
    with listener:
        config = replace(config, port=listener.getsockname()[1])
        server = make_server(create_app(config), config)
        address = browser_address(config)
        if not quiet:
            token = ", token asked for" if config.token else ""
            echo(f"mien is at {address} (Ctrl-C ends it{token}); videos and results in {config.state}")
            if 0 < len(config.token) < MIN_TOKEN_LENGTH and not config.is_loopback:
                echo(
                    f"note: a token of {len(config.token)} letters can be guessed; 'openssl rand -hex 16' makes one of 32"
                )
        if open_page:
            threading.Timer(1.0, webbrowser.open, [address]).start()
        with suppress(KeyboardInterrupt):  # that is how it ends
            server.run(sockets=[listener])


def browser_address(config: Config) -> str:
    """Return the address for a browser on this machine."""
    everywhere = config.host in ("0.0.0.0", "::")
    host = "127.0.0.1" if everywhere else config.host.strip("[]")
    return f"http://{f'[{host}]' if ':' in host else host}:{config.port}{config.root_path}/"
