"""The entry point: what ends a command from outside is told in one sentence, at whatever moment it comes.

It imports next to nothing itself, so that Ctrl-C while the command line is loaded is told like any other.
"""

import sys

EXIT_INTERRUPTED = 130
"""128 and the number of SIGINT, as a shell reports it."""


def main() -> None:
    """Entry point of the `pressroom` command: run it, write out what it printed, and exit."""
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
    """While the interpreter shuts down Ctrl-C ends it at once, without a traceback."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
