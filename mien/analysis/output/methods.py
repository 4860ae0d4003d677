"""A paragraph for the methods section of a paper: how records were made, from the records, their summary and the model's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mien import __version__
from mien.analysis.inference.model_file import ModelInfo
from mien.analysis.people.identities import is_regrouped
from mien.analysis.people.people import NOT_A_FACE
from mien.analysis.people.records import Records
from mien.analysis.tracking.smoothing import LABEL_MARGIN
from mien.data.splits import OFFICIAL_SIZES

#: Key → reference, in the style of the APA.
REFERENCES = {
    "mien": "The mien authors. mien (version {version}) [Computer software].",
    "fer2013": "Goodfellow, I. J., Erhan, D., Carrier, P. L., Courville, A., et al. (2013). Challenges in representation learning: a "
    "report on three machine learning contests. International Conference on Neural Information Processing (ICONIP).",
    "ferplus": "Barsoum, E., Zhang, C., Canton Ferrer, C., & Zhang, Z. (2016). Training deep networks for facial expression recognition "
    "with crowd-sourced label distribution. ACM International Conference on Multimodal Interaction (ICMI).",
    "yunet": "Wu, W., Peng, H., & Yu, S. (2023). YuNet: a tiny millisecond-level face detector. Machine Intelligence Research, 20.",
    "haar": "Viola, P., & Jones, M. (2001). Rapid object detection using a boosted cascade of simple features. IEEE Conference on "
    "Computer Vision and Pattern Recognition (CVPR).",
}  # fmt: skip


@dataclass
class Methods:
    """What is said, sentence after sentence.

    sentences   the paragraph; ``[1]`` stands for the first reference
    references  in the order in which they are cited
    missing     what a methods section should say, and the files do not
    """

    sentences: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The paragraph."""
        return " ".join(self.sentences)

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "references": self.references, "missing": self.missing}

    def cite(self, key: str, **values: str) -> str:
        """Return the number of a reference as ``[2]``."""
        reference = REFERENCES[key].format(**values)
        if reference not in self.references:
            self.references.append(reference)
        return f"[{self.references.index(reference) + 1}]"

    def add(self, sentences: Iterator[str]) -> None:
        """Append sentences."""
        self.sentences += sentences


def describe_methods(
    records: Records, summary: Mapping[str, Any] | None = None, info: ModelInfo | None = None
) -> Methods:
    """Return the paragraph for the records of a video or of pictures.

    summary: what `mien.analysis.people.summary.read_summary` read; {} where there is none. info: the metadata of the model that made the records; None where its
    file is not at hand. What none of them says is not said; ``missing`` lists it.
    """
    summary = summary or {}
    methods = Methods()
    settings = summary.get("settings") or {}
    methods.add(_describe_model(methods, records, summary, settings, info))
    methods.add(_describe_detector(methods, records, settings))
    if (records.track >= 0).all():
        methods.add(_describe_video(methods, records, summary, settings))
    methods.add(_describe_uncertainty(methods, records, settings))
    methods.sentences.append("The labels say which expression a face shows, not what a person feels.")
    return methods


def _describe_model(
    methods: Methods, records: Records, summary: Mapping[str, Any], settings: Mapping[str, Any], info: ModelInfo | None
) -> Iterator[str]:
    """The program, the model, and its scores."""
    version = settings.get("version")
    if version is None:
        methods.missing.append("the version of mien")
    name = f"mien {version}" if version else "mien"
    precision = {"int8": " in int8 precision", "float": " in float precision"}.get(summary.get("precision", ""), "")
    labels = (
        f"{', '.join(records.labels[:-1])} and {records.labels[-1]}" if len(records.labels) > 1 else records.labels[0]
    )
    cited = methods.cite("mien", version=version or "unknown")
    yield (
        f"Facial expressions in {Path(records.source).name} were classified with {name} {cited}, by its model {records.model}{precision}, "
        f"which distinguishes {labels}."
    )  # fmt: skip
    if info is None:
        methods.missing.append(f"scores of the model {records.model}, whose file was not found")
        return
    size, channels = info.preprocessing.size, "color" if info.preprocessing.color else "gray"
    yield (
        f"It is a convolutional network of the kind '{info.network['name']}' for {channels} crops of {size} × {size} pixels; its logits are "
        f"divided by the temperature {info.temperature:.3f}."
    )  # fmt: skip
    if info.training.get("splits") and info.training.get("faces"):
        yield f"It was trained on {info.training['faces']:,} faces of {', '.join(info.training['splits'])}."
    else:
        methods.missing.append("the faces that trained the model")
    yield from _describe_scores(methods, info)


def _describe_scores(methods: Methods, info: ModelInfo) -> Iterator[str]:
    scores = info.scores
    if "accuracy" not in scores or "count" not in scores:
        methods.missing.append("scores of the model")
        return
    interval = scores.get("accuracy_interval")
    limits = f" (95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""
    data = str(scores.get("data", "its test faces"))
    is_fer2013 = data in OFFICIAL_SIZES and scores["count"] <= OFFICIAL_SIZES[data]
    of_data = f"{data} of FER2013 {methods.cite('fer2013')}" if is_fer2013 else data
    if scores.get("labels_by") == "annotators":
        of_data += f" with the majority labels of FER+ {methods.cite('ferplus')}"
    f1 = f" and a macro-F1 of {scores['macro_f1']:.3f}" if "macro_f1" in scores else ""
    yield f"On {scores['count']:,} faces of {of_data} it reaches an accuracy of {100 * scores['accuracy']:.1f} %{limits}{f1}."


def _describe_detector(methods: Methods, records: Records, settings: Mapping[str, Any]) -> Iterator[str]:
    known = {
        "yunet": ("Faces were detected with YuNet {}", "yunet"),
        "haar": ("Faces were detected with the Haar cascade of OpenCV {}", "haar"),
    }
    if records.detector in known:
        words, key = known[records.detector]
        sentence = words.format(methods.cite(key))
    elif records.detector == "none":
        sentence = "No face detector was used: each picture is a face"
    else:
        sentence = f"Faces were detected with {records.detector}"
    if threshold := settings.get("detector_threshold"):
        sentence += f", and those with a detection score below {threshold:g} were left out"
    if count := settings.get("largest_faces"):
        which = "face of each frame was" if count == 1 else f"{count} faces of each frame were"
        sentence += f"; the largest {which} kept"
    yield f"{sentence}."


def _describe_video(
    methods: Methods, records: Records, summary: Mapping[str, Any], settings: Mapping[str, Any]
) -> Iterator[str]:
    """Frames, tracks, smoothing, and the people that came of them."""
    if "frames" in summary and "part" in summary:
        part = summary["part"] or {}
        every_s, from_s, to_s = part.get("every_s"), part.get("from_s"), part.get("to_s")
        which = f"one frame every {every_s:g} s" if every_s else "every frame"
        where = f" from {from_s or 0:g} s to {'its end' if to_s is None else f'{to_s:g} s'}" if from_s or to_s else ""
        size = f" of {summary['width']} × {summary['height']} pixels" if "width" in summary else ""
        yield (
            f"Of the video{where}, {which} was analyzed: {summary['frames']:,} frames{size} that last {summary['seconds']:.1f} s, with "
            f"{len(records):,} faces."
        )  # fmt: skip
    else:
        methods.missing.append("which frames were analyzed: there is no summary beside the records")
        yield f"{len(set(records.frame.tolist())):,} frames have a face; there are {len(records):,} faces in all."
    smoothing_s = settings.get("smoothing_s")
    sentence = "Faces were linked over time into tracks, one for each person"
    if smoothing_s:
        sentence += f", and the probabilities were averaged along each track with an exponential time constant of {smoothing_s:g} s"
        if settings.get("version") == __version__:
            sentence += (
                f"; the label of a person changes when another label's averaged probability leads by {100 * LABEL_MARGIN:g} percentage "
                "points"
            )  # fmt: skip
    elif smoothing_s is not None:
        sentence += ", without smoothing of their probabilities"
    else:
        methods.missing.append("the time constant of smoothing")
    yield f"{sentence}."
    if is_regrouped(records):
        yield "The assignment of tracks to people was corrected by hand."
    people = records.people()
    seen, nothing = people.people, people.not_faces
    on_screen = sum(person.seen_s for person in seen)
    left_out = (
        f"; {len(nothing)} more, whose mean not-a-face score exceeds {NOT_A_FACE:g}, were left out" if nothing else ""
    )
    count = "There is one person" if len(seen) == 1 else f"There are {len(seen)} people"
    yield f"{count}, {on_screen:.1f} s on screen{' together' if len(seen) > 1 else ''}{left_out}."


def _describe_uncertainty(methods: Methods, records: Records, settings: Mapping[str, Any]) -> Iterator[str]:
    threshold = settings.get("unsure_below")
    known = records.unsure[np.isfinite(records.unsure)]
    if len(known):
        below = f" below {threshold:.3f}" if threshold is not None else " below the threshold of the analysis"
        yield f"Labels with a probability{below} count as unsure: {100 * known.mean():.1f} % of all faces."
        if threshold is None:
            methods.missing.append("the threshold below which a label is unsure")
    if drop := settings.get("drop_above"):
        yield f"Faces with a not-a-face score above {drop:.3f} were left out."
    if settings.get("tta") not in (None, "none"):
        yield f"Probabilities are means over changed copies of each face ({settings['tta']})."
