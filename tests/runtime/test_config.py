"""base.yaml, then a place, then --set; everything wrong is said at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from iomt_ids.contract.errors import ConfigError
from iomt_ids.runtime.config import load_config

_CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A place of its own beside the real base.yaml."""
    (tmp_path / "base.yaml").write_text((_CONF / "base.yaml").read_text())
    path = tmp_path / "here.yaml"
    path.write_text("{}\n")
    return path


def _refusal(path: Path, *assignments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, assignments)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(p for p in _CONF.glob("*.yaml") if p.name != "base.yaml"), ids=lambda p: p.name)
def test_every_committed_place_is_a_configuration(path: Path) -> None:
    assert load_config(path).output.format == "delta"


def test_every_key_of_the_base_says_why() -> None:
    for line in (_CONF / "base.yaml").read_text().splitlines():
        key = line.strip()
        if key and not key.startswith("#") and not key.endswith(":"):
            inside_a_list_of_tasks = line.startswith("    ")
            assert inside_a_list_of_tasks or "#" in line, line


def test_a_place_overrides_the_base_and_an_assignment_overrides_both(place: Path) -> None:
    place.write_text("seed: 8\nsplit:\n  salt: ward\n")
    assert load_config(place).seed == 8
    config = load_config(place, ["split.salt=night", "data.raw=/data/x=y"])
    assert (config.seed, config.split.salt, config.data.raw) == (8, "night", "/data/x=y")
    assert config.evaluate == load_config(_CONF / "local.yaml").evaluate


def test_zero_is_a_seed(place: Path) -> None:
    assert load_config(place, ["seed=0"]).seed == 0


def test_a_typo_names_the_nearest_key(place: Path) -> None:
    place.write_text("split:\n  slat: x\n")
    assert "here.yaml: unknown configuration key 'split.slat'; did you mean 'split.salt'?" in _refusal(place)


@pytest.mark.parametrize(("assignment", "said"), [
    ("train.detektors={}", "'train.detektors'; did you mean 'train.detectors'?"),
    ("train.sed=1", "'train.sed'; did you mean 'seed'?"),
    ("dat.raw=x", "'dat'; did you mean 'data'?"),
    ("output.formt=delta", "'output.formt'; did you mean 'output.format'?"),
    ("evaluate.bootstraps=100", "'evaluate.bootstraps'; did you mean 'evaluate.bootstrap'?"),
    ("evaluate.false_alarms_per_milion=9", "'evaluate.false_alarms_per_milion'; did you mean 'evaluate.false_alarms_per_million'?"),
    ("evaluate.costs.mised={}", "'evaluate.costs.mised'; did you mean 'evaluate.costs.missed'?"),
    ("serve.tolerence=0", "'serve.tolerence'; did you mean 'serve.tolerance'?"),
])
def test_a_typo_in_an_assignment_names_the_nearest_key(place: Path, assignment: str, said: str) -> None:
    assert _refusal(place, assignment) == f"configuration: --set: unknown configuration key {said}"


def test_everything_unknown_is_said_at_once(place: Path) -> None:
    place.write_text("split:\n  slat: x\nsede: 1\n")
    message = _refusal(place, "data.row=x", "nothing")
    for said in ("4 problems", "'split.slat'", "'sede'", "--set: unknown configuration key 'data.row'",
                 "--set nothing: wanted key=value"):
        assert said in message


def test_every_wrong_type_is_said_at_once(place: Path) -> None:
    message = _refusal(place, "seed=seven", "data.demo_rows=1.5", "evaluate.bootstrap=true", "output=delta",
                       "train.detectors={random_forest: attack}", "data.raw=5")
    for said in ("6 problems", "'seed' wants int, not 'seven'", "'data.demo_rows' wants int, not 1.5",
                 "'evaluate.bootstrap' wants int, not True", "'output' wants keys and values, not 'delta'",
                 "'train.detectors.random_forest' wants list, not 'attack'", "'data.raw' wants str, not 5"):
        assert said in message


def test_every_impossible_value_is_said_at_once(place: Path) -> None:
    wrong = {
        "output.format": "orc", "split.validation_fraction": 0.5, "features.set": "some", "features.release": "v3",
        "split.scheme": "shuffle", "split.test_fraction": 1.0, "evaluate.stable_windows": 0,
        "serve.task": "attacks", "ingest.block_bytes": 1, "data.demo_rows": 1,
        "evaluate.bootstrap": 1, "evaluate.false_alarms_per_million": 0, "evaluate.costs.mistaken": -1.0,
        "evaluate.costs.missed": "{DoS: 1, Flood: 2}", "serve.tolerance": -0.1,
        "train.compare_all_features": "{random_forest: [atack]}", "tune.folds": 1, "tune.candidates": 1, "tune.keep": 0.0,
        "train.ends_by": "rows",
    }
    message = _refusal(place, *[f"{key}={value}" for key, value in wrong.items()])
    assert f"{len(wrong)} problems" in message
    assert all(key in message for key in wrong)


def test_a_key_without_a_value_is_named(place: Path) -> None:
    base = yaml.safe_load((_CONF / "base.yaml").read_text())
    del base["seed"], base["split"]["salt"]
    (place.parent / "base.yaml").write_text(yaml.safe_dump(base))
    message = _refusal(place)
    assert "key 'seed' has no value" in message
    assert "key 'split.salt' has no value" in message


def test_a_file_that_is_not_there_or_no_yaml_is_named(place: Path) -> None:
    assert f"cannot read {place.with_name('absent.yaml')}" in _refusal(place.with_name("absent.yaml"))
    place.write_text("seed: [")
    assert f"{place} is not YAML" in _refusal(place)
    place.write_text("- seed")
    assert "wanted keys and values, found list" in _refusal(place)


def test_a_whole_number_is_a_fraction_too(place: Path) -> None:
    value = load_config(place, ["serve.tolerance=0"]).serve.tolerance
    assert (value, type(value)) == (0.0, float)


def test_tables_of_two_folders_with_the_same_name_do_not_share_a_home(place: Path, tmp_path: Path) -> None:
    homes = {load_config(place, [f"data.raw={tmp_path}/{name}/flows"]).home for name in "ab"}
    assert len(homes) == 2
    assert load_config(place).home == Path("out/demo")


def test_a_resolved_configuration_is_plain_values(place: Path) -> None:
    config = load_config(place, ["models={random_forest: {trees: 3}}"])
    assert json.loads(json.dumps(config.as_dict()))["models"] == {"random_forest": {"trees": 3}}
    assert config.with_values(split={"salt": "b"}).split.salt == "b"
    assert config.split.salt == "iomt_ids"
