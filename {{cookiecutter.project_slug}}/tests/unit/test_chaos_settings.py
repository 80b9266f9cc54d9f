"""A chaos run's settings, and what is said of one that is wrong."""

from pathlib import Path

import pytest

from loadtests.chaos.schedule import FaultName
from loadtests.chaos.settings import ChaosSettings
from loadtests.settings import BadSettings, read_settings


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for field in ChaosSettings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.setenv("CHAT_TOKEN_SECRET", "s" * 32)
    monkeypatch.setitem(ChaosSettings.model_config, "env_file", tmp_path / ".env")


def test_every_fault_strikes_unless_some_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings(ChaosSettings).faults == tuple(FaultName)
    monkeypatch.setenv("CHAOS_FAULTS", "kill-worker, freeze-redis")
    assert read_settings(ChaosSettings).faults == (FaultName.KILL_WORKER, FaultName.FREEZE_REDIS)


@pytest.mark.parametrize(("value", "recovers"), [("on", True), ("off", False)])
def test_recovery_is_on_or_off(monkeypatch: pytest.MonkeyPatch, value: str, recovers: bool) -> None:
    monkeypatch.setenv("CHAOS_RECOVERY", value)
    assert read_settings(ChaosSettings).recovers is recovers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHAOS_FAULTS", "kill-everybody"),
        ("CHAOS_FAULTS", ","),
        ("CHAOS_USERS", "3"),
        ("CHAOS_ROOMS", "51"),
        ("CHAOS_RATE", "0"),
        ("CHAOS_FAULT_SECONDS", "nan"),
        ("CHAOS_RECOVERY", "maybe"),
        ("CHAOS_SEED", "-1"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_what_is_allowed(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=rf"^{name} is .*, allowed is: "):
        read_settings(ChaosSettings)
