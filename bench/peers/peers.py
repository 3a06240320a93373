"""Performs the operations that a peer shares with Runtrail, on SQLite.

Reads the name of an operation from each line of stdin, and prints how many it has performed per
second. `bench/src/peers.rs` runs it.
"""

import atexit
import datetime
import json
import logging
import os
import pathlib
import socket
import subprocess
import sys
import time
import uuid

# How many runs are recorded, read and deleted in one turn, and how many lists are read.
RUNS = 50
LISTS = 20
LIMIT = 50


class Dagster:
    """A `DagsterInstance` with its SQLite storage, as in a local deployment."""

    def __init__(self, folder):
        from dagster import DagsterInstance

        self.instance = DagsterInstance.local_temp(folder)

    def record(self, payloads):
        from dagster import DagsterEvent, DagsterRun, DagsterRunStatus

        run = DagsterRun(
            job_name="summarise", run_id=str(uuid.uuid4()), status=DagsterRunStatus.STARTED
        )
        self.instance.add_run(run)
        for payload in payloads:
            self.instance.report_engine_event(payload, run)
        event = DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name="summarise")
        self.instance.report_dagster_event(event, run.run_id)
        return run.run_id

    def get(self, run_id):
        return self.instance.get_run_by_id(run_id)

    def list(self):
        from dagster import RunsFilter

        return self.instance.get_runs(RunsFilter(job_name="summarise"), limit=LIMIT)

    def delete(self, run_ids):
        for run_id in run_ids:
            self.instance.delete_run(run_id)


class Dbos:
    """A DBOS workflow of as many steps as there are events."""

    def __init__(self, folder):
        from dbos import DBOS

        DBOS(
            config={
                "name": "bench",
                "system_database_url": f"sqlite:///{folder}/dbos.sqlite",
                "log_level": "ERROR",
                "run_admin_server": False,
            }
        )

        @DBOS.step()
        def step(payload):
            return payload

        @DBOS.workflow()
        def summarise(payloads):
            for payload in payloads:
                step(payload)

        DBOS.launch()
        self.dbos = DBOS
        self.summarise = summarise

    def record(self, payloads):
        handle = self.dbos.start_workflow(self.summarise, payloads)
        handle.get_result()
        return handle.workflow_id

    def get(self, run_id):
        return self.dbos.get_workflow_status(run_id)

    def list(self):
        name = self.summarise.__qualname__
        return self.dbos.list_workflows(name=name, limit=LIMIT, sort_desc=True)

    def delete(self, run_ids):
        self.dbos.delete_workflows(run_ids)


class Phoenix:
    """A Phoenix server; a run is a trace whose root span has a child span for each event."""

    PROJECT = "bench"

    def __init__(self, folder):
        import httpx
        from phoenix.client import Client

        port, grpc_port = free_ports(2)
        self.server = subprocess.Popen(
            [pathlib.Path(sys.executable).with_name("phoenix"), "serve"],
            env=os.environ
            | {
                "PHOENIX_WORKING_DIR": folder,
                "PHOENIX_HOST": "127.0.0.1",
                "PHOENIX_PORT": str(port),
                "PHOENIX_GRPC_PORT": str(grpc_port),
                "PHOENIX_TELEMETRY_ENABLED": "false",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(self.server.terminate)
        url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=url)
        wait_until(lambda: self.is_up(httpx))
        self.spans = Client(base_url=url).spans
        self.started = {}

    def is_up(self, httpx):
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def record(self, payloads):
        trace, root = uuid.uuid4().hex, uuid.uuid4().hex[:16]
        begun = now()
        self.started[trace] = begun
        span = {
            "name": "summarise",
            "context": {"trace_id": trace, "span_id": root},
            "span_kind": "CHAIN",
            "start_time": begun,
            "end_time": begun,
            "status_code": "OK",
            "attributes": {},
        }
        events = [
            span
            | {
                "name": "message",
                "context": {"trace_id": trace, "span_id": uuid.uuid4().hex[:16]},
                "parent_id": root,
                "attributes": {"input.value": payload},
            }
            for payload in payloads
        ]
        self.spans.log_spans(project_identifier=self.PROJECT, spans=[span, *events])
        return trace

    def settle(self, run_id):
        """Waits until the server has stored a run, which it acknowledges earlier."""
        wait_until(lambda: self.get(run_id))

    def get(self, run_id):
        return self.spans.get_spans(
            project_identifier=self.PROJECT, trace_ids=[run_id], parent_id="null"
        )

    def list(self):
        return self.spans.get_spans(
            project_identifier=self.PROJECT, parent_id="null", limit=LIMIT
        )

    def delete(self, run_ids):
        times = [self.started[run_id] for run_id in run_ids]
        end = datetime.datetime.fromisoformat(times[-1]) + datetime.timedelta(microseconds=1)
        answer = self.http.delete(
            f"/v1/projects/{self.PROJECT}/traces",
            params={"start_time": times[0], "end_time": end.isoformat()},
        )
        answer.raise_for_status()


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat()


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports


def wait_until(is_true):
    deadline = time.monotonic() + 120
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def main():
    peer, folder, payloads = sys.argv[1:]
    with open(payloads, encoding="utf-8") as file:
        payloads = json.load(file)
    # The answers go to stdout, and whatever the peer prints to stderr.
    answers, sys.stdout = sys.stdout, sys.stderr
    logging.disable(logging.WARNING)
    store = {"dagster": Dagster, "dbos": Dbos, "phoenix": Phoenix}[peer](folder)
    settle = getattr(store, "settle", lambda run_id: None)

    def record():
        run_ids = [store.record(payloads) for _ in range(RUNS)]
        settle(run_ids[-1])
        return run_ids

    recorded = record() + record()
    for line in sys.stdin:
        begun = time.perf_counter()
        count = RUNS
        match line.strip():
            case "record":
                recorded += record()
            case "get":
                for run_id in recorded[-RUNS:]:
                    assert store.get(run_id)
            case "list":
                count = LISTS
                for _ in range(LISTS):
                    assert len(store.list()) == LIMIT
            case "delete":
                old, recorded = recorded[:RUNS], recorded[RUNS:]
                store.delete(old)
        print(count / (time.perf_counter() - begun), file=answers, flush=True)


main()
