#!/usr/bin/env bash
# Make this folder ready to run: scripts/set_up.sh run|test|airflow
#
#   run      .venv with what a job needs, Horovod compiled in, Delta's jars inside pyspark
#   test     the same, and the test tools, and .venv-airflow
#   airflow  .venv-airflow only
#
# A stamp in each environment remembers the files it was made from: done twice, nothing happens. What is slow to make
# or to fetch (Horovod's wheel, Delta's jars) is kept in ${XDG_CACHE_HOME:-~/.cache}/iomt_ids, outside this folder.
# Exit status 2: something is missing that only you can install; the command that does it is the last line printed.
# Why a shell script: docs/decisions/0002-set-up-by-make-and-one-shell-script.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

goal="${1:-run}"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/iomt_ids"
delta="io.delta:delta-spark_4.2_2.13:4.4.0"

say() { printf '%s set-up: %s\n' "$(date +%H:%M:%S)" "$*" >&2; }

# What an environment is made from: when one of these changes, so does the stamp.
made_from() { { echo "$PWD"; cat scripts/set_up.sh setup.py "$@"; } | sha256sum | cut -d' ' -f1; }

up_to_date() { # environment, group, files...
    local stamp="$1/.made-from-$2"
    [[ -x $1/bin/python && -f $stamp && $(<"$stamp") == "$(made_from "${@:3}")" ]]
}

stamp() { made_from "${@:3}" > "$1/.made-from-$2"; }

# ---- what only the system's package manager can bring --------------------------------------------------------------

missing=()     # apt packages
reasons=()     # one sentence each

want() { missing+=("$1"); reasons+=("$2"); }

good_python() { # has the version, and can make an environment with pip in it
    command -v "$1" >/dev/null &&
        "$1" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 12)))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.12 python3.11; do
        if good_python "$candidate"; then echo "$candidate"; return; fi
    done
}

good_java() { # a full JDK 17 or 21: Spark 4.2 asks for the module jdk.incubator.vector
    [[ -x $1 ]] && "$1" --list-modules 2>/dev/null | grep -qE '^jdk\.incubator\.vector@(17|21)'
}

find_java() {
    local candidate
    for candidate in "${JAVA_HOME:-/nowhere}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
        if good_java "$candidate"; then readlink -f "$candidate"; return; fi
    done
}

browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

note_missing_packages() {
    local python; python="$(find_python)"
    [[ -n $python ]] || want python3-venv "Python 3.11 or 3.12"
    [[ -z $python ]] || "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        want "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv" "Python's venv module"
    [[ $goal == airflow ]] && return
    [[ -n $(find_java) ]] || want openjdk-17-jre-headless "a full JDK 17 or 21 (one with jdk.incubator.vector)"
    command -v g++ >/dev/null || want g++ "a C++ compiler, for Horovod"
    command -v make >/dev/null || want make "make, for Horovod's build"
}

as_root() { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

install_missing_packages() {
    note_missing_packages
    ((${#missing[@]})) || return 0
    local command="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    printf -v reason '%s; ' "${reasons[@]}"
    if ! as_root; then
        say "missing: ${reason%; }. Run this, then start again:"
        echo "sudo sh -c '$command'" >&2
        exit 2
    fi
    say "installing ${missing[*]} (${reason%; })"
    DEBIAN_FRONTEND=noninteractive sh -c "$command" >"$cache/apt.log" 2>&1 || { tail -20 "$cache/apt.log" >&2; exit 2; }
    missing=() reasons=()
    note_missing_packages
    if ((${#missing[@]})); then
        say "still missing after apt-get: ${missing[*]}; this needs Debian 12, Ubuntu 24.04, or the same by hand"
        exit 2
    fi
}

another_network() { PATH="$PATH:/usr/sbin:/sbin" command -v ip; }

install_for_tests() { # without these the tests that need them say that they were skipped
    local names=()
    browser >/dev/null || names+=(chromium)           # the tests open the report in it
    another_network >/dev/null || names+=(iproute2)   # the tests attack Horovod's ranks from another network
    ((${#names[@]})) || return 0
    local command="apt-get install -y --no-install-recommends ${names[*]}"
    if as_root; then
        say "installing ${names[*]} (for the tests)"
        DEBIAN_FRONTEND=noninteractive sh -c "apt-get update && $command" >"$cache/apt.log" 2>&1 &&
            browser >/dev/null && another_network >/dev/null && return
    fi
    say "not here: ${names[*]}; the tests that need them will be skipped; to run them: sudo $command"
}

# ---- .venv ----------------------------------------------------------------------------------------------------------

make_environment() { # folder
    local python; python="$(find_python)"
    if ! [[ -x $1/bin/python ]] || ! good_python "$1/bin/python"; then
        say "$1 from $("$python" --version)"
        rm -rf "$1"
        "$python" -m venv "$1"
    fi
}

install_locked() { # folder, lock
    say "packages of $2"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --require-hashes -r "$2"
}

version_of() { .venv/bin/python -c 'import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))' "$1"; }

install_horovod() {
    local key wheels tensorflow
    tensorflow="$(version_of tensorflow-cpu)"
    key="horovod-0.28.1-$(.venv/bin/python -c 'import sys; print(sys.implementation.cache_tag)')"
    key+="-tensorflow-$tensorflow-$(uname -m)"
    key+="-mended-$(sha256sum requirements/horovod.sed | cut -c1-8)"
    wheels="$cache/$key"
    if ! compgen -G "$wheels/*.whl" >/dev/null; then
        build_horovod "$wheels"
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --force-reinstall "$wheels"/*.whl
}

build_horovod() { # where the wheel goes
    local log="$cache/horovod-build.log" start=$SECONDS
    say "compiling Horovod for TensorFlow $(version_of tensorflow-cpu): 3 to 6 minutes on two cores, once (log: $log)"
    rm -rf "$1.part" "$1.source"
    mkdir -p "$1.source"
    # PATH: Horovod's setup.py calls the cmake it finds, and the environment's is the pinned one.
    { PATH="$PWD/.venv/bin:$PATH" .venv/bin/python -m pip download --disable-pip-version-check --no-deps --no-build-isolation \
        --no-cache-dir --require-hashes -r requirements/horovod.lock -d "$1.source" &&
    tar -xzf "$1.source"/horovod-*.tar.gz -C "$1.source" --strip-components=1 &&
    sed -i -f requirements/horovod.sed "$1.source/horovod/common/gloo/gloo_context.cc" &&
    grep -q '= global_context.gloo_iface_;' "$1.source/horovod/common/gloo/gloo_context.cc" &&
    PATH="$PWD/.venv/bin:$PATH" MAKEFLAGS="-j$(nproc)" HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 \
        HOROVOD_CPU_OPERATIONS=GLOO HOROVOD_WITHOUT_MPI=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 \
        .venv/bin/python -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation --no-cache-dir \
        -w "$1.part" "$1.source"; } >"$log" 2>&1 ||
        { tail -30 "$log" >&2; say "Horovod does not compile; the whole log: $log"; exit 1; }
    rm -rf "$1" "$1.source"
    mv "$1.part" "$1"
    say "Horovod compiled in $((SECONDS - start)) s"
}

# Delta's jars lie inside pyspark, so that every Spark of this environment has them, without asking anyone at run time.
install_jars() {
    local jars target name
    jars="$cache/jars"
    target="$(.venv/bin/python -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent / "jars")')"
    mkdir -p "$jars"
    if ! (cd "$jars" && sha256sum --check --quiet --strict - >/dev/null 2>&1) < requirements/jars.sha256; then
        fetch_jars "$jars"
    fi
    rm -f "$target"/delta-*.jar
    while read -r _ name; do cp "$jars/$name" "$target/$name"; done < requirements/jars.sha256
}

fetch_jars() { # where the jars go
    local ivy log="$cache/jars.log" name nothing
    ivy="$(mktemp -d "$cache/ivy.XXXXXX")"
    nothing="$ivy/nothing.py"
    touch "$nothing"
    say "Delta's jars ($delta)"
    # Spark's own resolver, so that its settings count: DEFAULT_ARTIFACT_REPOSITORY, spark-defaults.conf, ~/.m2.
    env -u SPARK_HOME JAVA_HOME="$(dirname "$(dirname "$(find_java)")")" PYSPARK_PYTHON="$PWD/.venv/bin/python" \
        .venv/bin/spark-submit --master 'local[1]' --conf spark.jars.ivy="$ivy" --packages "$delta" "$nothing" \
        >"$log" 2>&1 || { tail -20 "$log" >&2; say "Delta's jars cannot be fetched; the whole log: $log"; exit 1; }
    while read -r _ name; do
        mv "$ivy/jars/io.delta_$name" "$1/$name"
    done < requirements/jars.sha256
    rm -rf "$ivy"
    (cd "$1" && sha256sum --check --quiet --strict -) < requirements/jars.sha256 ||
        { say "these are not the jars in requirements/jars.sha256; nothing was installed"; exit 1; }
}

# What Java has read and checked of Spark's, Delta's and Hadoop's classes, for every later Java to map instead.
archive_classes() {
    local folder log="$cache/classes.log" options
    folder="$(mktemp -d "$cache/classes.XXXXXX")"
    options="-Dlog4j2.configurationFile=conf/log4j2.properties -XX:ArchiveClassesAtExit=$folder/spark.jsa"
    say "archiving Spark's classes: half a minute, once; every job starts some seconds sooner"
    rm -f .venv/spark.jsa
    {
        .venv/bin/iomt-ids submit ingest_flows --set data.demo_rows=10000 --set output.folder="$folder" &&
        .venv/bin/iomt-ids submit refine_flows --set data.demo_rows=10000 --set output.folder="$folder" \
            --spark-conf "spark.driver.extraJavaOptions=$options -Xlog:disable -XX:TieredStopAtLevel=1" &&
        mv "$folder/spark.jsa" .venv/spark.jsa
    } >"$log" 2>&1 || say "Spark's classes cannot be archived; all works without (log: $log)"
    rm -rf "$folder"
}

set_up_venv() { # the locks beyond build.lock
    make_environment .venv
    install_locked .venv requirements/build.lock
    local lock
    for lock in "$@"; do install_locked .venv "$lock"; done
    install_horovod
    install_jars
    # An import path and the command iomt-ids; the build tools are here already, so nothing is fetched for it.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --no-build-isolation -e .
    archive_classes
}

# ---- what was asked for ---------------------------------------------------------------------------------------------

run_files=(requirements/{build,runtime,horovod}.lock requirements/{horovod.sed,jars.sha256})
test_files=(requirements/{build,dev,horovod}.lock requirements/{horovod.sed,jars.sha256})
airflow_files=(requirements/airflow.lock)

ready() { # goal
    case "$1" in
        run) up_to_date .venv run "${run_files[@]}" ;;
        test) ready run && up_to_date .venv test "${test_files[@]}" && ready airflow ;;
        airflow) up_to_date .venv-airflow airflow "${airflow_files[@]}" ;;
        *) say "unknown goal '$1': run, test or airflow"; exit 2 ;;
    esac
}

if ready "$goal"; then exit 0; fi
start=$SECONDS
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9        # two of us at once would build in each other's folders
install_missing_packages
if [[ $goal != airflow ]] && ! ready run; then
    set_up_venv requirements/runtime.lock
    stamp .venv run "${run_files[@]}"
fi
if [[ $goal == test ]] && ! up_to_date .venv test "${test_files[@]}"; then
    install_for_tests
    install_locked .venv requirements/dev.lock
    stamp .venv test "${test_files[@]}"
fi
if [[ $goal != run ]] && ! ready airflow; then
    make_environment .venv-airflow
    install_locked .venv-airflow requirements/airflow.lock
    stamp .venv-airflow airflow "${airflow_files[@]}"
fi
say "ready in $((SECONDS - start)) s"
