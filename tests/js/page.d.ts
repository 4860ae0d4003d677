// What the service answers, as the page uses it (mien/service/answers.py has the types of the service).

interface ServiceErrorParts {
  name?: string;
  problem?: string;
  hint?: string;
  code?: string;
  parameters?: Record<string, any>;
  message?: string;
}

/** What is needed to name a face and to choose its color. */
interface NamedFace {
  label: string;
  unsure?: boolean | null;
  noFace?: boolean;
}

/** A face as it is drawn over a picture or a video; `box` is x1, y1, x2, y2 in pixels of the source. */
interface DrawnFace extends NamedFace {
  box: number[];
  probability: number;
  number?: number;
  track?: number | null;
}

/** A face that POST /v1/images or the camera answers, with what the page adds. */
interface ResultFace extends DrawnFace {
  confidence: number;
  probabilities: Record<string, number>;
  score?: number | null;
  unsure_below: number | null;
  is_not_a_face: boolean;
  not_a_face: number | null;
  crop?: string;
}

interface PictureResult {
  source: string;
  model: string;
  detector: string;
  width: number;
  height: number;
  faces: ResultFace[];
  records: Record<string, any>[];
  picture?: string;
  seconds: number;
}

interface Job {
  id: string;
  name: string;
  state: "queued" | "running" | "done" | "failed" | "cancelled";
  position: number | null;
  progress: number | null;
  seconds_left: number | null;
  text: string;
  error: ServiceErrorParts | null;
  created: number;
  started: number | null;
  ended: number | null;
  expires: number | null;
  results: string[];
}

interface Person {
  person: number;
  track: number;
  first_s: number;
  on_screen_s: number;
  share: Record<string, number>;
  sure_share: number | null;
  mostly_unsure: boolean;
}

/** A moment at which an expression of a person peaks; `canvas` is added where its still is drawn. */
interface Peak {
  label: string;
  track: number;
  person: number;
  player_time_s: number;
  probability: number;
  unsure: boolean;
  box: number[];
  canvas?: HTMLCanvasElement;
}

/** Track, x1, y1, x2, y2, index of the label, probabilities, not_a_face. */
type FrameFace = [number, number, number, number, number, number, number[], number | null];

/** What GET /v1/jobs/{id}/frames answers. */
interface FramesData {
  width: number;
  height: number;
  seconds: number;
  start_s: number;
  labels: string[];
  unsure_below: number | null;
  not_a_face_above: number | null;
  people: Person[];
  not_faces: Person[];
  times: number[];
  faces: FrameFace[][];
  timeline: import("../../mien/analysis/output/templates/timeline_chart.js").TimelineData;
}

/** What mien/analysis/output/timeline_page.py writes into a timeline page. */
interface PageData {
  timeline: {
    labels: string[];
    start_s: number;
    width_s: number;
    cuts_s: number[];
    persons: { person: number; track: number; runs: [number, number[], number[]][]; seen_s: number; mostly: string }[];
  };
  colors: string[];
  range_s: [number, number];
  media: string | null;
  first: number;
  more: number;
}

declare const DATA: PageData;

/** A video that waits to be sent, is being sent, or could not be sent. */
interface Upload {
  file: File;
  sent: number;
  state: "waiting" | "sending" | "failed";
  error: ServiceErrorParts | null;
  stop?: () => void;
  key?: string;
}

interface NoticeOptions {
  action?: { text: string; run: () => void };
  lasting?: boolean;
  place?: string;
  key?: string;
}

/** What app.js gives to each tab. */
interface Shared {
  goTo: (place: string) => void;
  showNotice: (text: string, options?: NoticeOptions) => () => boolean;
  openFiles: (files: File[]) => void;
  sendVideos: (files: File[]) => void;
}

/** The script of charts, which is loaded with the first timeline. */
interface Window {
  Plotly?: any;
}
