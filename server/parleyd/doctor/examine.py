"""Looks at everything that `parleyd doctor` judges. Nothing is changed, and every wait is bounded."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from parleyd.backup.making import file_pattern
from parleyd.doctor.directory import look_at_directory, look_at_pages
from parleyd.doctor.facts import BackupsLook, CertificateLook, Facts, SettingsLook
from parleyd.doctor.machine import is_clock_synchronised, look_at_disk, look_at_files, look_at_sync
from parleyd.doctor.network import look_at_names, look_at_peers, look_at_port
from parleyd.doctor.own_node import ask_own_node
from parleyd.formats import FormatRefusedError
from parleyd.security.certificate_checks import check_node_certificate
from parleyd.security.certificates import CertificateError
from parleyd.settings.load import LoadedSettings, SettingsError, load_settings
from parleyd.settings.table import Settings
from parleyd.storage import identity
from parleyd.storage.errors import StorageError


def examine_directory(path: Path) -> Facts:
    """Look at a data directory alone, without settings."""
    directory = look_at_directory(path)
    facts = Facts(directory=directory, is_clock_synchronised=is_clock_synchronised())
    if not directory.exists or directory.error:
        return facts
    return replace(facts, pages=look_at_pages(path / "state.sqlite"), sync=look_at_sync(path))


def examine(environ: Mapping[str, str], config: Path | None, data_dir: Path | None) -> Facts:
    """Look at a node by its settings. If they cannot be used, look at them and at `data_dir`."""
    flags = {} if data_dir is None else {"data_dir": str(data_dir)}
    try:
        loaded = load_settings(flags, environ, config)
    except SettingsError as error:
        facts = Facts() if data_dir is None else examine_directory(data_dir)
        return replace(facts, settings=SettingsLook(tuple(map(str, error.problems))))
    return _examine_node(loaded)


def _examine_node(loaded: LoadedSettings) -> Facts:
    settings = loaded.settings
    facts = examine_directory(settings.data_dir)
    directory = facts.directory
    is_running, pid = (directory.is_running, directory.holder_pid) if directory is not None else (False, 0)
    node, members = ask_own_node(settings) if is_running else (None, {})
    peers = {
        name: address for name, address in (*settings.join.items(), *settings.peers.items()) if name != settings.name
    }
    # Members may have moved or left since the settings were written. The node has their present addresses.
    peers = members or peers
    disk_folder = settings.data_dir
    while not disk_folder.exists():
        disk_folder = disk_folder.parent
    return replace(
        facts,
        name=settings.name,
        settings=SettingsLook(warnings=loaded.warnings, is_insecure=settings.insecure),
        certificate=look_at_certificate(settings),
        backups=look_at_backups(settings, time.time()),
        disk=look_at_disk(disk_folder, settings.disk_reserve_bytes),
        files=look_at_files(settings.max_connections, pid),
        ports=tuple(
            look_at_port(setting, getattr(settings, setting), is_running=is_running)
            for setting in ("client_listen", "peer_listen", "http_listen")
            if getattr(settings, setting)
        ),
        names=look_at_names((settings.client_advertise, settings.peer_advertise), peers.values()),
        peers=look_at_peers(peers),
        node=node,
    )


def look_at_certificate(settings: Settings, now: datetime.datetime | None = None) -> CertificateLook | None:
    """Return the state of the node's certificate; None without TLS."""
    if settings.insecure or settings.ca_file is None or settings.cert_file is None or settings.key_file is None:
        return None
    now = now or datetime.datetime.now(datetime.UTC)
    try:
        checked = check_node_certificate(
            settings.ca_file,
            settings.cert_file,
            settings.key_file,
            settings.name,
            advertised=(settings.client_advertise,),
            now=now,
        )
    except CertificateError as error:
        return CertificateLook(error=str(error))
    return CertificateLook(days_left=(checked.expires_at - now).days, warnings=checked.unnamed)


def look_at_backups(settings: Settings, now_s: float) -> BackupsLook | None:
    """Return the age of the newest backup that this node wrote by itself; None for a node that never started."""
    folder, interval_s = settings.backup_folder, settings.backup_interval_s
    if folder is None or not interval_s:
        return BackupsLook()
    try:
        known = identity.load(settings.data_dir / "identity.json")
    except (StorageError, FormatRefusedError):
        return None  # another rule says so
    if known is None or not known.has_cluster:
        return None
    pattern = file_pattern(known)
    try:
        made = [path.stat().st_mtime for path in folder.iterdir() if pattern.fullmatch(path.name)]
    except OSError as error:
        return BackupsLook(str(folder), interval_s, error=f"{folder} cannot be read: {error.strerror}.")
    # A file from the future, made by a wrong clock, does not count.
    ages = [now_s - made_s for made_s in made if made_s <= now_s]
    return BackupsLook(str(folder), interval_s, min(ages, default=None))
