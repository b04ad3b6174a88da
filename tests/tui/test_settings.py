"""What is remembered from one run to the next."""

import pytest

from labbench.session.operations import Cluster, Finetune, Load, Prune
from labbench.tui.settings import Settings


def test_values_come_back_from_the_file(tmp_path):
    path = tmp_path / "deep" / "settings.json"
    settings = Settings.load(path)
    load = Load(model="resnet-20", dataset="digits", options={"shortcut": "B"}, seed=3)
    settings.remember(load)
    settings.remember(Prune(layers=("conv1",), amount=0.3, method="group-magnitude", options={"p": 1}))
    settings.theme = "textual-light"
    settings.save()
    again = Settings.load(path)
    assert again.theme == "textual-light"
    assert again.last_load() == load
    assert again.last("prune")["amount"] == 0.3
    assert again.last("prune")["options"] == {"p": 1}
    assert [file.name for file in path.parent.iterdir()] == ["settings.json"]


def test_what_belongs_to_one_occasion_is_not_remembered(tmp_path):
    settings = Settings.load(tmp_path / "settings.json")
    settings.remember(Finetune(epochs=5, steps=137))
    settings.remember(Cluster(layers=("conv1",), k=4))
    settings.remember(Load(model="lenet-5", dataset="digits", weights="a.pt", sha256="0" * 64))
    assert "steps" not in settings.last("finetune")
    settings.remember(Finetune(resume=True))
    assert settings.last("finetune")["epochs"] == 5
    assert "resume" not in settings.last("finetune")
    assert "layers" not in settings.last("cluster")
    assert settings.last_load() == Load(model="lenet-5", dataset="digits", weights="a.pt")


def test_a_fresh_start_remembers_nothing(tmp_path):
    settings = Settings.load(tmp_path / "settings.json")
    assert settings.last("prune") == {}
    assert settings.last("no such operation") == {}
    assert settings.last_load() is None


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"[]", b'{"theme": 3}', b'{"load": 1}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_broken_file_gives_defaults(tmp_path, content):
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    settings = Settings.load(path)
    assert settings.theme == Settings.load(tmp_path / "absent.json").theme
    assert settings.last_load() is None


def test_values_that_are_no_longer_right_are_left_out(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(
        '{"load": {"model": 5}, "operations": {"prune": {"amount": 7, "scope": "global", "gone": 1}, "evaluate": {}}}'
    )
    settings = Settings.load(path)
    assert settings.last("prune") == {"scope": "global"}
    assert settings.last_load() is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    settings = Settings.load(tmp_path / "file" / "settings.json")
    settings.remember(Prune())
    settings.save()
    assert settings.last("prune")["amount"] == 0.5
