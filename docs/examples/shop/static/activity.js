// Keeps the counters, and the list where the page has one, up to date. The server renders both,
// so a page without this script is right too, only later.
"use strict";

const list = document.getElementById("events");
const state = document.getElementById("state");
let newest;

async function look() {
  let pause = 500;
  try {
    if (!document.hidden) {
      const answer = await fetch(document.body.dataset.feed);
      show(await answer.json());
    }
  } catch {
    say("The shop does not answer. Looking again every two seconds.");
    pause = 2000;
  }
  setTimeout(look, pause);
}

function show({ counts, events }) {
  say("");
  for (const [name, value] of Object.entries(counts)) showCount(name, value);
  if (list && events[0]?.id !== newest) showEvents(events);
}

function showCount(name, value) {
  for (const place of document.querySelectorAll(`[data-count="${name}"]`)) {
    // A live region is read aloud at every change, even to the same text.
    if (place.textContent !== String(value)) {
      place.textContent = value;
      place.animate?.([{ scale: 1.25 }, { scale: 1 }], { duration: calm() ? 0 : 300 });
    }
  }
}

function showEvents(events) {
  const seen = newest ?? events[0]?.id;
  list.replaceChildren(...events.map((event) => line(event, event.id > seen)));
  newest = events[0]?.id;
}

function line(event, isNew) {
  const item = document.getElementById("event").content.firstElementChild.cloneNode(true);
  item.className = `event ${event.kind}${isNew ? " new" : ""}`;
  for (const name of ["at", "text", "key"]) {
    item.querySelector(`.${name}`).textContent = event[name] ?? "";
  }
  item.querySelector(".key").hidden = !event.key;
  return item;
}

function say(text) {
  if (state && state.textContent !== text) state.textContent = text;
}

function calm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

look();
