"""The table's columns: at every width whole figures, and the layer, its zeros and its state always there."""

import re

import msgspec
import pytest
from sample import lenet_rows, pruned, resnet_rows, snapshot

from labbench.tui.widgets.columns import COLUMNS, DROPPED, changed, describe, place, state, unique

NUMBER = re.compile(r"[\d,.]+")


def line(placed, row):
    return "  ".join(one.text(one.column.cell(row)) for one in placed)


@pytest.mark.parametrize("width", range(28, 201))
def test_no_figure_is_cut_at_any_width(width):
    rows = resnet_rows()
    placed = place(rows, width, 2)
    assert placed[-1].x + placed[-1].width <= width
    for row in rows:
        whole = {
            number for one in placed if one.column.name != "layer" for number in NUMBER.findall(one.column.cell(row))
        }
        shown = {
            number
            for one in placed
            if one.column.name != "layer"
            for number in NUMBER.findall(one.text(one.column.cell(row)))
        }
        assert shown == whole
        assert len(line(placed, row)) <= width - 2


def test_columns_go_in_the_stated_order_and_three_stay():
    rows = resnet_rows()
    gone = []
    for width in range(200, 20, -1):
        shown = {one.column.name for one in place(rows, width, 2)}
        gone += [name for name in DROPPED if name not in shown and name not in gone]
    assert tuple(gone) == DROPPED
    assert {"layer", "zero", "state"} == {column.name for column in COLUMNS} - set(DROPPED)
    assert {one.column.name for one in place(rows, 30, 2)} == {"layer", "zero", "state"}


def test_what_was_done_to_a_layer_shows_in_signs():
    rows = {row.name: row for row in resnet_rows()}
    assert state(rows["conv1"]) == "❄   "
    assert state(rows["layer1.0.conv1"]) == " ▒  "
    assert state(rows["layer2.0.conv1"]) == "  ✂ "
    assert state(rows["layer3.0.conv2"]) == "   ≡"
    assert "cut" in describe(rows["layer2.0.conv1"])


def test_only_changed_figures_are_stressed():
    before = lenet_rows()
    after = (*before[:3], *pruned(before[3:], 0.5))
    cells = changed(snapshot(before), snapshot(after))
    assert cells == {("fc2", "zero"), ("fc2", "state")}
    assert changed(None, snapshot(after)) == frozenset()


def test_clusters_of_places_are_counted_at_a_place():
    row = msgspec.structs.replace(lenet_rows()[1], filters_unique=50, clusters=8, weights_unique=3900)
    assert unique(row) == "8/50 a place"
    assert "at most 8 values at each: 3,900 distinct weights" in describe(row)
    assert unique(lenet_rows()[1]) == "50/50"
