"""The types of all answers, for the OpenAPI document and for validation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Box = Annotated[
    list[float], Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels of the upright picture")
]
Probabilities = Annotated[dict[str, float], Field(description="expression → its probability; they sum to one")]
Color = Annotated[str, Field(pattern="^#[0-9a-f]{6}$")]
Seconds = Annotated[float, Field(ge=0)]
DataUrl = Annotated[str, Field(description="a picture as a data: address")]


class Error(BaseModel):
    """The reason of a failure; docs/serving.md lists the codes."""

    name: str = Field(description="what it is about")
    problem: str = Field(description="what was found")
    hint: str = Field(description="what to do")
    code: str = Field("error", pattern="^[a-z0-9_]+$", description="which error it is, for programs")
    parameters: dict[str, Any] = Field({}, description="numbers and texts that are in the words")


class Failure(BaseModel):
    """The body of every error answer."""

    error: Error


class FaceResult(BaseModel):
    """One face and its expression."""

    face: int = Field(description="its number in the picture, from 0")
    box: Box
    score: float | None = Field(description="the detector's confidence; none without a detector")
    label: str
    confidence: float = Field(ge=0, le=1, description="the probability of the label")
    probabilities: Probabilities
    unsure: bool | None = Field(description="whether the confidence is too low to rely on")
    unsure_below: float | None = Field(description="the model's threshold for that")
    not_a_face: float | None = Field(description="the model's score that the detector was wrong")
    is_not_a_face: bool = Field(description="whether that score is above the model's threshold")
    crop: DataUrl | None = None


class PictureResult(BaseModel):
    """The faces of one picture."""

    source: str
    model: str
    detector: str
    width: int
    height: int
    faces: list[FaceResult]
    records: list[dict[str, Any]] = Field(description="the rows that mien analyze writes, columns by name")
    picture: DataUrl | None = None
    seconds: Seconds


class JobState(BaseModel):
    """One video and its state. Times are seconds since 1970."""

    id: str
    name: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    position: int | None = Field(description="place in line from 1, of a queued job")
    progress: float | None = Field(ge=0, le=1)
    seconds_left: float | None
    text: str
    error: Error | None
    attempts: int
    created: float
    started: float | None
    ended: float | None
    expires: float | None = Field(description="when it is removed with its results")
    options: dict[str, Any] = Field(description="of the analysis, with all defaults")
    results: list[str] = Field(description="names for /v1/jobs/{id}/results/{name}")


class JobAdded(BaseModel):
    """The job of an accepted video."""

    job: JobState


#: Track, x1, y1, x2, y2, index of the label, probabilities in the order of labels, not_a_face.
FrameFace = tuple[int | None, float, float, float, float, int, list[float], float | None]


class Frames(BaseModel):
    """What a player draws over a video."""

    width: int
    height: int
    seconds: float
    start_s: float = Field(description="first timestamp of the file; some browsers count from it")
    labels: list[str]
    unsure_below: float | None
    not_a_face_above: float | None
    people: list[dict[str, Any]] = Field(description="as in summary.json")
    not_faces: list[dict[str, Any]] = Field(description="tracks that are probably no faces, as people")
    times: list[Seconds] = Field(description="from the beginning of the file")
    faces: list[list[FrameFace]] = Field(description="of each time: who is seen from then on")
    timeline: dict[str, Any] = Field(description="expressions of the people over time, as the chart draws them")


class ModelFacts(BaseModel):
    """A model that can be requested, or a pulled detector."""

    name: str
    labels: list[str]
    parameters: int | None
    bytes: int
    precision: str | None = Field(description="how most weights are stored; unknown where onnx is not installed")
    scores: dict[str, Any]
    license: str
    card: str | None = Field(description="Markdown")
    kind: Literal["shipped", "local", "pulled"]


class ReportLink(BaseModel):
    """A report that mien wrote."""

    name: str
    href: str = Field(description="begins at the service's own address")


class ServiceFacts(BaseModel):
    """The features of this service, and its limits."""

    version: str
    models: list[str]
    default_model: str
    detectors: list[str]
    default_detector: str
    labels: list[str] = Field(description="of the default model")
    saliency: bool
    saliency_methods: list[str]
    limits: dict[str, float]
    retention_s: Seconds
    needs_token: bool
    colors: dict[str, Color] = Field(description="expression → its color, in the page and in what is annotated")


class Health(BaseModel):
    """The service answers."""

    status: Literal["ok"]
    version: str


class SignedIn(BaseModel):
    """The token is right."""

    ok: Literal[True]
