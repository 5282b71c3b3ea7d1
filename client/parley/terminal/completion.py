"""What a shell completes: names that this machine has met. It asks no node, because each press of a key would wait."""

from parley import ParleyError, StateDirectory, parse_endpoints
from parley.terminal.options import Flags, resolve_options


def complete_target(incomplete: str) -> list[str]:
    """Return the recipients that begin with what was typed, for the account that was used last."""
    try:
        options = resolve_options(Flags())
        directory, hosts = StateDirectory(options.state_dir), parse_endpoints(options.hosts)
        names = directory.known_names(options.account, hosts) if options.account else ()
    except ParleyError:
        return []
    typed = incomplete.casefold()
    return [name for name in (*names, "everyone") if name.casefold().startswith(typed)]
