"""Nightly retraining as an Airflow DAG.

Airflow lives in an environment of its own (docs/decisions/0005), so this file imports neither pyspark nor iomt_ids:
it only starts the spark-submit line that systemd and cron start too. Put this folder in Airflow's DAG folder and set,
for the scheduler, the DAG processor and the workers,

    IOMT_IDS_HOME   the project's folder, with its .venv, dist/iomt_ids.zip and conf
    IOMT_IDS_DATA   the folder of captured flows, in the official layout
"""

from __future__ import annotations

import os
import shlex
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

# The same line is in iomt-ids-retrain.service and retrain.cron; tests/schedule fails when one of the three differs.
COMMAND = (
    "/usr/bin/env"
    " PYSPARK_PYTHON={home}/.venv/bin/python"
    " PYSPARK_DRIVER_PYTHON={home}/.venv/bin/python"
    " SPARK_LOCAL_IP=127.0.0.1"
    " {home}/.venv/bin/spark-submit"
    " --properties-file {home}/conf/spark/local.conf"
    " --py-files {home}/dist/iomt_ids.zip"
    " {home}/jobs/retrain.py"
    " --config {home}/conf/local.yaml"
    " --set data.raw={data}"
)

# What the job may see of the worker's environment. The rest stays behind: it holds Airflow's database password and
# keys, and a PYTHONPATH or SPARK_HOME of Airflow's would start another Spark than the project's.
PASSED_ON = ("HOME", "JAVA_HOME", "LANG", "PATH", "TMPDIR", "TZ")


def _folder(name: str) -> str:
    """Return the folder an environment variable names; Airflow shows the error as an import error of this DAG."""
    if not os.environ.get(name):
        raise RuntimeError(f"{name} is not set; the retraining DAG needs IOMT_IDS_HOME and IOMT_IDS_DATA")
    return os.environ[name]


home = _folder("IOMT_IDS_HOME")
data = _folder("IOMT_IDS_DATA")

with DAG(
    dag_id="iomt_ids_retrain",
    description="Retrain the detectors; the served one is replaced only by one that is not worse",
    schedule="30 3 * * *",  # after midnight's captures; 03:30 exists exactly once on every day, clock changes included
    start_date=datetime(2025, 1, 1),  # without a time zone: Airflow's own default, the ward's where that is set
    catchup=False,  # a missed night is not worth repeating: the next one reads the same folder
    max_active_runs=1,  # the job's own lock refuses a second start; this keeps it from being tried
    tags=["iomt_ids"],
):
    BashOperator(
        task_id="retrain",
        # Quoted, so that a blank in a path stays in the path; whole, so that the log's line can be run by hand.
        bash_command=COMMAND.format(home=shlex.quote(home), data=shlex.quote(data)),
        cwd=home,  # output.folder is relative to it
        env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        append_env=False,
        skip_on_exit_code=None,  # no exit status but 0 is good news
        retries=2,  # for a full disk or a killed process; bad input fails three times, and changes nothing
        retry_delay=timedelta(minutes=10),
        execution_timeout=timedelta(hours=6),  # a run that hangs must not hold the lock through the next night
    )
