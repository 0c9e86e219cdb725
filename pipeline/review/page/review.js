// One reviewer's page: a clip plays, its captions follow, keys judge them. What is said goes to the
// server at once; what could not be sent waits and is tried again. All text is set as text.
"use strict";

const $ = (id) => document.getElementById(id);
const film = $("film");

const KEYS = [
  // key, what it does, words for the list of keys
  ["a", "accept", "the caption is true: on to the next one"],
  ["r", "reject", "it is not: on to the next one"],
  ["A", "acceptRest", "accept all captions of this clip that are not judged"],
  ["x", "clear", "take the label of this caption back"],
  ["u", "undo", "take back the last thing you did"],
  ["ArrowRight", "next", "next caption"],
  ["ArrowLeft", "previous", "previous caption"],
  ["Enter", "next", ""],
  ["j", "next", ""],
  ["k", "previous", ""],
  ["ArrowDown", "nextClip", "next clip"],
  ["ArrowUp", "previousClip", "previous clip"],
  ["n", "nextClip", ""],
  ["p", "previousClip", ""],
  ["g", "open", "next caption that is not judged"],
  [" ", "play", "play or pause"],
  ["l", "loop", "stay on the caption, or let the clip run on"],
  ["s", "slow", "half speed"],
  [",", "back", "one frame back"],
  [".", "forth", "one frame on"],
  ["v", "machine", "show what the machine thinks: verdict and scores"],
  ["?", "help", "these keys"],
];
const NAMES = { " ": "space", ArrowRight: "→", ArrowLeft: "←", ArrowDown: "↓", ArrowUp: "↑", A: "shift a" };

let clips = []; // as the server gave them
let kinds = []; // [name, words]
const labels = new Map(); // caption id -> {label, kinds}
let at = { clip: 0, segment: 0 };
let looping = true;
let shown = false; // what the machine thinks
const done = []; // what can be undone: {changes: [[clip, segment, before]], at}
const unsent = []; // statements that the server has not stored yet
let sending = false;

const here = () => clips[at.clip];
const caption = () => here().segments[at.segment];
const idOf = (segment) => `${segment.id} ${segment.binding}`;
const labelOf = (segment) => labels.get(idOf(segment)) || { label: "none", kinds: [] };

// -- sending ------------------------------------------------------------------------------------

async function send() {
  if (sending) return;
  sending = true;
  let most = 500;
  while (unsent.length) {
    $("saved").textContent = `saving ${unsent.length}`;
    $("saved").className = "busy";
    const batch = unsent.slice(0, most);
    try {
      const answer = await fetch("labels", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ labels: batch }),
      });
      if (!answer.ok) throw new Refusal(answer.status, (await answer.json()).error);
      unsent.splice(0, batch.length);
      trouble("");
    } catch (error) {
      if (error instanceof Refusal && error.status !== 500 && batch.length > 1) {
        most = 1; // all or none are taken: find the one that is not
      } else if (error instanceof Refusal && error.status !== 500) {
        unsent.shift(); // it will not be taken the next time either
        trouble(`Not stored: ${error.message}. Reload the page.`);
      } else {
        trouble(`Not stored yet (${error.message}): ${unsent.length} labels wait here. Is tv2tv review still running?`);
        await new Promise((go) => setTimeout(go, 1000));
      }
    }
  }
  sending = false;
  $("saved").textContent = "saved ✓";
  $("saved").className = "";
}

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

function state(segment, label) {
  if (label.label === "none") labels.delete(idOf(segment));
  else labels.set(idOf(segment), label);
  unsent.push({ segment: segment.id, binding: segment.binding, ...label });
}

/** Judge captions of this clip, in a way that can be undone. */
function judge(changes) {
  const before = changes.map(([segment]) => [segment, labelOf(segment)]);
  done.push({ before, at: { ...at } });
  for (const [segment, label] of changes) state(segment, label);
  send();
  draw();
}

// -- moving -------------------------------------------------------------------------------------

function go(clip, segment) {
  const other = clip !== at.clip || !film.src;
  at = { clip, segment };
  if (other) load();
  else seek(caption().from);
  draw();
}

function load() {
  const clip = here();
  film.src = `clips/${clip.clip_id}.mp4`;
  film.classList.toggle("pixels", Math.min(clip.width, clip.height) < 128);
  $("nofilm").hidden = true;
  film.addEventListener("loadedmetadata", () => seek(caption().from), { once: true });
  play();
  const next = clips[at.clip + 1];
  if (next) fetch(`clips/${next.clip_id}.mp4`, { headers: { Range: "bytes=0-0" } }).catch(() => {}); // made ready
}

function seek(seconds) {
  film.currentTime = seconds + 0.001;
}

function play() {
  film.playbackRate = $("slow").ariaPressed === "true" ? 0.5 : 1;
  film.play().catch(() => {});
}

/** The nearest caption with text in a direction, over the ends of clips; null where there is none. */
function along(step, wanted = () => true) {
  let { clip, segment } = at;
  for (;;) {
    segment += step;
    if (segment < 0 || segment >= clips[clip].segments.length) {
      clip += step;
      if (clip < 0 || clip >= clips.length) return null;
      segment = step > 0 ? -1 : clips[clip].segments.length;
    } else if (clips[clip].segments[segment].text && wanted(clips[clip].segments[segment])) {
      return [clip, segment];
    }
  }
}

const first = (clip) => Math.max(0, clips[clip].segments.findIndex((one) => one.text));
const isOpen = (segment) => labelOf(segment).label === "none";

function move(found) {
  if (found) go(...found);
}

// -- what keys and buttons do ---------------------------------------------------------------------

const DO = {
  accept: () => decide({ label: "accept", kinds: [] }),
  reject: () => decide({ label: "reject", kinds: labelOf(caption()).kinds }),
  acceptRest() {
    const rest = here().segments.filter((one) => one.text && isOpen(one));
    if (rest.length) judge(rest.map((one) => [one, { label: "accept", kinds: [] }]));
  },
  clear: () => isOpen(caption()) || judge([[caption(), { label: "none", kinds: [] }]]),
  undo() {
    const last = done.pop();
    if (!last) return;
    for (const [segment, label] of last.before) state(segment, label);
    send();
    go(last.at.clip, last.at.segment);
  },
  next: () => move(along(1)),
  previous: () => move(along(-1)),
  nextClip: () => at.clip + 1 < clips.length && go(at.clip + 1, first(at.clip + 1)),
  previousClip: () => at.clip > 0 && go(at.clip - 1, first(at.clip - 1)),
  open() {
    move(along(1, isOpen) || firstOpen());
  },
  play: () => (film.paused ? play() : film.pause()),
  loop() {
    looping = !looping;
    draw();
  },
  slow() {
    $("slow").ariaPressed = String($("slow").ariaPressed !== "true");
    film.playbackRate = $("slow").ariaPressed === "true" ? 0.5 : 1;
  },
  back: () => frame(-1),
  forth: () => frame(1),
  machine() {
    shown = !shown;
    draw();
  },
  help: () => $("help").showModal(),
};

function decide(label) {
  if (!caption().text) return;
  judge([[caption(), label]]);
  move(along(1));
}

function toggle(kind) {
  if (!caption().text) return;
  const had = labelOf(caption()).kinds;
  const now = had.includes(kind) ? had.filter((one) => one !== kind) : [...had, kind];
  judge([[caption(), { label: "reject", kinds: now }]]);
}

function frame(step) {
  film.pause();
  film.currentTime = Math.max(0, film.currentTime + step / here().fps);
}

function firstOpen() {
  for (let clip = 0; clip < clips.length; clip++) {
    const segment = clips[clip].segments.findIndex((one) => one.text && isOpen(one));
    if (segment >= 0) return [clip, segment];
  }
  return null;
}

// -- showing --------------------------------------------------------------------------------------

function make(tag, text, name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = name;
  return made;
}

function classes(segment, index) {
  const label = labelOf(segment).label;
  const silent = segment.text ? "" : "silent";
  return [label === "none" ? "" : label, silent, index === at.segment ? "here" : ""].join(" ");
}

function draw() {
  const clip = here();
  const words = (one) => one.text || "(no caption)";
  $("timeline").replaceChildren(
    $("head"),
    ...clip.segments.map((one, index) => {
      const made = make("button", words(one), classes(one, index));
      made.type = "button";
      made.tabIndex = -1;
      made.style.left = `${(100 * one.from) / clip.seconds}%`;
      made.style.width = `${(100 * (one.to - one.from)) / clip.seconds}%`;
      made.title = `${time(one)}: ${words(one)}`;
      made.addEventListener("click", () => go(at.clip, index));
      return made;
    }),
  );
  $("list").replaceChildren(
    ...clip.segments.map((one, index) => {
      const made = make("li", "", classes(one, index));
      const label = labelOf(one);
      const facts = make("small", "");
      facts.append(make("span", time(one)), make("span", mark(label)));
      made.append(facts, make("span", words(one)));
      made.addEventListener("click", () => go(at.clip, index));
      return made;
    }),
  );
  reveal($("list"), $("list").children[at.segment]);
  $("title").textContent = `Clip ${at.clip + 1} of ${clips.length}`;
  $("title").title = `${clip.title} from ${clip.start.toFixed(2)} s`;
  $("meta").textContent = clip.meta;
  const label = labelOf(caption());
  $("caption").textContent = words(caption());
  $("caption").className = label.label;
  $("accept").ariaPressed = String(label.label === "accept");
  $("reject").ariaPressed = String(label.label === "reject");
  for (const button of $("kinds").children) {
    button.ariaPressed = String(label.kinds.includes(button.dataset.kind));
  }
  $("loop").ariaPressed = String(looping);
  $("machine").hidden = !shown;
  $("machine").textContent = thoughts(caption());
  const all = clips.flatMap((one) => one.segments).filter((one) => one.text);
  const judged = all.filter((one) => !isOpen(one)).length;
  $("count").textContent = `${judged} of ${all.length} captions`;
  $("progress").ariaValueNow = String(judged);
  $("progress").ariaValueMax = String(all.length);
  $("progress").firstElementChild.style.width = `${(100 * judged) / all.length}%`;
  document.body.dataset.at = `${at.clip}/${at.segment}`;
}

/** Scroll the list and nothing around it: in a narrow window the film stays where it is. */
function reveal(list, item) {
  const top = item.offsetTop - list.offsetTop;
  const bottom = top + item.offsetHeight - list.clientHeight;
  list.scrollTop = Math.min(top, Math.max(bottom, list.scrollTop));
}

const time = (one) => `${one.seconds[0].toFixed(2)}–${one.seconds[1].toFixed(2)} s`;

function mark(label) {
  if (label.label === "accept") return "✓";
  const named = kinds.filter(([name]) => label.kinds.includes(name)).map(([, words]) => words);
  return label.label === "reject" ? `✗ ${named.join(", ")}` : "";
}

function thoughts(one) {
  const scores = Object.entries(one.scores).map(([name, value]) => `${name} ${Number(value.toPrecision(3))}`);
  return [`verdict: ${one.verdict}`, ...scores].join(" · ");
}

/** The line on the timeline follows the clip; the clip stays on its caption, or the other way. */
function follow() {
  const clip = here();
  $("head").style.left = `${Math.min(100, (100 * film.currentTime) / clip.seconds)}%`;
  $("time").textContent = `${film.currentTime.toFixed(2)} of ${clip.seconds.toFixed(2)} s`;
  $("playing").textContent = film.paused ? "play" : "pause";
  const now = film.currentTime;
  if (looping && !film.paused && (now >= caption().to - 0.01 || now < caption().from - 0.1)) {
    seek(caption().from);
  }
  if (!looping && !film.seeking) {
    const under = clip.segments.findIndex((one) => now >= one.from && now < one.to);
    if (under >= 0 && under !== at.segment) {
      at.segment = under;
      draw();
    }
  }
  requestAnimationFrame(follow);
}

film.addEventListener("ended", () => {
  if (looping) seek(caption().from);
  else film.currentTime = 0;
  play();
});
film.addEventListener("error", async () => {
  const answer = await fetch(film.src).catch(() => null);
  const why = answer && !answer.ok ? (await answer.json()).error : "this browser cannot play it";
  $("nofilm").textContent = `No film: ${why}`;
  $("nofilm").hidden = false;
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !clips.length) return;
  if ($("help").open) {
    if (event.key === "?") $("help").close();
    return;
  }
  const number = Number(event.key);
  const found = KEYS.find(([key]) => key === event.key);
  if (number >= 1 && number <= kinds.length) toggle(kinds[number - 1][0]);
  else if (found) DO[found[1]]();
  else return;
  event.preventDefault();
});
document.addEventListener("click", (event) => {
  const name = event.target.closest("[data-do]")?.dataset.do;
  if (!name || !clips.length) return;
  DO[name]();
  event.target.closest("[data-do]").blur(); // so that space stays play
});
window.addEventListener("beforeunload", (event) => {
  if (unsent.length) event.preventDefault();
});

async function start() {
  const answer = await fetch("session");
  if (!answer.ok) throw new Error((await answer.json()).error);
  const session = await answer.json();
  clips = session.clips;
  kinds = Object.entries(session.kinds);
  for (const { segment, binding, label, kinds: of } of session.labels) {
    labels.set(`${segment} ${binding}`, { label, kinds: of });
  }
  $("who").textContent = session.reviewer;
  $("kinds").replaceChildren(
    ...kinds.map(([name, words], index) => {
      const button = make("button", "");
      button.type = "button";
      button.dataset.kind = name;
      button.append(make("kbd", String(index + 1)), ` ${words}`);
      button.addEventListener("click", () => {
        toggle(name);
        button.blur();
      });
      return button;
    }),
  );
  const listed = [...KEYS.slice(0, 2), [`1 – ${kinds.length}`, "", "reject, and say what is wrong"], ...KEYS.slice(2)];
  for (const [key, , words] of listed.filter(([, , words]) => words)) {
    const term = make("dt", "");
    term.append(make("kbd", NAMES[key] || key));
    $("keys").append(term, make("dd", words));
  }
  document.querySelector("main").hidden = false;
  go(...(firstOpen() || [0, first(0)]));
  requestAnimationFrame(follow);
  $("saved").textContent = labels.size ? "welcome back" : "ready";
}

start().catch((error) => trouble(`The page could not begin: ${error.message}. Start tv2tv review anew.`));
