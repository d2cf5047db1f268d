"use strict";

// The page asks the server what is next, shows it, and sends the choice; what counts is decided there, not here.
const $ = (id) => document.getElementById(id);
const SLOTS = ["subject", "driving", "left", "right"];
const IN_STEP = ["driving", "right"]; // these follow the left video
const MOST_DRIFT = 0.06; // seconds: one or two frames
const RETRY_MS = [500, 1000, 2000, 4000];
const PATIENCE_MS = 5000;
const BREATH_MS = 700; // before a question can be answered: the second click of a double click is no answer to it
const SILENCE_MS = 15000; // a connection that gives nothing for so long is given up, and tried anew
const PAUSED = "Paused. All your answers are kept; you may close this page, and your link brings you back here.";

let now = null; // what the server said last
let shown = null; // the item whose videos are on the page
let since = 0; // when the question could first be answered
let open = false; // whether a choice is taken
let paused = false;

function show(id) {
  for (const name of ["welcome", "task", "thanks"]) $(name).hidden = name !== id;
}

function notice(text) {
  $("notice").textContent = text || "";
  $("notice").hidden = !text;
}

// Sends until the server has it: an answer that comes twice counts once.
async function call(path, body) {
  const options = { cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  for (let tries = 0; ; tries++) {
    let refusal = null;
    const silence = new AbortController(); // older phones have no AbortSignal.timeout
    const timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      const response = await fetch(path, { ...options, signal: silence.signal });
      if (response.ok) {
        const said = await response.json();
        notice(paused ? PAUSED : "");
        return said;
      }
      if (response.status < 500) refusal = await response.text();
    } catch {
      // no connection, or one that fell silent: tried again below
    } finally {
      clearTimeout(timer);
    }
    if (refusal !== null) throw new Error(refusal);
    notice("No connection to the server. Trying again; please leave this page open.");
    await new Promise((wake) => setTimeout(wake, RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]));
  }
}

function setPaused(on) {
  paused = on;
  $("pause").textContent = on ? "Go on" : "Pause";
  $("pause").setAttribute("aria-pressed", String(on));
  notice(on ? PAUSED : "");
  if (on) SLOTS.forEach((slot) => $(slot).pause());
  else if (open) play();
  allow();
}

function allow() {
  for (const side of ["left", "right"]) $(`choose-${side}`).disabled = !open || paused;
}

function play() {
  if (paused || document.hidden) return;
  for (const slot of SLOTS) {
    $(slot).play().catch((error) => {
      if (error.name === "NotAllowedError") notice("Tap a video to play them."); // a phone that saves its battery
    });
  }
}

function restart() {
  for (const slot of ["left", ...IN_STEP]) $(slot).currentTime = 0;
  play();
}

function keepInStep() {
  const leader = $("left");
  if (open && !leader.paused && !leader.seeking) {
    for (const slot of IN_STEP) {
      const video = $(slot);
      if (!video.seeking && !video.ended && Math.abs(video.currentTime - leader.currentTime) > MOST_DRIFT) {
        video.currentTime = leader.currentTime;
      }
    }
  }
  requestAnimationFrame(keepInStep);
}

function loaded(video) {
  return new Promise((done, failed) => {
    let silence;
    const wait = () => {
      clearTimeout(silence);
      silence = setTimeout(() => failed(new Error("silence")), SILENCE_MS);
    };
    video.oncanplay = done;
    video.onloadedmetadata = () => setTimeout(done, PATIENCE_MS); // some phones load no more before they play
    video.onerror = () => failed(new Error("video"));
    video.onprogress = wait;
    wait();
  });
}

async function load(item) {
  shown = item;
  const ready = SLOTS.map((slot) => {
    const video = $(slot);
    video.src = `video/${item}/${slot}`;
    const wait = loaded(video);
    video.load();
    return wait;
  });
  await Promise.all(ready);
}

async function update(state) {
  now = state;
  if (!state.consented) return show("welcome");
  if (!state.next) {
    SLOTS.forEach((slot) => $(slot).pause());
    return show("thanks");
  }
  show("task");
  $("bar").max = state.total;
  $("bar").value = state.done;
  $("count").textContent = `${state.done + 1} of ${state.total}`;
  $("question").textContent = state.next.question;
  if (state.next.item !== shown) {
    try {
      await load(state.next.item);
    } catch {
      if (now !== state) return; // something newer is on the page by now
      shown = null;
      notice("A video could not be loaded. Trying again.");
      setTimeout(refresh, 3000);
      return;
    }
    if (now !== state) return;
    notice(paused ? PAUSED : "");
    restart();
  }
  await new Promise((wake) => setTimeout(wake, BREATH_MS));
  if (now !== state) return;
  since = performance.now();
  open = true;
  allow();
  if ($("left").paused) play(); // a pause may have begun and ended meanwhile
}

async function choose(choice) {
  if (!open || paused) return;
  open = false;
  allow();
  const { item, criterion } = now.next;
  const seconds = (performance.now() - since) / 1000;
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur(); // or space would choose again
  await attempt(() => call("answer", { item, criterion, choice, seconds }));
}

async function refresh() {
  open = false;
  allow();
  await attempt(() => call("state"));
}

async function attempt(request) {
  let state;
  try {
    state = await request();
  } catch (error) {
    notice(`This did not work: ${error.message} Please reload the page.`);
    return;
  }
  await update(state);
}

$("agree").addEventListener("click", () => attempt(() => call("consent", {})));
$("choose-left").addEventListener("click", () => choose("left"));
$("choose-right").addEventListener("click", () => choose("right"));
$("pause").addEventListener("click", () => setPaused(!paused));
$("left").addEventListener("ended", restart);
for (const slot of SLOTS) {
  $(slot).addEventListener("click", () => {
    notice(paused ? PAUSED : "");
    play();
  });
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) SLOTS.forEach((slot) => $(slot).pause());
  else if (open) play();
});
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || $("task").hidden) return;
  if (event.key === "ArrowLeft" || event.key === "1") choose("left");
  else if (event.key === "ArrowRight" || event.key === "2") choose("right");
  else if (event.key === " " && !event.target.closest("button, summary")) setPaused(!paused);
  else return;
  event.preventDefault();
});

requestAnimationFrame(keepInStep);
refresh();
