"""The entry point: Ctrl-C ends a command with one line on stderr instead of a traceback.

The module imports almost nothing at the top, so that it also handles Ctrl-C while the command line loads.
"""

import sys

EXIT_INTERRUPTED = 130
"""Exit status after an interruption: 128 plus the number of SIGINT, as a shell reports it."""


def main() -> None:
    """Run the `pressroom` command, flush its output, and exit."""
    try:
        status = _run()
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    _let_interruptions_end_the_process()
    if status == EXIT_INTERRUPTED:
        sys.stderr.write("Interrupted.\n")
    sys.exit(status)


def _run() -> int:
    from pressroom.streams import standard_streams

    with standard_streams() as streams:
        from pressroom.cli import app

        try:
            app()
        except SystemExit as end:
            streams.status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return streams.status


def _let_interruptions_end_the_process() -> None:
    """Restore the default action of SIGINT, so that Ctrl-C during shutdown prints no traceback."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
