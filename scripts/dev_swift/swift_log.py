"""Swift's log goes to standard error, which is D/swift.log, and not to the machine's syslog."""

import logging
import sys


def to_standard_error(
    conf: object,
    name: str,
    log_to_console: object,
    log_route: str,
    fmt: str,
    logger: logging.Logger,
    adapter: object,
) -> None:
    """The hook `log_custom_handlers` of Swift's configuration: replaces the handlers it made."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {log_route}: %(message)s"))
    logger.addHandler(handler)
