// Sends the order that kills its worker again until it is answered, each time with the same key.
"use strict";

const crash = document.getElementById("crash");
const crashed = document.getElementById("crashed");

crash.addEventListener("submit", async (event) => {
  event.preventDefault();
  crash.querySelector("button").disabled = true;
  const answer = await sendUntilAnswered(new URLSearchParams(new FormData(crash)));
  const number = answer.url.split("/").pop();
  crashed.textContent = answer.ok
    ? `Order no. ${number} is placed, once. Its answer came with try no. ${answer.tries}.`
    : `The shop answered with ${answer.status}.`;
  crash.elements.__idempotent_key.value = newKey();
  crash.querySelector("button").disabled = false;
});

async function sendUntilAnswered(body) {
  for (let tries = 1; ; tries++) {
    crashed.textContent = `Try no. ${tries} is sent.`;
    try {
      const { ok, status, url } = await fetch(crash.action, { method: "POST", body });
      if (status !== 503) return { ok, status, url, tries };
    } catch {
      crashed.textContent = `Try no. ${tries} broke off: the order may be placed, or not.`;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
