"use strict";

// The page sends videos and wishes; the server checks them and does the work. A reload finds both again by their ids.
const $ = (id) => document.getElementById(id);
const ROLES = ["subject", "driving"];
const POSE = ["yaw", "pitch", "roll", "x", "y", "z"];
const POLL_MS = 250;
const RETRY_MS = 2000;
const MOST_DRIFT = 0.06; // seconds: one or two frames
const DRAG = 0.4; // degrees a pixel
const KEPT = "head3d";

const videos = {}; // role -> what the server said of its video
const uploads = {}; // role -> the request that is under way
let settings = null;
let job = null; // id of the job that is watched
let last = null; // id of the job whose result is shown
let head = null; // id of the head that the sliders turn
let made = null; // the choices that it was made with, where this page made it
let asked = null; // the choices of the job that is watched
let begun = false; // whether what an earlier page has kept is taken over

function say(element, text) {
  element.textContent = text || "";
  element.hidden = !text;
}

function fault(text) {
  say($("error"), text);
  if (text) $("error").scrollIntoView({ block: "nearest" });
}

// What the server gives, or an error with its one line.
async function call(path, body) {
  const options = { cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is `head3d app` still running?");
  }
  if (!response.ok) {
    const error = new Error(await response.text());
    error.status = response.status;
    throw error;
  }
  return response;
}

function keep() {
  if (!begun) return;
  const ids = { job, head, last };
  for (const role of ROLES) ids[role] = videos[role] && videos[role].id;
  sessionStorage.setItem(KEPT, JSON.stringify(ids));
}

// ---- videos

function allow() {
  const sending = ROLES.some((role) => uploads[role]);
  $("animate").disabled = !videos.subject || !videos.driving || sending || job !== null;
  $("show").disabled = $("film").disabled = !videos.subject || sending || job !== null;
  const missing = ROLES.filter((role) => !videos[role]);
  say($("needs"), missing.length && !sending ? `Give a ${missing.join(" and a ")} video.` : "");
}

function place(role, known) {
  videos[role] = known;
  const box = $(role);
  const video = box.querySelector("video");
  video.hidden = !known;
  box.classList.toggle("full", Boolean(known));
  if (known) {
    video.poster = `videos/${known.id}/thumbnail`;
    video.src = `videos/${known.id}/file`;
    box.querySelector(".told").textContent = `${known.name}: ${known.width}×${known.height}, ${known.seconds.toFixed(1)} s`;
    box.querySelector(".button span").textContent = "Choose another";
  } else {
    video.removeAttribute("src");
    box.querySelector(".button span").textContent = "Choose a video";
  }
  keep();
  allow();
}

function send(role, file) {
  const box = $(role);
  const told = box.querySelector(".told");
  const line = box.querySelector(".line");
  say(line, "");
  fault("");
  if (uploads[role]) {
    uploads[role].abort();
    delete uploads[role];
    told.textContent = "Drop a video here, or";
  }
  if (settings && file.size > settings.most_bytes) {
    say(line, `${file.name}: larger than ${settings.most_bytes / 1e6} MB; cut it, or start \`head3d app\` with a larger --most-mb`);
    allow();
    return;
  }
  place(role, null);
  if (role === "subject") forgetHead(); // it is not of this person
  const request = new XMLHttpRequest(); // fetch does not tell how far an upload is
  uploads[role] = request;
  const end = (text) => {
    if (uploads[role] !== request) return; // another file took its place
    delete uploads[role];
    if (text) {
      told.textContent = "Drop a video here, or";
      say(line, text);
    }
    allow();
  };
  request.upload.onprogress = (event) => {
    told.textContent = `${file.name}: ${Math.floor((100 * event.loaded) / event.total)} %`;
  };
  request.onload = () => {
    if (request.status === 200) {
      end();
      place(role, JSON.parse(request.responseText));
    } else {
      end(request.responseText || `The server refused it (${request.status}).`);
    }
  };
  request.onerror = () => end(`${file.name}: could not be sent. Is \`head3d app\` still running?`);
  request.open("POST", `videos?name=${encodeURIComponent(file.name)}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.send(file);
  allow();
}

for (const role of ROLES) {
  const box = $(role);
  const input = box.querySelector("input");
  input.addEventListener("change", () => {
    if (input.files.length) send(role, input.files[0]);
    input.value = ""; // so that the same file may be chosen again
  });
  const video = box.querySelector("video");
  const toggle = () => (video.paused ? video.play().catch(() => {}) : video.pause());
  video.addEventListener("click", toggle);
  video.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    toggle();
  });
  box.addEventListener("dragover", () => box.classList.add("over"));
  box.addEventListener("dragleave", (event) => {
    if (!box.contains(event.relatedTarget)) box.classList.remove("over");
  });
  box.addEventListener("drop", (event) => {
    box.classList.remove("over");
    if (event.dataTransfer.files.length) send(role, event.dataTransfer.files[0]);
  });
}
// A file that is dropped beside the boxes must not replace the page.
for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());

// ---- jobs

function number(id) {
  return $(id).value === "" ? null : Number($(id).value);
}

function choices() {
  return { subject: videos.subject.id, references: number("references"), choose: $("choose").value, face: number("face") };
}

async function start(wish) {
  const { subject, references, choose, face } = wish;
  asked = { subject, references, choose, face };
  fault("");
  job = "";
  allow();
  try {
    const known = await (await call("jobs", wish)).json();
    job = known.id;
    keep();
    show(known);
    await follow();
  } catch (error) {
    lose(error);
  }
}

function lose(error) {
  job = null;
  $("job").hidden = true;
  fault(error.message);
  keep();
  allow();
}

// A connection may fail for a moment, in a job of half an hour: only a server that does not know the job ends this.
async function follow() {
  const mine = job;
  let lost = false;
  for (;;) {
    let known = null;
    try {
      known = await (await call(`jobs/${mine}`)).json();
    } catch (error) {
      if (error.status) throw error;
      fault(`${error.message} Trying again.`);
    }
    if (job !== mine) return;
    if (known) {
      if (lost) fault("");
      show(known);
      if (["done", "failed", "cancelled"].includes(known.state)) return;
    }
    lost = !known;
    await new Promise((wake) => setTimeout(wake, lost ? RETRY_MS : POLL_MS));
  }
}

function show(known) {
  const running = known.state === "running" || known.state === "waiting";
  const begins = running && $("job").hidden;
  $("job").hidden = !running;
  if (running) {
    const bar = $("bar");
    if (known.total) {
      bar.max = known.total;
      bar.value = Math.min(known.done, known.total);
    } else {
      bar.removeAttribute("value");
    }
    const count = known.total ? `: ${known.done} of ${known.total} frames` : "";
    $("step").textContent = known.state === "waiting" ? `waiting, ${known.ahead} before it` : known.step + count;
    if (begins) $("job").scrollIntoView({ block: "nearest" });
  }
  if (known.head && known.head !== head) {
    head = known.head;
    made = asked;
    $("turn").hidden = false;
    draw();
  }
  if (running) return;
  if (known.state === "failed") fault(known.error);
  if (known.state === "cancelled") fault("Cancelled.");
  if (known.result) {
    present(known);
    $("made").scrollIntoView({ block: "nearest" });
  }
  job = null;
  keep();
  allow();
}

function present(known) {
  last = known.id;
  const result = $("result").querySelector("video");
  const driver = $("driver").querySelector("video");
  $("driver").hidden = !known.beside;
  $("beside").classList.toggle("alone", !known.beside);
  if (known.beside) {
    driver.poster = `videos/${known.beside}/thumbnail`;
    driver.src = `videos/${known.beside}/file`;
  } else {
    driver.removeAttribute("src");
  }
  result.src = `jobs/${known.id}/result`;
  result.muted = true; // browsers let only silent videos start by themselves
  say($("note"), known.note);
  $("save").href = `jobs/${known.id}/result?save`;
  $("save").download = known.name;
  $("made").hidden = false;
  result.play().catch(() => {});
}

function wishFor(kind) {
  // A film shows the head that stands above its button, whatever has been chosen since.
  const wish = { kind, ...((kind === "view" && made) || choices()) };
  if (kind === "animate") {
    Object.assign(wish, { driving: videos.driving.id, motion: $("motion").value, driving_face: number("driving_face") });
    Object.assign(wish, { paste: $("paste").checked, compare: $("compare").checked });
  }
  if (kind === "view") {
    const sweep = { yaw: $("sweep_yaw").value, pitch: $("sweep_pitch").value, roll: $("sweep_roll").value };
    Object.assign(wish, sweep, { frames: number("frames") ?? 60 });
  }
  return wish;
}

$("options").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("animate").disabled) start(wishFor("animate"));
});
$("show").addEventListener("click", () => {
  if ($("options").reportValidity()) start(wishFor("head"));
});
$("sweep").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("film").disabled) start(wishFor("view"));
});
$("cancel").addEventListener("click", () => {
  if (job) call(`jobs/${job}/cancel`, {}).catch((error) => fault(error.message));
});

// ---- the result beside its driver, in step

{
  const result = $("result").querySelector("video");
  const driver = $("driver").querySelector("video");
  const step = () => {
    if (driver.readyState < 2 || driver.seeking) return;
    if (Math.abs(driver.currentTime - result.currentTime) > MOST_DRIFT) driver.currentTime = result.currentTime;
  };
  result.addEventListener("play", () => driver.play().catch(() => {}));
  result.addEventListener("pause", () => driver.pause());
  result.addEventListener("seeked", step);
  result.addEventListener("timeupdate", step);
  result.addEventListener("ratechange", () => (driver.playbackRate = result.playbackRate));
  result.addEventListener("ended", () => {
    result.currentTime = 0;
    result.play().catch(() => {});
  });
}

// ---- the head

let wanted = false; // whether the pose has changed since the last picture was asked for
let drawing = false;

function pose() {
  const values = new URLSearchParams(POSE.map((name) => [name, $(name).value]));
  values.set("whole", $("whole").checked);
  return values;
}

function tell() {
  for (const name of POSE) {
    const value = Number($(name).value);
    const text = ["x", "y", "z"].includes(name) ? `${(100 * value).toFixed(1)} cm` : `${value}°`;
    document.querySelector(`output[for=${name}]`).textContent = text;
  }
  $("picture").href = `heads/${head}?${pose()}`;
}

function forgetHead() {
  head = made = null;
  $("turn").hidden = true;
  keep();
}

// One picture at a time: whatever the sliders did meanwhile, only their latest place is drawn next.
async function draw() {
  tell();
  wanted = true;
  if (drawing || !head) return;
  drawing = true;
  while (wanted) {
    wanted = false;
    try {
      const picture = await createImageBitmap(await (await call(`heads/${head}?${pose()}`)).blob());
      const canvas = $("head");
      canvas.width = picture.width;
      canvas.height = picture.height;
      canvas.getContext("2d").drawImage(picture, 0, 0);
      picture.close();
      canvas.dataset.pose = pose();
    } catch (error) {
      wanted = false;
      if (error.status === 404) forgetHead();
      fault(error.message);
    }
  }
  drawing = false;
}

for (const name of [...POSE, "whole"]) $(name).addEventListener("input", draw);
$("reset").addEventListener("click", () => {
  for (const name of POSE) $(name).value = 0;
  draw();
});
$("picture").download = "head.png";

// Dragging the picture turns the head.
const rest = { yaw: 0, pitch: 0 }; // degrees that the sliders, which go by whole ones, have not turned yet

function turn(name, pixels) {
  const degrees = rest[name] + pixels * DRAG;
  rest[name] = degrees - Math.trunc(degrees);
  $(name).value = Number($(name).value) + Math.trunc(degrees);
}

$("head").addEventListener("pointerdown", (event) => {
  $("head").setPointerCapture(event.pointerId);
  rest.yaw = rest.pitch = 0;
});
$("head").addEventListener("pointermove", (event) => {
  if (!event.buttons) return;
  turn("yaw", event.movementX);
  turn("pitch", -event.movementY);
  draw();
});

// ---- start

async function begin() {
  try {
    settings = await (await call("settings")).json();
  } catch (error) {
    fault(error.message);
    return;
  }
  for (const [name, limit] of Object.entries(settings.limits)) {
    $(name).min = -limit;
    $(name).max = limit;
    $(name).value = 0;
  }
  $("motion").value = settings.motion;
  $("references").placeholder = settings.references;
  let kept = {};
  try {
    kept = JSON.parse(sessionStorage.getItem(KEPT)) || {};
  } catch {
    // nothing of use was kept
  }
  job = kept.job || null; // nothing else may be started meanwhile
  for (const role of ROLES) {
    if (!kept[role] || uploads[role] || videos[role]) continue;
    const known = await call(`videos/${kept[role]}`).catch(() => null); // the server may be a new one
    if (known) place(role, await known.json());
  }
  if (kept.head) {
    const found = await call(`heads/${kept.head}`).catch(() => null);
    if (found) {
      head = kept.head;
      $("turn").hidden = false;
      draw();
    }
  }
  if (kept.last) {
    const found = await call(`jobs/${kept.last}`).catch(() => null);
    if (found) present(await found.json());
  }
  begun = true;
  keep();
  allow();
  if (job) {
    await follow().catch((error) => (lose(error.status === 404 ? new Error("") : error)));
  }
}

begin();
