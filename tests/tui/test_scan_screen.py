"""The scan screen: it grows, a fall is chosen, a plan is taken."""

from bench_data import snapshot
from hosting import PENDING, Host, seen, until

from labbench.session.events import Finished, Probed, Started
from labbench.session.measures import LayerScan, Scanned
from labbench.session.operations import Load, Scan
from labbench.session.session import Session
from labbench.tui.screens.scan import NEW, ScanScreen

FOUND = Scanned(top1=0.9, layers=(LayerScan(layers=("conv1",), amounts=(0.3, 0.6, 0.9), top1=(0.9, 0.885, 0.7)),))


def session_with(*events):
    session = Session()
    for event in (Finished(operation=Load(model="m", dataset="d"), snapshot=snapshot()), *events):
        session.append(0, event)
    return session


async def test_it_grows_while_the_scan_runs_and_gives_no_plan_yet():
    session = session_with(Started(operation=Scan()))
    app = Host(ScanScreen(lambda: session, lambda: False))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "no answer yet" in seen(app))
        session.append(1, Probed(layers=("conv1",), amount=0.3, top1=0.42))
        await until(pilot, lambda: "42.0" in seen(app) and "measuring" in seen(app))
        await pilot.press("p")
        assert app.result is PENDING


async def test_a_larger_fall_gives_another_plan():
    session = session_with(Finished(operation=Scan(), scanned=FOUND))
    app = Host(ScanScreen(lambda: session, lambda: True))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "[88.5]" in seen(app))
        await pilot.press("minus", "minus")
        await until(pilot, lambda: "[90.0]" in seen(app))
        await pilot.press(*["plus"] * 9)
        await until(pilot, lambda: "[70.0]" in seen(app) and "‹ 20 ›" in seen(app))
        await pilot.press("minus", "minus", "p")
        await until(pilot, lambda: app.result is not PENDING)
    assert app.result == {"conv1": 0.6}


async def test_n_asks_for_another_scan_and_escape_for_nothing():
    for key, answer in (("n", NEW), ("escape", None)):
        session = session_with(Finished(operation=Scan(), scanned=FOUND))
        app = Host(ScanScreen(lambda session=session: session, lambda: True))
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press(key)
            await until(pilot, lambda app=app: app.result is not PENDING)
        assert app.result == answer
