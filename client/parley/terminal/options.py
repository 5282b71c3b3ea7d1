"""Resolves cluster, account and files from flags, contexts, the environment, a settings file and the last log-in.

A flag takes precedence over a context that is named (--context, PARLEY_CONTEXT), that over the environment, the
environment over the settings file, that over the context in use, and that over the last log-in. Hosts, CA and
"insecure" of a context or of the last log-in are only used together. So no address is used with the CA of another
cluster by accident. "insecure" of the last log-in counts for addresses of this machine only.
"""

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from parley import (
    BadInputError,
    ClientGroup,
    ConnectionManagerSettings,
    Last,
    NotSignedInError,
    ParleyClient,
    StateDirectory,
    TextFilter,
    parse_endpoints,
    parse_host_lists,
)
from parley.terminal import filter_options
from parley.terminal.contexts import Context, Contexts, dangling_link
from parley.terminal.filter_options import NOTHING_SAID, FilterFlags

DEFAULT_PORT = 7600
KEYS = ("hosts", "ca", "insecure", "account", "state_dir", *filter_options.KEYS)
TRUE_WORDS, FALSE_WORDS = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of the command line. None and empty mean that a flag was not given."""

    hosts: tuple[str, ...] = ()
    ca: Path | None = None
    insecure: bool | None = None
    account: str | None = None
    state_dir: Path | None = None
    config: Path | None = None
    host_names: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    num_ports: tuple[str, ...] = ()
    text_filter: FilterFlags = NOTHING_SAID
    context: str | None = None

    @property
    def all_hosts(self) -> tuple[str, ...]:
        """Return the addresses of all flags. Raise BadInputError if the lists do not fit together."""
        if not (self.host_names or self.ports or self.num_ports):
            return self.hosts
        lists = (",".join(given) for given in (self.host_names, self.ports, self.num_ports))
        return (*self.hosts, *map(str, parse_host_lists(*lists)))

    def over(self, outer: "Flags") -> "Flags":
        """Return these flags.

        Where one is not given, use the one in `outer`, which was given before the command's name.
        """
        return Flags(
            self.hosts or outer.hosts,
            self.ca or outer.ca,
            self.insecure if self.insecure is not None else outer.insecure,
            self.account or outer.account,
            self.state_dir or outer.state_dir,
            self.config or outer.config,
            self.host_names or outer.host_names,
            self.ports or outer.ports,
            self.num_ports or outer.num_ports,
            self.text_filter.over(outer.text_filter),
            self.context or outer.context,
        )


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Everything that a command needs to make a client."""

    hosts: tuple[str, ...]
    ca: Path | None
    insecure: bool
    account: str
    state_dir: Path | None
    insecure_given: bool = False  # for this command, not remembered from the last log-in
    text_filter: TextFilter | None = None
    context: str = ""

    def client(self, *, resume: bool = True, connect: bool = False) -> ParleyClient:
        """Return a client that is not entered yet.

        `resume` resumes the stored session, `connect` also opens a stream.
        """
        self._check_hosts()
        account = self.account if resume and self.account else None
        return ParleyClient(
            self.hosts,
            account=account,
            ca=self.ca,
            insecure=self.insecure,
            insecure_network=self.insecure_given,
            state_dir=self.state_dir,
            connect=connect,
            text_filter=self.text_filter,
        )

    def group(self, folder: Path, settings: ConnectionManagerSettings) -> ClientGroup:
        """Return a group of clients, not entered yet, whose files are in `folder`, which no other group uses."""
        self._check_hosts()
        return ClientGroup(
            self.hosts,
            ca=self.ca,
            insecure=self.insecure,
            insecure_network=self.insecure_given,
            state_dir=folder,
            settings=settings,
            exclusive=True,
            text_filter=self.text_filter,
        )

    def _check_hosts(self) -> None:
        if not self.hosts:
            raise BadInputError(
                "No host is known. Name a node: --host localhost:7600, PARLEY_HOSTS, or a list named hosts in "
                "the settings file. Or name a cluster: parley context add."
            )
        if self.insecure and any(not endpoint.is_loopback for endpoint in parse_endpoints(self.hosts)):
            sys.stderr.write("Not encrypted: others on the network can read passwords and messages.\n")

    def keep_account(self, account: str) -> None:
        """Make this the account of the context, if one is used. Later commands in it use the account."""
        if self.context:
            contexts = Contexts.load(self.state_dir)
            context = contexts.named(self.context, "of this command")
            if context.account != account:
                contexts.with_context(self.context, replace(context, account=account)).save()

    def must_name_account(self) -> str:
        """Return the account to use.

        Raise NotSignedInError, with a text that says how to name one, if there is none.
        """
        if not self.account:
            raise NotSignedInError(
                "Nobody is signed in on this machine. Sign in: parley login NAME. To create an account: "
                "parley register NAME."
            )
        return self.account


def resolve_options(flags: Flags, environment: Mapping[str, str] | None = None) -> ConnectionOptions:
    """Merge all sources. Raise BadInputError that names the wrong value and its source."""
    env = os.environ if environment is None else environment
    file = _read_file(flags.config or _path(env.get("PARLEY_CONFIG")))
    state_dir = flags.state_dir or _path(env.get("PARLEY_STATE_DIR")) or file.state_dir
    hosts = tuple(map(with_port, flags.all_hosts))
    contexts, last = Contexts.load(state_dir), StateDirectory(state_dir).last()
    of_environment = filter_options.filter_of_environment(env, _path(env.get("PARLEY_FILTER_CA")))
    common = ConnectionOptions(
        hosts=(),
        ca=None,
        insecure=False,
        account=flags.account or "",
        state_dir=state_dir,
        text_filter=flags.text_filter.over(of_environment).over(file.text_filter).resolve(),
    )
    named, source = (flags.context, "--context") if flags.context else (env.get("PARLEY_CONTEXT", ""), "PARLEY_CONTEXT")
    context = contexts.named(named, source) if named else None
    if context is not None and (flags.context or not hosts or set(hosts) <= set(context.hosts)):
        account = context.account or env.get("PARLEY_ACCOUNT", "") or file.account or _last_account(context, last)
        ca = flags.ca or (None if flags.insecure or not context.ca else Path(context.ca))
        insecure = bool(flags.insecure) or (context.insecure and flags.ca is None and flags.insecure is None)
        return replace(
            common,
            hosts=hosts or context.hosts,
            ca=ca,
            insecure=insecure,
            account=common.account or account,
            insecure_given=insecure,
            context=named or "",
        )
    return _without_named_context(flags, env, file, contexts, last, common, hosts)


def _without_named_context(
    flags: Flags,
    env: Mapping[str, str],
    file: "_File",
    contexts: Contexts,
    last: Last,
    common: ConnectionOptions,
    flag_hosts: tuple[str, ...],
) -> ConnectionOptions:
    hosts = flag_hosts or tuple(map(with_port, _split(env.get("PARLEY_HOSTS", "")) or file.hosts))
    ca = flags.ca or _path(env.get("PARLEY_CA")) or file.ca
    given = flags.insecure if flags.insecure is not None else _flag(env.get("PARLEY_INSECURE", ""), file.insecure)
    if flags.insecure and flags.ca is None:
        ca = None  # said for this command: it wins over a CA from elsewhere
    insecure, name = bool(given), ""
    current = contexts.by_name.get(contexts.current)
    if current is not None and _same_cluster(hosts, current.hosts):
        name = contexts.current
        last = Last(current.account or _last_account(current, last), current.hosts, current.ca, current.insecure)
    if ca is None and not insecure and _same_cluster(hosts, last.hosts):
        ca, insecure = Path(last.ca) if last.ca else None, last.insecure and given is None
    return replace(
        common,
        hosts=hosts or last.hosts,
        ca=ca,
        insecure=insecure,
        account=common.account or env.get("PARLEY_ACCOUNT", "") or file.account or last.account,
        insecure_given=bool(given) or (bool(name) and insecure),
        context=name,
    )


def contexts_of(flags: Flags, environment: Mapping[str, str] | None = None) -> Contexts:
    """Return the contexts of the state folder that the flags, the environment or the settings file name."""
    env = os.environ if environment is None else environment
    file = _read_file(flags.config or _path(env.get("PARLEY_CONFIG")))
    return Contexts.load(flags.state_dir or _path(env.get("PARLEY_STATE_DIR")) or file.state_dir)


def _last_account(context: Context, last: Last) -> str:
    """Return the account of the last log-in, if that was at the cluster of the context."""
    return last.account if set(context.hosts) & set(last.hosts) else ""


def _same_cluster(hosts: tuple[str, ...], known: tuple[str, ...]) -> bool:
    return not hosts or set(hosts) <= set(known)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def with_port(spec: str) -> str:
    """Return addresses, separated by commas, with the usual port where none is named."""
    return ",".join(
        f"{part}:{DEFAULT_PORT}" if ":" not in part or part.endswith("]") else part for part in _split(spec)
    )


def _path(text: str | None) -> Path | None:
    try:
        return Path(text).expanduser() if text else None
    except RuntimeError:
        raise BadInputError(f"{text} names the home of a user that this machine does not have.") from None


def _flag(text: str, default: bool | None) -> bool | None:
    word = text.strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return default if not word else False
    raise BadInputError(f"PARLEY_INSECURE is {text!r}. Write yes or no.")


@dataclass(frozen=True, slots=True)
class _File:
    hosts: tuple[str, ...] = ()
    ca: Path | None = None
    insecure: bool | None = None
    account: str = ""
    state_dir: Path | None = None
    text_filter: FilterFlags = NOTHING_SAID


def _read_file(named: Path | None) -> _File:
    path = named or platformdirs.user_config_path("parley", appauthor=False) / "config.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if (link := dangling_link(path)) is not None:
            raise BadInputError(
                f"The settings file {path} cannot be read: {link} is a link to something that is not there."
            ) from None
        if named is None:
            return _File()
        raise BadInputError(f"There is no settings file {path}.") from None
    except (OSError, ValueError) as error:
        raise BadInputError(f"The settings file {path} cannot be read: {error}.") from error
    except RecursionError:
        raise BadInputError(f"The settings file {path} cannot be read: its values are nested too deeply.") from None
    unknown = sorted(set(document) - set(KEYS))
    if unknown:
        raise BadInputError(f"{path} has unknown settings: {', '.join(unknown)}. Known are {', '.join(KEYS)}.")
    hosts = document.get("hosts", [])
    hosts = _split(hosts) if isinstance(hosts, str) else hosts
    if not isinstance(hosts, list | tuple) or not all(isinstance(host, str) for host in hosts):
        raise BadInputError(f'hosts in {path} must be a list of strings, such as ["localhost:7600"].')
    for key in ("ca", "account", "state_dir", "filter_ca"):
        if not isinstance(document.get(key, ""), str):
            raise BadInputError(f"{key} in {path} must be a string.")
    if not isinstance(document.get("insecure", False), bool):
        raise BadInputError(f"insecure in {path} must be true or false.")

    def beside(key: str) -> Path | None:
        named = _path(document.get(key))
        return None if named is None else path.parent / named

    return _File(
        tuple(hosts),
        beside("ca"),
        document.get("insecure"),
        document.get("account", ""),
        beside("state_dir"),
        filter_options.filter_of_file(document, path, beside("filter_ca")),
    )
