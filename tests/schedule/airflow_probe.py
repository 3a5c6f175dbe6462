"""Run by Airflow's own Python: load the DAG folder, say what is in it as JSON, and run the task's command once."""

from __future__ import annotations

import json
import sys


def main(folder: str, execute: bool) -> None:
    """Write one line of JSON with what Airflow makes of the DAG folder."""
    # Here, not above: pytest imports every file of the tests, in an environment without Airflow.
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=folder)
    found = {"errors": bag.import_errors, "dags": sorted(bag.dags)}
    if "iomt_ids_retrain" in bag.dags:
        dag = bag.dags["iomt_ids_retrain"]
        (task,) = dag.tasks
        found |= {
            "command": task.bash_command, "retries": task.retries, "timeout_s": task.execution_timeout.total_seconds(),
            "schedule": dag.schedule, "catchup": dag.catchup, "max_active_runs": dag.max_active_runs,
        }
        if execute:
            try:
                task.execute({})
                found["outcome"] = "done"
            except Exception as error:
                found["outcome"] = type(error).__name__
    sys.stdout.write("\nPROBE " + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "execute")
