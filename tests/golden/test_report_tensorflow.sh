#!/usr/bin/env bash
# A run's TensorBoard events as TensorFlow reads them (it checks the CRCs), and as TensorBoard does where it is there,
# against history.csv; and its report.html through an HTML parser. Needs a Python with TensorFlow: $DFT_KERAS_PYTHON, or python3.
. "$(dirname "$0")/../common.sh"
python=${DFT_KERAS_PYTHON:-python3}
"$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("tensorflow") is None)' 2>/dev/null ||
  skip "$python has no TensorFlow; set DFT_KERAS_PYTHON (pip install tensorflow-cpu tensorboard)"

small_config "$work/run" >"$work/config.yaml"
ok "first phase" np 2 "$work/config.yaml" phases.1.epochs=2
ok "started again" np 1 "$work/config.yaml" phases.1.epochs=2
TF_CPP_MIN_LOG_LEVEL=3 "$python" - "$work/run" <<'END' || fail "what TensorFlow reads"
import csv, glob, html.parser, importlib.util, math, sys
from tensorflow import make_ndarray
from tensorflow.python.summary.summary_iterator import summary_iterator

run = sys.argv[1]
rows = list(csv.DictReader(open(run + "/history.csv")))
assert len(rows) == 4
expected = {
    "train": {(tag, int(row["epoch"]) - 1): float(row[tag]) for row in rows for tag in ("accuracy", "loss", "learning_rate")},
    "validation": {(tag, int(row["epoch"]) - 1): float(row["val_" + tag]) for row in rows for tag in ("accuracy", "loss")},
}

def compare(folder, found, who):
    wanted = sorted(expected[folder])
    assert sorted(key for key, _ in found) == wanted, (who, folder, found)
    for (tag, step), value in found:
        assert math.isclose(value, expected[folder][tag, step], rel_tol=1e-6), (who, folder, tag, step, value)

for folder in expected:
    (path,) = glob.glob(run + "/" + folder + "/*tfevents*")
    found = []
    for event in summary_iterator(path):
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            found.append(((value.tag.removeprefix("epoch_"), event.step), float(make_ndarray(value.tensor))))
    compare(folder, found, "tensorflow")
    if importlib.util.find_spec("tensorboard"):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        board = EventAccumulator(path)
        board.Reload()
        compare(folder, [((tag.removeprefix("epoch_"), event.step), float(make_ndarray(event.tensor_proto)))
                         for tag in board.Tags()["tensors"] for event in board.Tensors(tag)], "tensorboard")

class Page(html.parser.HTMLParser):
    open, closed = [], []
    def handle_starttag(self, tag, attributes):
        if tag not in ("meta",): self.open.append(tag)
    def handle_startendtag(self, tag, attributes):
        self.closed.append(tag)
    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag
        self.closed.append(tag)

page = Page()
page.feed(open(run + "/report.html", encoding="utf-8").read())
assert page.open == [], page.open
assert page.closed.count("svg") == 2 and page.closed.count("circle") == 16, page.closed
END
