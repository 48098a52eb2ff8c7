import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

torch.set_num_threads(1)

# Forks the ranks of every launch: each starts with everything imported. Launched as torchrun would, without its agent.
FORKER = """
import json, os, runpy, signal, sys
import matplotlib.figure, monai.transforms, sklearn.metrics, torch, torch._dynamo
import torch.distributed.fsdp, torch.distributed.tensor
import reticent.report, reticent.training
torch.set_num_threads(1)

def run(job, rank):
    log = os.open(job["logs"][rank], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    os.environ |= job["environment"]
    if job["size"] > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(job["size"]), "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(job["port"]),
        }
    if "command" in job:
        import reticent.cli.console as console
        console.console.quiet = rank > 0  # decided where the module is imported, here before the rank was known
        sys.argv = ["reticent", *job["command"]]
        reticent.cli.main()
    else:
        path, function, *arguments = job["call"]
        runpy.run_path(path)[function](*arguments)

while line := sys.stdin.readline():
    job, pids = json.loads(line), []
    for rank in range(job["size"]):
        if (pid := os.fork()) == 0:
            status = 99
            try:
                run(job, rank)
                status = 0
            except SystemExit as end:
                status = end.code or 0
            except BaseException:
                import traceback
                traceback.print_exc()
            from reticent.training import ranks
            ranks._leave()
            os._exit(status)
        pids.append(pid)
    print(json.dumps(pids), flush=True)
    sys.stdin.readline()
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)
"""


class Ended(NamedTuple):
    codes: list[int]
    """Exit code of each rank; minus the signal's number for one that was killed."""
    logs: list[str]
    seconds: float


class Launcher:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, size, logs, environment, *, command=None, call=None, meanwhile=None):
        """Run a command line, or a function (file, name, arguments), in `size` ranks; `meanwhile(pids)` may kill."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        paths = [logs / f"{time.monotonic_ns()}-{rank}.txt" for rank in range(size)]
        job = {"size": size, "port": port, "logs": list(map(str, paths)), "environment": environment}
        job |= {"command": list(map(str, command))} if command else {"call": list(map(str, call))}
        began = time.monotonic()
        self._send(json.dumps(job))
        pids = json.loads(self.process.stdout.readline())
        if meanwhile is not None:
            meanwhile(pids)
        self._send("reap")
        codes = json.loads(self.process.stdout.readline())
        return Ended(codes, [path.read_text() for path in paths], time.monotonic() - began)

    def _send(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="session")
def launcher():
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture
def ranks(launcher, tmp_path, site_ledger):
    """Runs something in several processes at once: `ranks(2, command=[...])` or `ranks(2, call=("name", argument))`."""
    programs = Path(__file__).with_name("rank_programs.py")

    def run(size, *, command=None, call=None, meanwhile=None):
        called = None if call is None else (programs, *call)
        environment = {"RETICENT_LEDGER": str(site_ledger)}
        return launcher(size, tmp_path, environment, command=command, call=called, meanwhile=meanwhile)

    return run
