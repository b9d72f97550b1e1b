"""Videos: moving digits, arrays, folders of files and of frames, published lists, and what is wrong with them."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluators.data.batches import Augment
from evaluators.data.clips.batches import ClipBatches
from evaluators.data.clips.load import load_clips
from evaluators.data.clips.moving import DIRECTIONS, Motion, compose, trajectory
from evaluators.data.clips.splits import Clip
from evaluators.data.clips.videos import FrameFolder, VideoFile
from evaluators.data.embedded import glyphs
from evaluators.tasks.video import VideoAccuracy, VideoClassification, VideoConfig
from spaces.errors import UsageError

CPU = torch.device("cpu")


def write_frames(folder: Path, count: int, colour: int = 0, size: tuple[int, int] = (8, 6)) -> None:
    """Frame n is as bright as 5 n but for one corner, named without leading zeros."""
    folder.mkdir(parents=True)
    for number in range(count):
        image = Image.new("RGB", size, (5 * number, colour, 0))
        image.paste((255, 255, 255), (size[0] - 2, size[1] - 2, size[0], size[1]))
        image.save(folder / f"img_{number}.png")


def write_video(path: Path, count: int, colour: int = 0) -> None:
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 32, 32, "yuv420p", 4_000_000
        stream.codec_context.gop_size = 5
        for number in range(count):
            picture = np.full((32, 32, 3), 8 * number, np.uint8)
            picture[:, :, 1] = colour
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


# --- moving digits ----------------------------------------------------------------------------------------------------


def test_a_single_frame_cannot_tell_the_motion() -> None:
    """Over all first places, a digit's places in any one frame are the same set whichever way it moves, each once."""
    canvas = 6
    starts = np.array(list(itertools.product(range(canvas), repeat=2)))
    for velocity, speed in itertools.product(DIRECTIONS.values(), (1, 2)):
        step = np.broadcast_to(np.array(velocity) * speed, starts.shape)
        places_NL2 = trajectory(starts, step, 4, canvas)
        for frame in range(4):
            assert sorted(map(tuple, places_NL2[:, frame])) == sorted(map(tuple, starts))


def test_everything_but_the_places_is_drawn_without_the_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the directions in another order, the first frames stay the same, bit for bit, and the others do not."""
    plain = compose(glyphs()[0][:50], 16, Motion(), seed=3)
    turned = dict(zip(DIRECTIONS, [*DIRECTIONS.values()][1:] + [*DIRECTIONS.values()][:1], strict=True))
    monkeypatch.setattr("evaluators.data.clips.moving.DIRECTIONS", turned)
    other = compose(glyphs()[0][:50], 16, Motion(), seed=3)
    assert torch.equal(plain.videos_NCLHW[:, :, 0], other.videos_NCLHW[:, :, 0])
    assert not torch.equal(plain.videos_NCLHW[:, :, 1], other.videos_NCLHW[:, :, 1])
    assert torch.equal(plain.labels_N, other.labels_N)


def test_moving_digits_are_a_task() -> None:
    task = VideoConfig().build(
        {"name": "moving_digits", "train_size": 32, "val_size": 16, "test_size": 16, "frames": 4}, seed=0
    )
    assert task.network.shape == (1, 4, 20, 20)
    assert (task.count("train"), task.count("val"), task.count("test")) == (32, 16, 16)
    assert task.describe()["image_size"] == [4, 20, 20]
    x_BCTHW, target = next(iter(task.batches("val", batch_size=16, device=CPU)))
    assert x_BCTHW.shape == (16, 1, 4, 20, 20)
    assert target["labels"].tolist() == [*range(8)] * 2
    assert abs(float(x_BCTHW.mean())) < 0.5
    assert "clips: 4x20x20 (TxHxW), 1 channel" in task.summary.lines()
    again = VideoConfig().build(
        {"name": "moving_digits", "train_size": 32, "val_size": 16, "test_size": 16, "frames": 4}, seed=0
    )
    assert again.identity == task.identity
    with pytest.raises(UsageError, match=r"speeds \[1, 10\].*less than half of 20"):
        load_clips("moving_digits", speeds=[1, 10])


# --- arrays and clips of them -----------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Frame l of a video is as bright as 10 l + its row."""
    videos = np.zeros((12, 9, 5, 4, 3), np.uint8) + (10 * np.arange(9, dtype=np.uint8))[:, None, None, None]
    videos += np.arange(12, dtype=np.uint8)[:, None, None, None, None]
    np.savez(
        tmp_path / "videos.npz",
        x_train=videos,
        y_train=np.arange(12) % 3,
        x_test=videos[:6],
        y_test=np.arange(6) % 3,
        class_names=["a", "b", "c"],
    )
    return tmp_path / "videos.npz"


def raw(data, x_BCTHW: torch.Tensor) -> np.ndarray:
    """The brightness of each frame of each clip, (B, T)."""
    std, mean = (torch.tensor(values)[:, None, None, None] for values in (data.std, data.mean))
    return ((x_BCTHW * std + mean) * 255).round().int()[:, 0, :, 0, 0].numpy()


def test_clips_are_random_while_training_and_evenly_spaced_in_the_test(archive: Path) -> None:
    data = load_clips(f"npz:{archive}", frames=3, stride=2, clips=3, val_size=3)
    assert (data.class_names, data.in_chans, data.size, len(data.train), len(data.val)) == (
        ("a", "b", "c"),
        3,
        (5, 4),
        9,
        3,
    )
    test = ClipBatches(data.test, data, 4, CPU, clips=3)
    seen = [(raw(data, x), target) for x, target in test]
    assert len(test) == len(seen) == 5  # of 6 videos, 3 clips each
    brightness_BT = np.concatenate([found for found, _ in seen])
    videos_B = torch.cat([target["videos"] for _, target in seen]).numpy()
    assert videos_B.tolist() == [video for video in range(6) for _ in range(3)]
    starts = (brightness_BT[:, 0] - videos_B) // 10
    assert starts.tolist() == [0, 2, 4] * 6
    assert (np.diff(brightness_BT, axis=1) == 20).all()
    drawn = set()
    for seed in range(8):
        batches = ClipBatches(data.train, data, 4, CPU, generator=torch.Generator().manual_seed(seed))
        assert len(batches) == 2
        for x, labels in batches:
            assert (np.diff(raw(data, x), axis=1) == 20).all()
            drawn |= set((raw(data, x)[:, 0] // 10).tolist())
            assert labels.shape == (4,)
    assert drawn == {0, 1, 2, 3, 4, 5}  # 4, and a row's own brightness of up to 11


def test_all_frames_of_a_clip_change_alike(archive: Path) -> None:
    data = load_clips(f"npz:{archive}", frames=4)
    augment = Augment(flip=True, crop=2, mixup=0.5)
    batches = ClipBatches(data.train, data, 8, CPU, augment=augment, generator=torch.Generator().manual_seed(0))
    x_BCTHW, shares_BK = next(iter(batches))
    assert shares_BK.shape == (8, 3)
    border_BTHW = (x_BCTHW == 0).all(1)
    assert border_BTHW.any()
    assert (border_BTHW == border_BTHW[:, :1]).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frames": 6, "stride": 2}, ["has 9 frames", "takes 11", "data.frames", "data.skip_short"]),
        ({"frame": 3}, ["option of data", "'frame'", "frames"]),
        ({"frames": 0}, ["frames", "greater than or equal to 1"]),
    ],
)
def test_refuses_in_one_line(archive: Path, options: dict, words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        load_clips(f"npz:{archive}", **options)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_places_of_clips() -> None:
    clip = Clip(4, 3)
    assert clip.span == 10
    assert clip.places(2).tolist() == [2, 5, 8, 11]
    assert clip.starts(20, 1).tolist() == [5]
    assert clip.starts(20, 3).tolist() == [0, 5, 10]
    assert clip.starts(10, 3).tolist() == [0, 0, 0]


# --- files ------------------------------------------------------------------------------------------------------------


def test_folders_of_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for split, label, name in itertools.product(("train", "test"), ("a", "b"), ("one", "two", "three")):
        write_frames(tmp_path / split / label / name, 12)
    (tmp_path / "train" / "a" / "notes.txt").write_text("no video")
    data = load_clips(f"folder:{tmp_path}", frames=3, stride=5, clips=2, image_size=4, val_size=2)
    assert (len(data.train), len(data.val), len(data.test)) == (4, 2, 6)
    assert data.summary.skipped == {"files that are no videos": 1}
    video = data.train.videos[0]
    assert isinstance(video, FrameFolder)
    assert video.read([0, 2, 10], (4, 4))[:, 0, 0, 0].tolist() == [0, 10, 50]
    task = VideoClassification(data)
    x, target = next(iter(task.batches("test", batch_size=64, device=CPU, workers=0)))
    assert x.shape == (12, 3, 3, 4, 4)
    assert target["videos"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    generator = torch.Generator().manual_seed(0)
    x, labels = next(iter(task.batches("train", batch_size=4, device=CPU, generator=generator, workers=0)))
    assert x.shape == (4, 3, 3, 4, 4)
    assert sorted(labels.tolist()) == [0, 0, 1, 1]


def test_video_files_give_the_frames_that_decoding_in_order_gives(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    for label in ("a", "b"):
        for number in range(3):
            write_video(tmp_path / label / f"{number}.mp4", 23, colour=60 * number)
    path = tmp_path / "a" / "1.mp4"
    with av.open(str(path)) as container:
        wanted = [np.asarray(frame.to_image()) for frame in container.decode(video=0)]
    video = VideoFile.open(path)
    assert video.length == len(wanted) == 23
    for places in ([0, 1, 2], [7, 12, 22], [13], [22]):
        assert np.array_equal(video.read(places, (32, 32)), np.stack([wanted[place] for place in places]))
    data = load_clips(f"folder:{tmp_path}", frames=4, image_size=16, val_size=2)
    assert data.in_chans == 3
    assert (len(data.train), len(data.val)) == (4, 2)
    with pytest.raises(UsageError, match="no test split"):
        _ = data.test


def test_broken_and_short_videos_are_refused_or_counted(tmp_path: Path) -> None:
    pytest.importorskip("av")
    for label in ("a", "b"):
        for number in range(3):
            write_frames(tmp_path / label / str(number), 9)
    (tmp_path / "a" / "broken.mp4").write_bytes(b"no video at all" * 50)
    options = {"frames": 8, "stride": 1, "image_size": 4, "val_size": 2}
    with pytest.raises(UsageError, match=r"corrupt video .*broken\.mp4.*skip_corrupt"):
        load_clips(f"folder:{tmp_path}", **options)
    write_frames(tmp_path / "b" / "short", 5)
    with pytest.raises(UsageError, match=r"short has 5 frames, and a clip of 8 with stride 1 takes 8; set data.frames"):
        load_clips(f"folder:{tmp_path}", **options, skip_corrupt=True)
    data = load_clips(f"folder:{tmp_path}", **options, skip_corrupt=True, skip_short=True)
    assert len(data.train) + len(data.val) == 6
    assert data.summary.skipped == {"corrupt videos": 1, "videos shorter than a clip": 1}
    with pytest.raises(UsageError, match="needs image_size"):
        load_clips(f"folder:{tmp_path}", frames=8)


def test_images_in_class_folders_are_no_videos(tmp_path: Path) -> None:
    write_frames(tmp_path / "a", 3)
    write_frames(tmp_path / "b", 3)
    with pytest.raises(UsageError, match=r"images lie in .*a itself, so that nothing tells which are of one video"):
        load_clips(f"folder:{tmp_path}", image_size=4)


def test_ucf_lists_cut_validation_by_groups(tmp_path: Path) -> None:
    (tmp_path / "ucfTrainTestlist").mkdir()
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for label, group, number in itertools.product(("Archery", "Biking"), range(1, 7), (1, 2)):
        name = f"v_{label}_g{group:02d}_c{number:02d}"
        write_frames(tmp_path / "UCF-101" / label / name, 3)
        split = "test" if group == 1 else "train"
        lines[split].append(f"{label}/{name}.avi" + (f" {1 + (label == 'Biking')}" if split == "train" else ""))
    lines["train"].append("Biking/v_Biking_g09_c01.avi 2")
    for split, names in lines.items():
        (tmp_path / "ucfTrainTestlist" / f"{split}list01.txt").write_text("\n".join(names) + "\n")
    data = load_clips(f"folder:{tmp_path}", frames=2, stride=1, image_size=4, val_size=4)
    groups = [{video.where[-7:-4] for video in split.videos} for split in (data.train, data.val)]
    assert not groups[0] & groups[1]
    assert (len(data.train), len(data.val), len(data.test)) == (16, 4, 4)
    assert data.flip
    assert data.summary.skipped == {"videos of the lists that are not there": 1}
    with pytest.raises(UsageError, match=r"data.fold 2: .* has the folds 1"):
        load_clips(f"ucf101:{tmp_path}", fold=2, image_size=4)


def test_kinetics_lists_and_lists_of_paths(tmp_path: Path) -> None:
    rows = {"train": range(6), "val": range(6, 8)}
    for split, numbers in rows.items():
        text = "label,youtube_id,time_start,time_end,split\n"
        for number in numbers:
            text += f"class {number % 2},id{number},{number},{number + 10},{split}\n"
            write_frames(tmp_path / split / f"class {number % 2}" / f"id{number}_{number:06d}_{number + 10:06d}", 4)
        (tmp_path / f"{split}.csv").write_text(text)
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\nx,1,11,test\n")
    data = load_clips(f"folder:{tmp_path}", frames=2, stride=1, image_size=4)
    assert data.class_names == ("class 0", "class 1")
    assert (len(data.train), len(data.val), len(data.test)) == (4, 2, 2)
    assert any("val.csv is the test set" in text for text in data.summary.assumed)
    (tmp_path / "train.csv").write_text("".join(f"id{n}_{n:06d}_{n + 10:06d}.mp4 {n % 2}\n" for n in range(6)))
    (tmp_path / "val.csv").unlink()
    (tmp_path / "test.csv").unlink()
    assert load_clips(f"kinetics:{tmp_path}", frames=2, stride=1, image_size=4).class_names == ("0", "1")


def test_the_logits_of_a_video_are_the_mean_of_its_clips() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 4, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 1])
    scorer, whole = VideoAccuracy(), logits.mean(1)
    flat, videos = logits.flatten(0, 1), torch.arange(5).repeat_interleave(3)
    for rows in (slice(0, 7), slice(7, 15)):  # the clips of one video in two batches
        scorer.update(flat[rows], {"labels": labels[videos[rows]], "videos": videos[rows]})
    found = scorer.compute()
    assert found["accuracy"] == pytest.approx(float((whole.argmax(1) == labels).float().mean()))
    assert found["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(whole, labels)), rel=1e-5)
