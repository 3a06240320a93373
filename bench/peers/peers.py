"""Performs the operations that a peer shares with Runtrail, on SQLite.

Reads the name of an operation from each line of stdin, and prints how many it has performed per
second. `bench/src/peers.rs` runs it.
"""

import json
import logging
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


def main():
    peer, folder, payloads = sys.argv[1:]
    with open(payloads, encoding="utf-8") as file:
        payloads = json.load(file)
    # The answers go to stdout, and whatever the peer prints to stderr.
    answers, sys.stdout = sys.stdout, sys.stderr
    logging.disable(logging.WARNING)
    store = {"dagster": Dagster, "dbos": Dbos}[peer](folder)
    recorded = [store.record(payloads) for _ in range(2 * RUNS)]
    for line in sys.stdin:
        begun = time.perf_counter()
        count = RUNS
        match line.strip():
            case "record":
                recorded += [store.record(payloads) for _ in range(RUNS)]
            case "get":
                for run_id in recorded[-RUNS:]:
                    assert store.get(run_id) is not None
            case "list":
                count = LISTS
                for _ in range(LISTS):
                    assert len(store.list()) == LIMIT
            case "delete":
                old, recorded = recorded[:RUNS], recorded[RUNS:]
                store.delete(old)
        print(count / (time.perf_counter() - begun), file=answers, flush=True)


main()
