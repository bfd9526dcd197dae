"""A Slurm cluster of one node, this machine, made of Debian's daemons: munged, slurmctld and slurmd."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lab.process import MissingBinaryError, Server, ServerError, free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=600
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class _Daemon(Server):
    def __init__(self, command: Sequence[str], environment: dict[str, str], ports: Sequence[int] = ()) -> None:
        super().__init__(ports=0)
        self.ports, self._command, self._environment = [*ports], command, environment

    def command(self) -> Sequence[str]:
        return self._command

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self._environment}


class Slurm:
    """A context manager: a cluster that takes jobs, until the end.

    Its commands need the variables of `environment`; its jobs `bin`, in front of PATH.

    Raises:
        MissingBinaryError: Slurm is not installed.
        ServerError: a daemon did not start.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        # Short, for the name of munge's socket has to fit into 108 bytes.
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        self.bin = self.directory / "bin"
        self.environment = {"SLURM_CONF": str(self.directory / "slurm.conf")}

    def __enter__(self) -> Self:
        try:
            self._start(*map(_find, ("munged", "slurmctld", "slurmd")))
            for name in ("sbatch", "squeue", "sinfo"):
                _find(name)
            self._wait_until_idle()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, munged: str, slurmctld: str, slurmd: str) -> None:
        key, ports = self.directory / "munge.key", free_ports(2)
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        host = socket.gethostname().partition(".")[0]
        Path(self.environment["SLURM_CONF"]).write_text(
            _CONFIGURATION.format(host=host, user=getpass.getuser(), ports=ports, directory=self.directory)
        )
        for name in ("state", "spool", "bin"):
            (self.directory / name).mkdir()
        self._write_srun()
        paths = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        options = [f"--{name}={self.directory / path}" for name, path in paths.items()]
        log = f"--log-file={self.directory / 'munge.log'}"
        self._stack.enter_context(_Daemon([munged, "--foreground", "--force", log, *options], {}))
        self._stack.enter_context(_Daemon([slurmctld, "-D"], self.environment, ports[:1]))
        self._stack.enter_context(_Daemon([slurmd, "-D"], self.environment, ports[1:]))

    def _write_srun(self) -> None:
        # Snakemake takes SLURM_* out of the environment of the jobs, so that the real one would look into /etc.
        wrapper = self.bin / "srun"
        variables = " ".join(f"{name}='{value}'" for name, value in self.environment.items())
        wrapper.write_text(f'#!/bin/sh\n{variables} exec {_find("srun")} "$@"\n')
        wrapper.chmod(0o755)

    def _wait_until_idle(self) -> None:
        deadline = time.monotonic() + 30
        while (state := self.run("sinfo", "--noheader", "--format=%T")) != "idle":
            if time.monotonic() > deadline:
                raise ServerError(f"Slurm's node does not become idle, it is {state!r}")
            time.sleep(0.2)

    def run(self, *command: str) -> str:
        """What a command of Slurm says."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, check=False, capture_output=True, text=True, timeout=30
        )
        return (done.stdout or done.stderr).strip()


def _find(name: str) -> str:
    # Debian has the daemons where only root looks.
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if found is None:
        raise MissingBinaryError(f"no executable {name!r}: apt-get install slurm-wlm munge")
    return found
