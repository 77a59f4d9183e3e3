"""Records and frames: the same bytes on the wire, on disk and in a download."""

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from lnres.experiment import Experiment
from lnres.record import CLOCK_OF, CLOCKS, Record, pack, unpack
from lnres.train import Run

E = Experiment(depth=2, width=8, batch=8, seeds=2, record_every=5)
FRAMES = [frame for frame, _ in zip(Run(E), range(150), strict=False)]


def whole(frames=FRAMES, **header):
    record = Record(header)
    for frame in frames:
        record.extend(*frame)
    return record


def equal(a, b):
    return set(a) == set(b) and all(
        a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name], equal_nan=True) for name in a
    )


@pytest.mark.parametrize("frame", [FRAMES[0], FRAMES[1], FRAMES[21]], ids=["test", "probe", "loss"])
def test_a_frame_goes_through_bytes_and_back(frame):
    arrays, header = unpack(pack(*frame))
    assert equal(arrays, frame[0])
    assert header == frame[1]


def test_a_header_may_say_anything_json_can():
    header = {"events": [{"step": 3, "text": 'σ → ∞ " \\ \n'}], "label": "α"}
    assert unpack(pack({}, header))[1] == header


def test_arrays_that_are_not_contiguous_are_packed_in_order():
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert np.array_equal(unpack(pack({"a": array}, {}))[0]["a"], array)


def test_what_grew_by_frames_equals_the_concatenation():
    record = whole()
    for name in record:
        parts = [arrays[name] for arrays, _ in FRAMES if name in arrays]
        assert np.array_equal(record[name], np.concatenate(parts), equal_nan=True), name
        assert len(record[name]) == record.rows(CLOCK_OF[name])


def test_what_grew_by_large_steps_equals_what_grew_by_small_ones():
    small = whole()
    large = Record()
    for names in (FRAMES[:1], FRAMES[1:2], FRAMES[2:]):
        part = whole(names)
        large.extend({name: part[name] for name in part}, {"events": part.events})
    assert equal(small, large)


def test_a_view_from_before_is_untouched_by_what_comes_after():
    record = whole(FRAMES[:5])
    view = record["loss_train"]
    before = view.copy()
    record.extend(*FRAMES[5])
    assert np.array_equal(view, before)


def test_an_empty_record_has_no_rows():
    record = Record()
    assert record.last_step == -1
    assert [record.rows(clock) for clock in CLOCKS] == [0] * len(CLOCKS)
    assert list(record) == []


def test_last_step_is_the_last_one_seen():
    assert [whole(FRAMES[:k]).last_step for k in (1, 2, 150)] == [0, 1, 149]


@pytest.mark.parametrize("have", [{}, {"step": 10}, {"step": 10, "cosine": 4, "loss_test": 1}])
def test_since_gives_the_rows_that_are_missing(have):
    record = whole()
    new = record.since(have)
    assert set(new) == set(record)
    for name, rows in new.items():
        assert np.array_equal(rows, record[name][have.get(name, 0) :], equal_nan=True)


def test_a_reader_that_asks_for_what_is_missing_ends_with_everything():
    record, copy = Record(), Record()
    for i, frame in enumerate(FRAMES):
        record.extend(*frame)
        if i % 7 == 0 or i == len(FRAMES) - 1:
            copy.extend(record.since({name: copy.rows(name) for name in CLOCK_OF}))
    assert equal(record, copy)


def test_since_can_be_asked_for_some_arrays_only():
    assert set(whole().since({}, ["loss_train", "cosine"])) == {"loss_train", "cosine"}


def test_events_are_kept_in_order():
    record = Record({"events": [{"step": 0, "kind": "a"}]})
    record.extend({}, {"events": [{"step": 1, "kind": "b"}, {"step": 2, "kind": "c"}]})
    record.extend({}, None)
    assert [event["kind"] for event in record.events] == ["a", "b", "c"]


def test_a_record_is_saved_and_loaded(tmp_path):
    record = whole(experiment=E.link(), label=E.label())
    record.extend({}, {"events": [{"step": 3, "kind": "change", "text": "lr = 1 from step 3 on"}]})
    record.save(tmp_path / "run.safetensors")
    loaded = Record.load(tmp_path / "run.safetensors")
    assert equal(record, loaded)
    assert (loaded.header, loaded.events) == (record.header, record.events)
    assert Experiment.parse(loaded.header["experiment"]) == E


def test_a_loaded_record_can_grow(tmp_path):
    whole(FRAMES[:30]).save(tmp_path / "run.safetensors")
    record = Record.load(tmp_path / "run.safetensors")
    for frame in FRAMES[30:]:
        record.extend(*frame)
    assert equal(record, whole())


def test_plain_safetensors_opens_a_record(tmp_path):
    record = whole(label="x")
    record.save(tmp_path / "run.safetensors")
    with safetensors.safe_open(tmp_path / "run.safetensors", "np") as file:
        assert set(file.keys()) == set(record)
        assert np.array_equal(file.get_tensor("loss_train"), record["loss_train"])
        assert json.loads(file.metadata()["lnres"])["label"] == "x"


# Damage


BLOB = whole(FRAMES[:2], label="x").tobytes()


def refused(blob):
    """Whether these bytes are refused; what is not refused must still be usable."""
    try:
        arrays, header = unpack(blob)
    except ValueError as error:
        return str(error).startswith("this is not a record of lnres: ") and len(str(error).splitlines()) == 1
    record = Record(header)
    record.extend(arrays)
    return False


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, len(BLOB) // 2, len(BLOB) - 1])
def test_truncated_bytes_are_refused_in_a_sentence(length):
    assert refused(BLOB[:length])


@pytest.mark.parametrize("blob", [
    b"not a record", b"{}", b"\xff" * 64, safetensors.numpy.save({"a": np.zeros(3)}),
    safetensors.numpy.save({"a": np.zeros(3)}, {"lnres": "{"}), safetensors.numpy.save({}, {"lnres": "[]"}),
    safetensors.numpy.save({}, {"lnres": "7"}),
], ids=["text", "json", "ones", "no header", "broken header", "list header", "number header"])  # fmt: skip
def test_what_is_not_a_record_is_refused_in_a_sentence(blob):
    assert refused(blob)


@settings(max_examples=300, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_are_refused_or_harmless(flips):
    """Most flips hit the header; one within the numbers cannot be noticed, but must not break anything."""
    blob = bytearray(BLOB)
    for at, bits in flips:
        blob[at % len(blob)] ^= bits
    refused(bytes(blob))


@settings(max_examples=200, deadline=None)
@given(blob=st.binary(max_size=200))
def test_random_bytes_are_refused_in_a_sentence(blob):
    assert refused(blob)


def test_a_damaged_file_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "run.safetensors"
    path.write_bytes(BLOB[:50])
    with pytest.raises(ValueError, match="this is not a record of lnres"):
        Record.load(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: arrays.pop("step"),
        lambda arrays: arrays.update(loss_train=arrays["loss_train"][:-1]),
        lambda arrays: arrays.update(loss_train=np.float32(1)),
        lambda arrays: arrays.update(unheard=np.zeros(150, np.float32)),
        lambda arrays: arrays.update(step=arrays["step"][:, None]),
    ],
    ids=["no clock", "a row short", "no rows", "unknown name", "clock with two axes"],
)
def test_a_file_whose_arrays_do_not_fit_is_refused(damage, tmp_path):
    record = whole()
    arrays = {name: record[name] for name in record}
    damage(arrays)
    (tmp_path / "run").write_bytes(pack(arrays, {}))
    with pytest.raises(ValueError, match="this is not a record of lnres: "):
        Record.load(tmp_path / "run")


def test_a_snapshot_stays_when_its_record_grows():
    record = Record({"label": "a"})
    record.extend({"step": np.arange(3, dtype=np.int32)}, {"events": [{"step": 1, "kind": "k", "text": "t"}]})
    still, before = record.snapshot(), record.tobytes()
    record.extend(
        {"step": np.arange(3, 6, dtype=np.int32)}, {"events": [{"step": 4, "kind": "k", "text": "t"}]}
    )
    assert still.tobytes() == before
    still.extend({"step": np.array([9], np.int32)})
    assert record["step"].tolist() == list(range(6))


def test_a_frame_is_seen_whole_or_not_at_all():
    record, seen = Record(), []
    record.extend({"step": np.arange(3, dtype=np.int32)})
    rows = np.arange(3, dtype=np.int32)

    class Rows:
        shape, dtype = rows.shape, rows.dtype

        def __len__(self):
            return len(rows)

        def __array__(self, *_, **__):
            seen.append({name: len(record[name]) for name in record})
            return rows

    record.extend({"step": rows + 3, "lr": Rows()})
    assert seen == [{"step": 3}]
    assert {name: len(record[name]) for name in record} == {"step": 6, "lr": 3}
